import { assert, describe, it } from "@effect/vitest"
import { sign, verify as verifyOther } from "@octokit/webhooks-methods"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { createHmac, createSecretKey } from "node:crypto"
import { Settings } from "../../src/settings/Settings.ts"
import { WebhookSecrets } from "../../src/webhook/Secrets.ts"
import { parseSignature, type Unverifiable, type Verification, WebhookVerifier } from "../../src/webhook/Verifier.ts"

/** A verifier whose secrets the test changes. */
const start = (secrets: Array<string>, settings: Partial<Settings["Service"]> = {}) =>
  Effect.provide(
    WebhookVerifier,
    WebhookVerifier.layerNoDeps.pipe(Layer.provide([
      Settings.layerFrom(settings),
      Layer.succeed(WebhookSecrets, {
        current: () => secrets.map((secret) => createSecretKey(Buffer.from(secret))),
        changedAt: () => 0
      })
    ]))
  )

const signature = (secret: string, body: string | Uint8Array) =>
  `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`

const verify = (verification: Verification | Unverifiable, ...chunks: ReadonlyArray<string | Uint8Array>) => {
  if (typeof verification === "string") return verification
  for (const chunk of chunks) verification.update(Buffer.from(chunk))
  return verification.matches()
}

const hex = "0".repeat(64)

