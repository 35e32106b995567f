/**
 * The webhook secrets that are valid now.
 *
 * **Details**
 *
 * A file that can't be read keeps its last value. Only a file that is gone withdraws its secret. A secret is taken byte
 * for byte, except for one newline at the end of a file. Bytes that are rarely meant to be a part of it get a warning:
 * GitHub signs without them, and every delivery would be refused.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { createSecretKey, type KeyObject } from "node:crypto"
import { Log } from "../observability/logs/Logging.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Series.ts"
import * as FollowedFiles from "../runtime/FollowedFiles.ts"
import { Settings } from "../settings/Settings.ts"
import { definitions } from "../settings/Table.ts"

export class WebhookSecrets extends Context.Service<WebhookSecrets, {
  /** An immutable snapshot, each secret once. If it is empty, nothing can be verified. */
  readonly current: () => ReadonlyArray<KeyObject>
  /** When the secrets last changed, in Unix milliseconds. */
  readonly changedAt: () => number
}>()("sprayproxy/webhook/Secrets/WebhookSecrets") {
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

      const take = (readings: ReadonlyArray<FollowedFiles.Reading>) => {
        files.forEach((file, index) => update(log, file, secretOf(readings[index]!)))
        const keys = files.flatMap((file) => file.key ?? [])
        // If there is a file, the variable does not count: it would keep a secret valid that was rotated out.
        const next = keys.length === 0 ? fallback : Object.freeze(distinct(keys))
        if (!sameKeys(next, current)) changedAt = clock.currentTimeMillisUnsafe()
        current = next
      }
      if (files.length > 0) {
        const paths = files.map(({ path }) => path)
        take(yield* FollowedFiles.follow(paths, { mostBytes: 64 * 1024, changed: take }))
      }
      const [variable] = current === fallback ? fallback : []
      const oddity = variable === undefined ? undefined : oddityOf(variable.export())
      if (oddity !== undefined) log.write("warn", `${definitions.webhookSecret.variable} ${oddity}`)
      if (!settings.insecureSkipWebhookVerify) {
        yield* observableGauge(Names.webhookSecrets, () => current.length)
        yield* observableGauge(Names.webhookSecretsChanged, () => changedAt / 1_000)
      }
      return WebhookSecrets.of({ current: () => current, changedAt: () => changedAt })
    })
  )
}

interface SecretFile {
  readonly path: string
  key: KeyObject | undefined
  /** The result of the last reading, so that only changes are logged. For an unreadable file, the reason. */
  state: string
}

type Reading =
  | { readonly kind: "secret"; readonly key: KeyObject }
  | Exclude<FollowedFiles.Reading, { kind: "content" }>

const update = (log: Log["Service"], file: SecretFile, reading: Reading): void => {
  const { key, path, state } = file
  switch (reading.kind) {
    case "secret": {
      const changed = key === undefined || !key.equals(reading.key)
      if (changed) file.key = reading.key
      if (changed || state !== "read") {
        log.write("info", changed && key !== undefined ? "webhook secret changed" : "webhook secret loaded", { path })
        const oddity = oddityOf(reading.key.export())
        if (oddity !== undefined) log.write("warn", `the file of a webhook secret ${oddity}`, { path })
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

const secretOf = (reading: FollowedFiles.Reading): Reading => {
  if (reading.kind !== "content") return reading
  const [key] = secretKeys(withoutNewline(reading.bytes))
  return key === undefined ? { kind: "unreadable", reason: "empty" } : { kind: "secret", key }
}

/** Editors and `echo` end a file with a newline that is no part of the secret. */
const withoutNewline = (content: Uint8Array): Uint8Array => {
  if (content.at(-1) !== 0x0a) return content
  return content.subarray(0, content.at(-2) === 0x0d ? -2 : -1)
}

/** Empty for an empty secret: with an empty key anybody could sign. */
const secretKeys = (secret: Uint8Array): ReadonlyArray<KeyObject> =>
  secret.length === 0 ? [] : [createSecretKey(secret)]

const distinct = (keys: ReadonlyArray<KeyObject>): Array<KeyObject> =>
  keys.filter((key, index) => keys.findIndex((other) => other.equals(key)) === index)

const sameKeys = (some: ReadonlyArray<KeyObject>, others: ReadonlyArray<KeyObject>): boolean =>
  some.length === others.length && some.every((key, index) => key.equals(others[index]!))

const oddities: ReadonlyArray<readonly [form: RegExp, words: string]> = [
  // The marks of UTF-8, and of UTF-16, which PowerShell writes.
  [/^(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)/, "begins with a byte order mark"],
  [/^(?:[\t-\r ]|\xc2\xa0)/, "begins with white space"],
  [/(?:[\t-\r ]|\xc2\xa0)$/, "ends in white space (a newline?)"],
  [/[\r\n]/, "has more than one line, and is one secret all the same"],
  [/^(["']).*\1$/s, "is in quotes, which are a part of it"],
  [/^\$(?:\(\w+\)|\{\w+\})$/, "is the name of something that was to be put in its place"]
]

/**
 * Says what in a secret is rarely meant, in words that follow the name of its place. They tell nothing of the secret
 * itself.
 */
const oddityOf = (secret: Buffer): string | undefined => {
  const text = secret.toString("latin1")
  const words = oddities.find(([form]) => form.test(text))?.[1]
  return words === undefined ? undefined : `${words}: unless GitHub's is the same, every delivery is refused`
}
