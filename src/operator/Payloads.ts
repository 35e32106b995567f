/**
 * Writes the answer of `GET /deliveries/{guid}?body=true` while it is read from the store.
 *
 * **Details**
 *
 * One payload is in memory at a time, and only a slice of its JSON: the whole JSON would take up three payloads more.
 * Each payload is charged to the memory budget while it is here.
 *
 * **Gotchas**
 *
 * The status goes out before the payloads are read. If one can't be read, the answer is cut off.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import type { ShownDelivery } from "./Answers.ts"

interface Loaded {
  readonly delivery: ShownDelivery
  /** Undefined if it is no longer kept. */
  readonly payload: Buffer | undefined
}

/** `load` loads one delivery, which is here until the scope is closed. */
export const withPayloads = <A, E>(
  deliveries: ReadonlyArray<A>,
  load: (delivery: A) => Effect.Effect<Loaded, E, Scope.Scope>
): Stream.Stream<Uint8Array, E> => {
  const parts = deliveries.map((delivery, index) =>
    Stream.unwrap(Effect.map(load(delivery), (loaded) =>
      // One slice for each pull.
      Stream.fromIterable(written(index === 0 ? "" : ",", loaded), { chunkSize: 1 })))
  )
  return [...parts, Stream.make(utf8("]}"))].reduce<Stream.Stream<Uint8Array, E>>(
    (before, part) => Stream.concat(before, part),
    Stream.make(utf8(`{"deliveries":[`))
  )
}

/** A delivery as JSON, with its payload as two members more. */
function* written(before: string, { delivery, payload }: Loaded): Iterable<Uint8Array> {
  const json = JSON.stringify(delivery)
  if (payload === undefined) return yield utf8(before + json)
  const encoding = isUtf8(payload) ? "utf8" : "base64"
  yield utf8(`${before}${json.slice(0, -1)},"bodyEncoding":"${encoding}","body":"`)
  yield* encoding === "utf8" ? asText(payload) : asBase64(payload)
  yield utf8(`"}`)
}

/** Divisible by three, so that slices in base64 follow each other without padding. */
const sliceBytes = 3 * 16 * 1024

function* asText(payload: Buffer): Iterable<Uint8Array> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  for (let at = 0; at < payload.length; at += sliceBytes) {
    // A slice may cut a character in two. The decoder keeps its first half.
    const text = decoder.decode(payload.subarray(at, at + sliceBytes), { stream: true })
    yield utf8(JSON.stringify(text).slice(1, -1))
  }
}

function* asBase64(payload: Buffer): Iterable<Uint8Array> {
  for (let at = 0; at < payload.length; at += sliceBytes) {
    yield utf8(payload.subarray(at, at + sliceBytes).toString("base64"))
  }
}

const utf8 = (text: string): Uint8Array => Buffer.from(text, "utf8")