describe("WebhookVerifier", () => {
  it.effect("accepts the delivery that GitHub documents", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["It's a Secret to Everybody"])
      const verification = verifier.begin("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
      assert.isTrue(verify(verification, "Hello, World!"))
    }))

  it.effect.prop(
    "accepts what another implementation has signed, in whatever chunks it arrives",
    {
      secret: Arbitrary.schema(Schema.String.check(Schema.isMinLength(1))),
      chunks: Arbitrary.array(Arbitrary.schema(Schema.String), { maxLength: 5 })
    },
    ({ chunks, secret }) =>
      Effect.gen(function*() {
        const verifier = yield* start([secret.toWellFormed()])
        const body = chunks.join("").toWellFormed()
        if (body === "") return
        const signed = yield* Effect.promise(() => sign(secret.toWellFormed(), body))
        const bytes = Buffer.from(body)
        const middle = Math.floor(bytes.length / 2)
        assert.isTrue(verify(verifier.begin(signed), bytes.subarray(0, middle), bytes.subarray(middle)))
      })
  )

  it.effect.prop(
    "agrees with another implementation on bodies and secrets of every length, in one chunk or in two",
    {
      secretLength: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 }))),
      length: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 140_000 }))),
      cutAt: Arbitrary.schema(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))),
      forged: Arbitrary.schema(Schema.Boolean)
    },
    ({ cutAt, forged, length, secretLength }) =>
      Effect.gen(function*() {
        const secret = "s".repeat(secretLength)
        const body = "b".repeat(length)
        const signed = signature(forged ? `${secret}s` : secret, body)
        const expected = yield* Effect.promise(() => verifyOther(secret, body, signed))
        const verifier = yield* start([secret])
        const bytes = Buffer.from(body)
        const at = Math.floor(cutAt * length)
        assert.strictEqual(verify(verifier.begin(signed), bytes), expected)
        assert.strictEqual(verify(verifier.begin(signed), bytes.subarray(0, at), bytes.subarray(at)), expected)
        assert.strictEqual(expected, !forged)
      }),
    { arbitrary: { runs: 100 } }
  )

  it.effect("verifies bodies that are read at the same time, each by itself", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["secret"])
      const bodies = ["one", "another that is longer", "x".repeat(70_000)]
      const underWay = bodies.map((body) => verifier.begin(signature("secret", body)) as Verification)
      bodies.forEach((body, at) => underWay[at]!.update(Buffer.from(body)))
      assert.deepStrictEqual(underWay.map((verification) => verification.matches()), [true, true, true])
    }))

  it.effect.prop(
    "refuses a body of which one bit is another",
    {
      body: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))), {
        minLength: 1,
        maxLength: 100
      }),
      bit: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 799 })))
    },
    ({ bit, body }) =>
      Effect.gen(function*() {
        const verifier = yield* start(["secret"])
        const forged = Uint8Array.from(body)
        forged[Math.floor(bit / 8) % body.length]! ^= 1 << (bit % 8)
        assert.isFalse(verify(verifier.begin(signature("secret", Uint8Array.from(body))), forged))
      })
  )

  it.effect("verifies an empty body too", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["secret"])
      assert.isTrue(verify(verifier.begin(signature("secret", ""))))
      assert.isFalse(verify(verifier.begin(signature("other", ""))))
    }))

  it.effect("takes the digits in upper case", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["secret"])
      const digits = signature("secret", "body").slice("sha256=".length).toUpperCase()
      assert.isTrue(verify(verifier.begin(`sha256=${digits}`), "body"))
    }))

  it.effect("accepts every secret while one is rotated, and no other", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["old", "new"])
      assert.isTrue(verify(verifier.begin(signature("old", "body")), "body"))
      assert.isTrue(verify(verifier.begin(signature("new", "body")), "body"))
      assert.isFalse(verify(verifier.begin(signature("other", "body")), "body"))
    }))

  it.effect("uses the secrets that are valid when a delivery begins", () =>
    Effect.gen(function*() {
      const secrets = ["old"]
      const verifier = yield* start(secrets)
      const underWay = verifier.begin(signature("old", "body"))
      secrets[0] = "new"
      assert.isTrue(verify(underWay, "body"))
      assert.isFalse(verify(verifier.begin(signature("old", "body")), "body"))
      assert.isTrue(verify(verifier.begin(signature("new", "body")), "body"))
    }))

  it.effect("says that there is no secret, whatever the signature", () =>
    Effect.gen(function*() {
      const secrets: Array<string> = []
      const verifier = yield* start(secrets)
      assert.isFalse(verifier.isReady())
      assert.strictEqual(verifier.begin(undefined), "no secret")
      assert.strictEqual(verifier.begin(signature("", "body")), "no secret")
      secrets.push("secret")
      assert.isTrue(verifier.isReady())
      assert.isTrue(verify(verifier.begin(signature("secret", "body")), "body"))
    }))

  it.effect("tells a missing signature from a malformed one", () =>
    Effect.gen(function*() {
      const verifier = yield* start(["secret"])
      assert.strictEqual(verifier.begin(undefined), "signature missing")
      assert.strictEqual(verifier.begin(""), "signature missing")
      assert.strictEqual(verifier.begin("nonsense"), "signature malformed")
    }))

  it.effect("takes everything when it is told not to verify, and needs no secret for that", () =>
    Effect.gen(function*() {
      const verifier = yield* start([], { insecureSkipWebhookVerify: true })
      assert.isTrue(verifier.isReady())
      assert.isTrue(verify(verifier.begin(undefined), "body"))
      assert.isTrue(verify(verifier.begin("nonsense"), "body"))
    }))
})

describe("parseSignature", () => {
  it.prop(
    "reads the digest of the documented form",
    {
      digest: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))), {
        minLength: 32,
        maxLength: 32
      })
    },
    ({ digest }) => {
      const bytes = Buffer.from(digest)
      assert.deepStrictEqual(parseSignature(`sha256=${bytes.toString("hex")}`), bytes)
    }
  )

  it.each([
    "",
    "sha256=",
    hex,
    `sha1=${hex.slice(0, 40)}`,
    `sha1=${hex}`,
    `sha512=${hex}${hex}`,
    `sha256=${hex}0`,
    `sha256=${hex.slice(1)}`,
    `sha256=${hex.slice(1)}g`,
    `sha256= ${hex}`,
    ` sha256=${hex}`,
    `sha256=${hex} `,
    `sha256=${hex}\n`,
    `sha256:${hex}`,
    `"sha256=${hex}"`,
    `sha256=${hex}, sha256=${hex}`,
    `sha256=${hex.slice(2)}\u{ff10}\u{ff10}`
  ])("refuses %j", (header) => assert.isUndefined(parseSignature(header)))
})
