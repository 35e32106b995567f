import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { generateKeyPairSync } from "node:crypto"
import { App } from "../../support/github/App.ts"
import { keyFile, openLog, openStandIn } from "./OpenLog.ts"

const encrypted = generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey
  .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "hunter2" }).toString()
const elliptic = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
  .export({ type: "pkcs8", format: "pem" }).toString()

const noKey = "has no RSA private key in it that is PEM and unencrypted"

/** Until a change of the file has been seen. */
const seen = TestClock.adjust("5 seconds")

describe("the App's key", () => {
  it.effect.each(
    [
      ["PKCS#1, as GitHub hands it out", "pkcs1", "\n"],
      ["PKCS#8", "pkcs8", "\n"],
      ["PKCS#1 with the line ends of Windows", "pkcs1", "\r\n"]
    ] as const
  )("is taken as %s", ([, type, lineEnd]) =>
    Effect.gen(function*() {
      const { app, files, pages } = yield* openStandIn({ files: new Map() })
      files.set(keyFile, app.privateKey(type).replaceAll("\n", lineEnd))
      yield* seen
      assert.lengthOf(yield* pages, 1)
    }))

  it.effect("is followed when it is rotated, without a break", () =>
    Effect.gen(function*() {
      const { app, entries, failure, files, pages } = yield* openStandIn()
      yield* pages
      app.addKey()
      yield* pages
      files.set(keyFile, app.privateKey())
      yield* seen
      app.deleteOldKeys()
      yield* pages
      assert.deepStrictEqual(entries.map(({ level, message }) => [level, message]), [
        ["info", "GitHub App key loaded"],
        ["info", "GitHub App key changed"]
      ])
      app.addKey()
      app.deleteOldKeys()
      assert.strictEqual((yield* failure).kind, "unauthorized")
    }))

  it.effect("stays the last good one while its file has none", () =>
    Effect.gen(function*() {
      const { app, entries, files, pages } = yield* openStandIn()
      const good = files.get(keyFile)!
      for (
        const content of ["", "no key", encrypted, elliptic, app.publicKeys[0]!.export({ type: "spki", format: "pem" })]
      ) {
        files.set(keyFile, content)
        yield* seen
        yield* pages
      }
      files.delete(keyFile)
      yield* seen
      yield* pages
      files.set(keyFile, good)
      yield* seen
      const lines = entries.map(({ fields, message }) => [message, fields?.["error"]])
      assert.deepStrictEqual(lines, [
        ["GitHub App key loaded", undefined],
        ["GitHub App key not loaded, keeping the last one", noKey],
        ["GitHub App key not loaded, keeping the last one", "is not there"],
        ["GitHub App key loaded", undefined]
      ])
    }))

  it.effect("may come after the start, and until then its absence is told without a request", () =>
    Effect.gen(function*() {
      const app = new App()
      const { entries, failure, files, github, pages } = yield* openStandIn({ files: new Map() })
      const { kind, reason } = yield* failure
      assert.strictEqual(kind, "unauthorized")
      assert.strictEqual(reason, `there is no key of the App: --github-private-key-file ${keyFile} is not there`)
      assert.strictEqual((yield* Effect.flip(github.redeliver("1"))).reason, reason)
      files.set(keyFile, "no key")
      yield* seen
      assert.include((yield* failure).reason, noKey)
      files.set(keyFile, app.privateKey())
      yield* seen
      yield* pages
      assert.deepStrictEqual(entries.map(({ level, message }) => [level, message]), [
        ["warn", "GitHub App key not loaded"],
        ["warn", "GitHub App key not loaded"],
        ["info", "GitHub App key loaded"]
      ])
      assert.notInclude(JSON.stringify(entries), "PRIVATE")
    }))

  it.effect.each([-3_600_000, -90_000, 700_000, 3_600_000])(
    "signs for GitHub's clock, which is %i ms ahead, and the difference is told once",
    (skew) =>
      Effect.gen(function*() {
        const { app, entries, github, pages } = yield* openStandIn()
        app.skew = skew
        yield* pages
        yield* pages
        assert.deepStrictEqual(yield* github.redeliver("1"), { refused: "Not Found" })
        const warnings = entries.flatMap(({ fields, level }) => level === "warn" ? [String(fields?.["warning"])] : [])
        assert.lengthOf(warnings, 2)
        assert.match(warnings[1]!, /GitHub API time and system time are different by -?\d+ seconds/)
      })
  )

  it.effect("is that of another App where the id is wrong", () =>
    Effect.gen(function*() {
      const { app, url } = yield* openStandIn()
      const { failure } = yield* openLog({ app, url, appId: 1 })
      const { kind, reason } = yield* failure
      assert.strictEqual(kind, "unauthorized")
      assert.include(reason, "GitHub does not let App 1 in (404: Integration not found)")
    }))
})
