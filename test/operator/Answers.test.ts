import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ListAnswer, RedeliverAnswer, RedeliverMatchingAnswer, ShowAnswer } from "../../src/operator/Answers.ts"
import { send } from "../support/GitHub.ts"
import { keep, OperatorServer, port, received, row, StoreContents } from "../support/OperatorServer.ts"

const a = "https://a.example.com"

const full = keep(1, {
  rows: [row(a), row("https://b.example.com", { state: "pending", dueAt: received, settledAt: undefined })],
  attempts: [
    { key: a, at: received, outcome: "failed", status: 500, latency: 1, error: undefined, answer: "no" },
    {
      key: a,
      at: received,
      outcome: "unreachable",
      status: undefined,
      latency: 1,
      error: "ECONNREFUSED",
      answer: undefined
    }
  ],
  recovery: {
    state: "recovered",
    failedAt: received - 60_000,
    asks: 2,
    askedAt: received - 1_000,
    recoveredAt: received,
    reason: undefined
  }
})

const bare = keep(2, { guid: undefined, event: undefined, hookId: "", hasBody: false, rows: [] })

describe("what is answered", () => {
  it.effect.each(
    [
      ["GET", "/deliveries?limit=1", ListAnswer],
      ["GET", "/deliveries", ListAnswer],
      ["GET", "/deliveries/guid-1", ShowAnswer],
      ["GET", "/deliveries/guid-1?body=true", ShowAnswer],
      ["GET", `/deliveries/${bare.id}?body=true`, ShowAnswer],
      ["POST", "/deliveries/guid-1/redeliver", RedeliverAnswer],
      ["POST", "/deliveries/redeliver", RedeliverMatchingAnswer]
    ] as const
  )("to %s %s is what the document says, and no member more", ([method, path, answer]) =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(full, bare)
      contents.matching = 700
      const to = yield* port
      const reply = yield* Effect.promise(() =>
        send(to, { method, path, ...(method === "POST" ? { body: "{}" } : {}) })
      )
      assert.strictEqual(reply.status, 200, reply.text)
      const decode = Schema.decodeUnknownEffect(answer as Schema.ConstraintDecoder<unknown>, {
        onExcessProperty: "error"
      })
      const decoded = yield* decode(JSON.parse(reply.text))
      assert.deepStrictEqual(decoded, JSON.parse(reply.text))
    }).pipe(Effect.provide(OperatorServer())))
})
