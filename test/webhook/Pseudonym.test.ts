import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { createSecretKey, hash, type KeyObject } from "node:crypto"
import { parse } from "../../src/domain/Backend.ts"
import { isLoop } from "../../src/domain/ForwardedHeaders.ts"
import { Instance } from "../../src/runtime/Instance.ts"
import { Settings } from "../../src/settings/Settings.ts"
import * as StoreLocation from "../../src/settings/StoreLocation.ts"
import { Pseudonym } from "../../src/webhook/Pseudonym.ts"
import { WebhookSecrets } from "../../src/webhook/Secrets.ts"

interface Deployment {
  readonly backends?: ReadonlyArray<string>
  readonly store?: string
  readonly secrets?: () => ReadonlyArray<KeyObject>
}

const key = (secret: string) => createSecretKey(Buffer.from(secret))
const usual = [key("secret")]

/** The pseudonyms of a process of a deployment. */
const namesOf = ({ backends = [], secrets = () => usual, store }: Deployment = {}) =>
  Effect.map(Pseudonym, ({ names }) => names).pipe(Effect.provide(
    Pseudonym.layer.pipe(Layer.provide([
      Instance.layer,
      Layer.succeed(WebhookSecrets, { current: secrets, changedAt: () => 0 }),
      Settings.layerFrom({
        backends: backends.map((url) => Result.getOrThrow(parse(url, "static"))),
        store: store === undefined ? Option.none() : Option.some(Result.getOrThrow(StoreLocation.parse(store)))
      })
    ])),
    { local: true }
  ))

const nameOf = (deployment?: Deployment) => Effect.map(namesOf(deployment), (names) => names()[0])

const [a, b] = ["https://a.example.com", "https://b.example.com"]
const postgres = "postgres://me:hush@db.example.com/webhooks"

describe("the name in Via", () => {
  it.effect("is one that RFC 9110 allows there, and that the loop check knows as a sprayproxy's", () =>
    Effect.gen(function*() {
      for (const deployment of [{}, { backends: [a] }, { store: postgres }]) {
        const names = yield* namesOf(deployment)
        assert.match(names()[0], /^sprayproxy-[0-9a-f]{16}$/)
        assert.isTrue(isLoop(`1.1 ${names()[0]}`, names()))
      }
    }))

  it.effect.each([
    [{ backends: [a, b] }, { backends: [`${b}/`, "HTTPS://A.example.com:443"] }],
    [{ store: postgres }, { store: "postgresql://other:word@DB.example.com:5432/webhooks?sslmode=require" }],
    [{ store: postgres }, { store: "postgres://me@other/else?host=db.example.com&port=5432&dbname=webhooks" }],
    [{ backends: [a], store: postgres }, { backends: [a], store: postgres }],
    [{ backends: [a], store: "sqlite:/a" }, { backends: [a], store: "sqlite:/b" }]
  ])("is the same in all replicas: %j, %j", ([one, other]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* nameOf(one), yield* nameOf(other))
    }))

  it.effect.each([
    [{ backends: [a] }, { backends: [b] }],
    [{ backends: [a] }, { backends: [a, b] }],
    [{ backends: [a] }, { backends: [a], store: postgres }],
    [{ store: postgres }, { store: "postgres://me:hush@db.example.com/others" }],
    [{ store: postgres }, { store: "postgres://me:hush@db2.example.com/webhooks" }],
    [{ store: postgres }, { store: "postgres://me:hush@db.example.com:5433/webhooks" }],
    // Nothing is shared: each process is alone.
    [{}, {}],
    [{ store: "sqlite:/same" }, { store: "sqlite:/same" }]
  ])("is another one in another deployment, with the same secret: %j, %j", ([one, other]) =>
    Effect.gen(function*() {
      assert.notStrictEqual(yield* nameOf(one), yield* nameOf(other))
    }))

  it.effect("is kept by a secret from whoever guesses what it is made of", () =>
    Effect.gen(function*() {
      const one = yield* nameOf({ backends: [a] })
      assert.notStrictEqual(one, yield* nameOf({ backends: [a], secrets: () => [key("another")] }))
      for (const guess of [a, `${a}/`, JSON.stringify(["sprayproxy", null, a])]) {
        assert.notInclude(one, hash("sha256", guess, "hex").slice(0, 16))
      }
    }))

  it.effect("stays known while secrets are rotated", () =>
    Effect.gen(function*() {
      let current = [key("old")]
      const names = yield* namesOf({ backends: [a], secrets: () => current })
      const before = names()[0]
      assert.strictEqual(names()[0], before)
      current = [key("new"), key("old")]
      assert.strictEqual(names()[1], before)
      assert.isTrue(isLoop(`1.1 ${before}`, names()))
      const after = names()[0]
      current = [key("new")]
      assert.deepStrictEqual(names(), [after])
    }))

  it.effect("is there without a secret", () =>
    Effect.gen(function*() {
      const unverified = { backends: [a], secrets: () => [] }
      assert.strictEqual(yield* nameOf(unverified), yield* nameOf(unverified))
    }))
})
