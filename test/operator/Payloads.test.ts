import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ShownDelivery } from "../../src/operator/Answers.ts"
import { withPayloads } from "../../src/operator/Payloads.ts"

const shown = (id: string): ShownDelivery => ({
  id,
  guid: id,
  event: "push",
  hookId: null,
  requestId: "r",
  receivedAt: "2026-01-02T03:04:05.000Z",
  bodyLength: 1,
  hasBody: true,
  method: "POST",
  target: "/proxy",
  headers: [["A", `"quoted"`]],
  signature: "valid",
  backends: []
})

/** The answer, parsed. */
const answerWith = (payloads: ReadonlyArray<Buffer | undefined>) => {
  const deliveries = payloads.map((_, index) => shown(String(index)))
  const answer = withPayloads(
    deliveries,
    (delivery) => Effect.succeed({ delivery, payload: payloads[Number(delivery.id)] })
  )
  return Effect.map(
    Stream.runCollect(answer),
    (chunks) => JSON.parse(Buffer.concat(chunks).toString("utf8")) as { deliveries: ReadonlyArray<ShownDelivery> }
  )
}

const payloadOf = ({ body, bodyEncoding }: ShownDelivery) =>
  body === undefined ? undefined : Buffer.from(body, bodyEncoding)

describe("withPayloads", () => {
  it.effect("gives texts and bytes of any length back as they are, over many slices", () =>
    Effect.gen(function*() {
      // Characters of one to four bytes, so that slices end in the midst of them.
      const text = Buffer.from("\uFEFF" + `a"\\\n\u0001é漢🔑`.repeat(20_000))
      const bytes = Buffer.from(Array.from({ length: 200_001 }, (_, at) => at % 256))
      const answer = yield* answerWith([text, bytes, undefined, Buffer.alloc(0)])
      assert.deepStrictEqual(answer.deliveries.map(payloadOf), [text, bytes, undefined, Buffer.alloc(0)])
      assert.deepStrictEqual(answer.deliveries.map(({ bodyEncoding }) => bodyEncoding), [
        "utf8",
        "base64",
        undefined,
        "utf8"
      ])
      assert.deepStrictEqual(answer.deliveries[2], shown("2"))
    }))

  it.effect("loads a payload when those before it are written, and lets go of it before the next", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const answer = withPayloads([shown("0"), shown("1"), shown("2")], (delivery) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            events.push(`+${delivery.id}`)
            return { delivery, payload: Buffer.from("{}") }
          }),
          () => Effect.sync(() => events.push(`-${delivery.id}`))
        ))
      yield* Stream.runDrain(answer)
      assert.deepStrictEqual(events, ["+0", "-0", "+1", "-1", "+2", "-2"])
    }))

  it.effect.prop(
    "gives any payload back",
    { payloads: Arbitrary.array(Arbitrary.schema(Schema.Uint8Array), { maxLength: 4 }) },
    ({ payloads }) =>
      Effect.gen(function*() {
        const given = payloads.map((payload) => Buffer.from(payload))
        const { deliveries } = yield* answerWith(given)
        assert.deepStrictEqual(deliveries.map(payloadOf), given)
      })
  )
})
