/**
 * Files whose content may change while the process runs: secrets, certificates.
 *
 * **Details**
 *
 * Their content is compared at intervals. A watch on the file would miss changes, because kubelet and cert-manager swap
 * the symlink `..data` instead of writing to the file.
 *
 * The files of one mount are swapped together, so a change is taken only when two looks in a row agree. A single look
 * can see one file from before the swap and the other from after it, or no file in a directory that kubelet is
 * removing.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import { contained } from "./Contained.ts"

/** The result of one look at a file. */
export type Reading =
  | { readonly kind: "content"; readonly bytes: Uint8Array }
  | { readonly kind: "gone" }
  | { readonly kind: "unreadable"; readonly reason: string }

/**
 * Reads the files, and returns their readings in the order of `paths`. From then on until the scope ends, `changed`
 * gets the readings of all files whenever one of them differs from before. A change takes effect within five seconds. A
 * failure is logged and ends only its round.
 */
export const follow = Effect.fnUntraced(function*(
  paths: ReadonlyArray<string>,
  options: { readonly mostBytes: number; readonly changed: (readings: ReadonlyArray<Reading>) => void }
): Effect.fn.Return<ReadonlyArray<Reading>, never, FileSystem.FileSystem | Scope.Scope> {
  const look = Effect.forEach(paths, (path) => read(path, options.mostBytes), { concurrency: "unbounded" })
  let known = yield* settled(look, [])
  const first = known
  const round = Effect.map(Effect.suspend(() => settled(look, known)), (readings) => {
    if (same(readings, known)) return
    known = readings
    options.changed(readings)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.delay(contained(round), interval)))
  return first
})

const interval = "2 seconds"

const mostLooks = 5

const settled = Effect.fnUntraced(function*<R>(
  look: Effect.Effect<ReadonlyArray<Reading>, never, R>,
  known: ReadonlyArray<Reading>
) {
  let readings = yield* look
  for (let looks = 1; !same(readings, known) && looks < mostLooks; looks++) {
    const before = readings
    readings = yield* look
    if (same(readings, before)) break
  }
  return readings
})

const same = (some: ReadonlyArray<Reading>, others: ReadonlyArray<Reading>): boolean =>
  some.length === others.length && some.every((one, index) => {
    const other = others[index]!
    if (one.kind === "content" && other.kind === "content") return Buffer.compare(one.bytes, other.bytes) === 0
    if (one.kind === "unreadable" && other.kind === "unreadable") return one.reason === other.reason
    return one.kind === other.kind
  })

const read = Effect.fnUntraced(
  function*(path: string, mostBytes: number) {
    const fs = yield* FileSystem.FileSystem
    const { size, type } = yield* fs.stat(path)
    // Opening a FIFO would wait for its writer, and block one of the few threads that file reads and DNS share.
    if (type !== "File") return unreadable(`not a file: ${type}`)
    if (ByteSize.toBigInt(size) > mostBytes) return unreadable(`larger than ${mostBytes / 1024} KiB`)
    return { kind: "content", bytes: yield* fs.readFile(path) } satisfies Reading as Reading
  },
  Effect.catch((error) => Effect.succeed(failed(error)))
)

const unreadable = (reason: string): Reading => ({ kind: "unreadable", reason })

const failed = (error: PlatformError): Reading => {
  const code = Predicate.hasProperty(error.cause, "code") ? String(error.cause.code) : error.message
  const gone = Predicate.isTagged(error.reason, "NotFound") || code === "ENOTDIR"
  return gone ? { kind: "gone" } : unreadable(code)
}
