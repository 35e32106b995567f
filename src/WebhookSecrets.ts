/**
 * The webhook secrets that are valid now.
 *
 * Files are followed by content: kubelet rotates a mounted secret by swapping the symlink `..data`, of which a watch on
 * the file itself never hears. What can't be read keeps its last value; only a file that is gone withdraws its secret.
 */
import * as ByteSize from "effect/ByteSize"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import { createSecretKey, type KeyObject } from "node:crypto"
import { Log } from "./Logging.ts"
import { Settings } from "./Settings.ts"

export class WebhookSecrets extends Context.Service<WebhookSecrets, {
  /** An immutable snapshot, each secret once. Empty when there is none: nothing can be verified. */
  readonly current: () => ReadonlyArray<KeyObject>
  /** When they last changed, Unix milliseconds. */
  readonly changedAt: () => number
}>()("sprayproxy/WebhookSecrets") {
  /** Ready when every file has been read once. */
  static readonly layer: Layer.Layer<WebhookSecrets, never, Settings | Log | FileSystem.FileSystem> = Layer.effect(
    WebhookSecrets,
    Effect.gen(function*() {
      const settings = yield* Settings
      const log = yield* Log
      const clock = yield* Clock.Clock
      const files = Array.from(
        new Set(settings.webhookSecretFiles),
        (path): SecretFile => ({ path, key: undefined, state: "unread" })
      )
      const fallback = Object.freeze(Option.match(settings.webhookSecret, {
        onNone: () => [],
        onSome: (secret) => secretKeys(Buffer.from(Redacted.value(secret)))
      }))
      let current = fallback
      let changedAt = clock.currentTimeMillisUnsafe()

      let known: ReadonlyArray<Reading> = []
      const readAll = Effect.forEach(files, (file) => readSecret(file.path), { concurrency: "unbounded" })

      const poll = Effect.gen(function*() {
        let readings = yield* readAll
        // The files of a mounted secret are swapped together. What has changed is taken when two looks agree: one look can
        // see one file before the swap and the other after it, or none in the directory that kubelet is removing, and would
        // withdraw a secret that both revisions list.
        for (let looks = 1; !same(readings, known) && looks < mostLooks; looks++) {
          const before = readings
          readings = yield* readAll
          if (same(readings, before)) break
        }
        known = readings
        files.forEach((file, index) => update(log, file, readings[index]!))
        const keys = files.flatMap((file) => file.key ?? [])
        // Beside a file the variable would keep a secret valid that was rotated out.
        const next = keys.length === 0 ? fallback : Object.freeze(distinct(keys))
        if (!sameKeys(next, current)) changedAt = clock.currentTimeMillisUnsafe()
        current = next
      })
      if (files.length > 0) {
        yield* poll
        yield* poll.pipe(
          Effect.catchDefect((defect) => Effect.logError("following the webhook secrets failed", defect)),
          Effect.delay("2 seconds"),
          Effect.forever,
          Effect.forkScoped
        )
      }
      return WebhookSecrets.of({ current: () => current, changedAt: () => changedAt })
    })
  )
}

const MAX_FILE_BYTES = 64 * 1024

interface SecretFile {
  readonly path: string
  key: KeyObject | undefined
  /** What the last reading came to, so that only changes are logged; otherwise why it is unreadable. */
  state: string
}

type Reading =
  | { readonly kind: "secret"; readonly key: KeyObject }
  | { readonly kind: "gone" }
  | { readonly kind: "unreadable"; readonly reason: string }

const mostLooks = 5

const same = (some: ReadonlyArray<Reading>, others: ReadonlyArray<Reading>): boolean =>
  some.length === others.length && some.every((one, index) => {
    const other = others[index]!
    if (one.kind === "secret" && other.kind === "secret") return one.key.equals(other.key)
    if (one.kind === "unreadable" && other.kind === "unreadable") return one.reason === other.reason
    return one.kind === other.kind
  })

const update = (log: Log["Service"], file: SecretFile, reading: Reading): void => {
  const { key, path, state } = file
  switch (reading.kind) {
    case "secret": {
      const changed = key === undefined || !key.equals(reading.key)
      if (changed) file.key = reading.key
      if (changed || state !== "read") {
        log.write("info", changed && key !== undefined ? "webhook secret changed" : "webhook secret loaded", { path })
      }
      file.state = "read"
      return
    }
    case "gone": {
      if (state !== "gone") {
        log.write("warn", key === undefined ? "webhook secret file not found" : "webhook secret withdrawn", { path })
      }
      file.key = undefined
      file.state = "gone"
      return
    }
    case "unreadable": {
      if (state !== reading.reason) {
        log.write("warn", "webhook secret file unreadable, keeping the last value", { path, error: reading.reason })
      }
      file.state = reading.reason
    }
  }
}

const readSecret = Effect.fnUntraced(
  function*(path: string) {
    const fs = yield* FileSystem.FileSystem
    const { size, type } = yield* fs.stat(path)
    // Opening a FIFO would wait for its writer, in one of the four threads that file reads and DNS share.
    if (type !== "File") return unreadable(`not a file: ${type}`)
    if (ByteSize.toBigInt(size) > MAX_FILE_BYTES) return unreadable("larger than 64 KiB")
    return secretOf(yield* fs.readFile(path))
  },
  Effect.catch((error) => Effect.succeed(failed(error)))
)

const unreadable = (reason: string): Reading => ({ kind: "unreadable", reason })

const failed = (error: PlatformError): Reading => {
  const code = Predicate.hasProperty(error.cause, "code") ? String(error.cause.code) : error.message
  const gone = Predicate.isTagged(error.reason, "NotFound") || code === "ENOTDIR"
  return gone ? { kind: "gone" } : unreadable(code)
}

const secretOf = (content: Uint8Array): Reading => {
  const [key] = secretKeys(withoutNewline(content))
  return key === undefined ? unreadable("empty") : { kind: "secret", key }
}

/** Editors and `echo` end a file in a newline that is no part of the secret. */
const withoutNewline = (content: Uint8Array): Uint8Array => {
  if (content.at(-1) !== 0x0a) return content
  return content.subarray(0, content.at(-2) === 0x0d ? -2 : -1)
}

/** None for an empty secret: with an empty key anybody could sign. */
const secretKeys = (secret: Uint8Array): ReadonlyArray<KeyObject> =>
  secret.length === 0 ? [] : [createSecretKey(secret)]

const distinct = (keys: ReadonlyArray<KeyObject>): Array<KeyObject> =>
  keys.filter((key, index) => keys.findIndex((other) => other.equals(key)) === index)

const sameKeys = (some: ReadonlyArray<KeyObject>, others: ReadonlyArray<KeyObject>): boolean =>
  some.length === others.length && some.every((key, index) => key.equals(others[index]!))
