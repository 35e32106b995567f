import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PlatformError from "effect/PlatformError"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { createSecretKey } from "node:crypto"
import { symlinkSync } from "node:fs"
import type { LogEntry } from "../../src/domain/LogEntry.ts"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { WebhookSecrets } from "../../src/webhook/Secrets.ts"
import { scrape, withFreshMetrics } from "../support/Scrape.ts"

/** The service over files in a real directory, a poll at a time. */
const start = Effect.fnUntraced(function*(options: {
  readonly files: ReadonlyArray<string>
  readonly variable?: string
  readonly fileSystem?: FileSystem.FileSystem
  readonly skipsVerification?: boolean
}) {
  const asleep = yield* Queue.unbounded<void>()
  const clock = yield* Clock.Clock
  // File reads end in real time: a poll is over when its fiber asks the clock to wait for the next.
  const observed: Clock.Clock = {
    ...clock,
    sleep: (duration) => Effect.andThen(Queue.offer(asleep, undefined), clock.sleep(duration))
  }
  const settings = Settings.layerFrom({
    webhookSecretFiles: options.files,
    insecureSkipWebhookVerify: options.skipsVerification ?? false,
    webhookSecret: Option.map(Option.fromUndefinedOr(options.variable), (secret) => Redacted.make(secret))
  })
  const fs = options.fileSystem ?? (yield* FileSystem.FileSystem)
  const context = yield* Layer.build(
    WebhookSecrets.layer.pipe(Layer.provideMerge(UnexpectedFailures.layer), Layer.provideMerge(Log.layerTest))
  ).pipe(
    Effect.provide(settings),
    Effect.provideService(FileSystem.FileSystem, fs),
    Effect.provideService(Clock.Clock, observed)
  )
  const secrets = yield* Effect.provide(WebhookSecrets, context)
  const { entries } = yield* Effect.provide(LogEntries, context)
  if (options.files.length > 0) yield* Queue.take(asleep)
  let seen = 0
  return {
    secrets,
    entries,
    /** The current secrets as text. */
    current: () => secrets.current().map((key) => key.export().toString()),
    poll: Effect.andThen(TestClock.adjust("2 seconds"), Queue.take(asleep)),
    /** The log messages since the last call. */
    news: () => {
      const messages = entries.slice(seen).map(({ message }) => message)
      seen = entries.length
      return messages
    }
  }
})

const LOADED = "webhook secret loaded"
const CHANGED = "webhook secret changed"
const WITHDRAWN = "webhook secret withdrawn"
const UNREADABLE = "webhook secret file unreadable, keeping the last value"
const NOT_FOUND = "webhook secret file not found"

const directory = Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())

const write = (path: string, content: string | Uint8Array) =>
  Effect.flatMap(
    FileSystem.FileSystem,
    (fs) => fs.writeFile(path, typeof content === "string" ? Buffer.from(content) : content)
  )

/** Does what kubelet does: it makes a new directory, swaps `..data` atomically, and removes the old directory. */
const kubelet = Effect.fnUntraced(function*(mount: string, version: string, secrets: Readonly<Record<string, string>>) {
  const fs = yield* FileSystem.FileSystem
  const before = yield* Effect.option(fs.readLink(`${mount}/..data`))
  yield* fs.makeDirectory(`${mount}/..${version}`)
  for (const [name, secret] of Object.entries(secrets)) yield* write(`${mount}/..${version}/${name}`, secret)
  yield* fs.symlink(`..${version}`, `${mount}/..data_tmp`)
  yield* fs.rename(`${mount}/..data_tmp`, `${mount}/..data`)
  for (const name of Object.keys(secrets)) {
    if (!(yield* fs.exists(`${mount}/${name}`))) symlinkSync(`..data/${name}`, `${mount}/${name}`)
  }
  if (Option.isSome(before)) yield* fs.remove(`${mount}/${before.value}`, { recursive: true })
})

const assertSilent = (entries: ReadonlyArray<LogEntry>, ...secrets: ReadonlyArray<string>) => {
  for (const secret of secrets) assert.notInclude(JSON.stringify(entries), secret)
}

layer(NodeFileSystem.layer)("WebhookSecrets", (it) => {
  it.effect("has read the files before it is ready", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      const { current, entries } = yield* start({ files: [path] })
      assert.deepStrictEqual(current(), ["s3cret"])
      assert.deepStrictEqual(entries, [{ level: "info", message: LOADED, fields: { path } }])
    }))

  it.effect("follows kubelet's symlink swap within one poll, and says so once", () =>
    Effect.gen(function*() {
      const mount = yield* directory
      yield* kubelet(mount, "2026_1", { secret: "old-one" })
      const { current, entries, news, poll } = yield* start({ files: [`${mount}/secret`] })
      assert.deepStrictEqual(current(), ["old-one"])
      assert.deepStrictEqual(news(), [LOADED])
      yield* kubelet(mount, "2026_2", { secret: "new-one" })
      assert.deepStrictEqual(current(), ["old-one"])
      yield* poll
      assert.deepStrictEqual(current(), ["new-one"])
      assert.deepStrictEqual(news(), [CHANGED])
      yield* poll
      yield* poll
      assert.deepStrictEqual(news(), [])
      assertSilent(entries, "old-one", "new-one")
    }))

  it.effect("accepts both secrets of a rotation, each once", () =>
    Effect.gen(function*() {
      const mount = yield* directory
      const files = [`${mount}/a`, `${mount}/b`]
      yield* kubelet(mount, "1", { a: "one", b: "one" })
      const { current, poll, secrets } = yield* start({ files })
      assert.deepStrictEqual(current(), ["one"])
      const before = secrets.current()
      yield* kubelet(mount, "2", { a: "one", b: "two" })
      yield* poll
      assert.deepStrictEqual(current(), ["one", "two"])
      assert.strictEqual(before.length, 1, "a snapshot that was taken stays as it was")
      assert.isTrue(Object.isFrozen(secrets.current()))
    }))

  it.effect("makes a key once, not at each poll", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      const { poll, secrets } = yield* start({ files: [path] })
      const [key] = secrets.current()
      yield* poll
      assert.strictEqual(secrets.current()[0], key)
    }))

  it.effect.each(
    [
      { content: "s\n", secret: "s" },
      { content: "s\r\n", secret: "s" },
      { content: "s\n\n", secret: "s\n" },
      { content: "s\r", secret: "s\r" },
      { content: " s \n", secret: " s " },
      { content: "\ns", secret: "\ns" }
    ]
  )("trims one trailing newline and nothing else: $content", ({ content, secret }) =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, content)
      const { current } = yield* start({ files: [path] })
      assert.deepStrictEqual(current(), [secret])
    }))

  const refused = ": unless GitHub's is the same, every delivery is refused"

  it.effect.each([
    [" hush-hush", "begins with white space"],
    ["hush-hush ", "ends in white space (a newline?)"],
    ["hush-hush\n", "ends in white space (a newline?)"],
    ["hush-hush\r\n", "ends in white space (a newline?)"],
    ["hush-hush\u00a0", "ends in white space (a newline?)"],
    ["\ufeffhush-hush", "begins with a byte order mark"],
    ["hush\nhush-hush", "has more than one line, and is one secret all the same"],
    ["\"hush-hush\"", "is in quotes, which are a part of it"],
    ["$(hush_hush)", "is the name of something that was to be put in its place"],
    ["${hush_hush}", "is the name of something that was to be put in its place"]
  ])(
    "warns of a variable's secret that is rarely meant, and does not show it: %j",
    ([variable, words]) =>
      Effect.gen(function*() {
        const { current, entries } = yield* start({ files: [], variable: variable! })
        assert.deepStrictEqual(current(), [variable!])
        assert.deepStrictEqual(entries, [{
          level: "warn",
          message: `GH_APP_WEBHOOK_SECRET ${words}${refused}`,
          fields: {}
        }])
      })
  )

  it.effect.each(["hush-hush", "a b", "hush-hush\u00e0", "\"hush", "it's", "pa$(x)ss", "\u00e0"])(
    "takes a variable's secret without a word: %j",
    (variable) => Effect.map(start({ files: [], variable }), ({ entries }) => assert.deepStrictEqual(entries, []))
  )

  it.effect("says nothing of a variable's secret that is not used", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      assert.deepStrictEqual((yield* start({ files: [path], variable: "hush-hush " })).news(), [LOADED])
    }))

  it.effect("warns of a file's secret that is rarely meant, each time it changes", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "hush-hush\n")
      const { entries, news, poll } = yield* start({ files: [path] })
      assert.deepStrictEqual(news(), [LOADED])
      yield* write(path, "hush-hush\n\n")
      yield* poll
      yield* poll
      assert.deepStrictEqual(news(), [
        CHANGED,
        `the file of a webhook secret ends in white space (a newline?)${refused}`
      ])
      assert.deepStrictEqual(entries.at(-1)!.fields, { path })
      // As PowerShell's `>` writes it.
      yield* write(path, Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from("hush-hush", "utf16le")]))
      yield* poll
      assert.deepStrictEqual(news(), [
        CHANGED,
        `the file of a webhook secret begins with a byte order mark${refused}`
      ])
      assertSilent(entries, "hush")
    }))

  it.effect("takes the bytes as they are", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      const bytes = Uint8Array.of(0xff, 0x00, 0xc3, 0x28)
      yield* write(path, bytes)
      const { secrets } = yield* start({ files: [path] })
      assert.isTrue(secrets.current()[0]!.equals(createSecretKey(bytes)))
    }))

  it.effect.each(["", "\n", "\r\n"])(
    "keeps the last value of a file that is empty: %j",
    (content) =>
      Effect.gen(function*() {
        const path = `${yield* directory}/secret`
        yield* write(path, "s3cret")
        const { current, entries, news, poll } = yield* start({ files: [path], variable: "variable" })
        news()
        yield* write(path, content)
        yield* poll
        yield* poll
        assert.deepStrictEqual(current(), ["s3cret"])
        assert.deepStrictEqual(news(), [UNREADABLE])
        assert.deepStrictEqual(entries.at(-1)!.fields, { path, error: "empty" })
        yield* write(path, "s3cret")
        yield* poll
        assert.deepStrictEqual(news(), [LOADED])
      })
  )

  it.effect("never has an empty key, from a file or the variable", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "\n")
      const { current, news } = yield* start({ files: [path], variable: "" })
      assert.deepStrictEqual(current(), [])
      assert.deepStrictEqual(news(), [UNREADABLE])
    }))

  it.effect("keeps the last value of what is no file any more", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      const { current, entries, news, poll } = yield* start({ files: [path] })
      news()
      yield* fs.remove(path)
      yield* fs.makeDirectory(path)
      yield* poll
      yield* poll
      assert.deepStrictEqual(current(), ["s3cret"])
      assert.deepStrictEqual(news(), [UNREADABLE])
      assert.deepStrictEqual(entries.at(-1)!.fields, { path, error: "not a file: Directory" })
    }))

  it.effect.each(
    [
      { tag: "PermissionDenied", code: "EACCES" },
      { tag: "Unknown", code: "EIO" },
      { tag: "BadResource", code: "ELOOP" }
    ] as const
  )("keeps the last value when reading fails: $code", ({ code, tag }) =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      let broken = false
      const cause = Object.assign(new Error(code), { code })
      const error = PlatformError.systemError({ _tag: tag, module: "FileSystem", method: "readFile", cause })
      const { current, entries, news, poll } = yield* start({
        files: [path],
        fileSystem: { ...fs, readFile: (file) => broken ? Effect.fail(error) : fs.readFile(file) }
      })
      news()
      broken = true
      yield* poll
      yield* poll
      assert.deepStrictEqual(current(), ["s3cret"])
      assert.deepStrictEqual(news(), [UNREADABLE])
      assert.deepStrictEqual(entries.at(-1)!.fields, { path, error: code })
      broken = false
      yield* write(path, "another")
      yield* poll
      assert.deepStrictEqual(current(), ["another"])
      assert.deepStrictEqual(news(), [CHANGED])
    }))

  it.effect("refuses a file over 64 KiB, and takes one of exactly that", () =>
    Effect.gen(function*() {
      const path = `${yield* directory}/secret`
      yield* write(path, "x".repeat(64 * 1024))
      const { current, entries, poll } = yield* start({ files: [path] })
      assert.deepStrictEqual(current(), ["x".repeat(64 * 1024)])
      yield* write(path, "y".repeat(64 * 1024 + 1))
      yield* poll
      assert.deepStrictEqual(current(), ["x".repeat(64 * 1024)])
      assert.deepStrictEqual(entries.at(-1)!.fields, { path, error: "larger than 64 KiB" })
    }))

  it.effect("withdraws the secret of a file that is gone, and takes it again when it is back", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      const { current, news, poll } = yield* start({ files: [path] })
      news()
      yield* fs.remove(path)
      yield* poll
      yield* poll
      assert.deepStrictEqual(current(), [])
      assert.deepStrictEqual(news(), [WITHDRAWN])
      yield* write(path, "")
      yield* poll
      assert.deepStrictEqual(current(), [], "the withdrawn value is not the last value")
      assert.deepStrictEqual(news(), [UNREADABLE])
      yield* write(path, "s3cret")
      yield* poll
      assert.deepStrictEqual(current(), ["s3cret"])
      assert.deepStrictEqual(news(), [LOADED])
    }))

  it.effect("takes a file under what is no directory as gone", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const mount = `${yield* directory}/mount`
      yield* fs.makeDirectory(mount)
      yield* write(`${mount}/secret`, "s3cret")
      const { current, news, poll } = yield* start({ files: [`${mount}/secret`] })
      news()
      yield* fs.remove(mount, { recursive: true })
      yield* write(mount, "not a directory")
      yield* poll
      assert.deepStrictEqual(current(), [])
      assert.deepStrictEqual(news(), [WITHDRAWN])
    }))

  it.effect("looks twice before a file is gone: a swap may be under way", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      let misses = 0
      const missing = PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method: "stat" })
      const { current, news, poll } = yield* start({
        files: [path],
        fileSystem: { ...fs, stat: (file) => misses-- > 0 ? Effect.fail(missing) : fs.stat(file) }
      })
      news()
      misses = 1
      yield* poll
      assert.deepStrictEqual([current(), news()], [["s3cret"], []])
      misses = 2
      yield* poll
      assert.deepStrictEqual([current(), news()], [[], [WITHDRAWN]])
    }))

  it.effect("never takes one file from before a swap and the other from after it", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const at = yield* directory
      const [first, second] = [`${at}/current`, `${at}/previous`]
      yield* write(first, "old")
      yield* write(second, "older")
      const swapped = yield* Latch.make(true)
      const swap = Effect.gen(function*() {
        if (swapped.isOpen()) return
        yield* fs.writeFileString(first, "new")
        yield* fs.writeFileString(second, "old")
        yield* swapped.open
      })
      const { current, poll } = yield* start({
        files: [first, second],
        fileSystem: {
          ...fs,
          // The swap comes when the second file has been read and the first one has not.
          readFile: (file) =>
            file === first
              ? Effect.andThen(swapped.await, fs.readFile(file))
              : Effect.tap(fs.readFile(file), () => swap)
        }
      })
      yield* swapped.close
      yield* poll
      assert.deepStrictEqual(current(), ["new", "old"])
    }))

  it.effect("starts without the file, and uses the variable only while no file yields a secret", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      const { current, entries, news, poll } = yield* start({ files: [path], variable: "from-the-variable" })
      assert.deepStrictEqual([current(), news()], [["from-the-variable"], [NOT_FOUND]])
      yield* poll
      assert.deepStrictEqual(news(), [])
      yield* write(path, "s3cret")
      yield* poll
      assert.deepStrictEqual([current(), news()], [["s3cret"], [LOADED]])
      yield* fs.remove(path)
      yield* poll
      assert.deepStrictEqual([current(), news()], [["from-the-variable"], [WITHDRAWN]])
      assertSilent(entries, "s3cret", "from-the-variable")
    }))

  it.effect("goes on following after a defect", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = `${yield* directory}/secret`
      yield* write(path, "s3cret")
      let broken = false
      const { current, news, poll } = yield* start({
        files: [path],
        fileSystem: { ...fs, stat: (file) => broken ? Effect.die("unexpected") : fs.stat(file) }
      })
      news()
      broken = true
      yield* poll
      assert.deepStrictEqual(current(), ["s3cret"])
      assert.deepStrictEqual(news(), ["unexpected failure"])
      broken = false
      yield* write(path, "another")
      yield* poll
      assert.deepStrictEqual(current(), ["another"])
    }))

  it.effect("needs no file", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* start({ files: [], variable: "only" })).current(), ["only"])
      assert.deepStrictEqual((yield* start({ files: [] })).current(), [])
    }))

  it.effect("shows how many it takes, and since when", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* TestClock.setTime(1_700_000_000_500)
      const path = `${yield* directory}/secret`
      const { poll } = yield* start({ files: [path] })
      assert.strictEqual((yield* scrape).value("sprayproxy_webhook_secrets"), 0)
      yield* write(path, "s3cret")
      yield* poll
      const seen = yield* scrape
      assert.strictEqual(seen.value("sprayproxy_webhook_secrets"), 1)
      assert.strictEqual(seen.value("sprayproxy_webhook_secret_changed_timestamp_seconds"), 1_700_000_002.5)
    })))

  it.effect("shows nothing where none is looked at", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* start({ files: [], skipsVerification: true })
      assert.deepStrictEqual((yield* scrape).keysWith("webhook_secret"), [])
    })))
})
