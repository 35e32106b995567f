/** Full memory and slow senders: which deliveries are taken, which are refused, and how the refusal is said. */
import { assert, describe, live } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type * as Http from "node:http"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { openConnection } from "../../support/RawConnection.ts"
import { ask, head, is, isOf, next, signed, withLength } from "./Ingress.ts"

describe("memory", () => {
  live("that is full makes deliveries wait until their reply is due, and no longer", () =>
    Effect.gen(function*() {
      const unanswered: Array<Http.ServerResponse> = []
      const backend = yield* startBackend((_, response) => void unanswered.push(response))
      const memory = ["--body-memory", "1MiB", "--reply-deadline", "300ms"]
      const program = yield* startProgram(["--backend", backend.url, ...memory])
      const large = "a".repeat(900_000)
      const post = (body: string) => ask(program.port, withLength(randomUUID(), body))
      // The second goes beyond the budget, and only one may.
      is(yield* post(large), 202, "accepted")
      is(yield* post(large), 202, "accepted")
      for (const body of [large, "{}"]) {
        const refused = yield* post(body)
        is(refused, 503, "overloaded")
        assert.strictEqual(refused.headers["retry-after"], "10")
        const line = yield* Effect.promise(() => program.logged(isOf(refused)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason: "overloaded", status: 503 })
        assert.isAtLeast(Number(line["latency"]), 0.29)
      }
      assert.strictEqual(backend.received.length, 2)
      for (const response of unanswered.splice(0)) response.writeHead(202).end()
      const delivered = () => program.logs.filter(({ msg }) => msg === "proxied request").length === 2
      yield* Effect.promise(() => program.logged(delivered))
      is(yield* post(large), 202, "accepted")
    }))
})

describe("a sender that is too slow", () => {
  live("is cut with 408 and holds its connection no longer", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const slow = Effect.fnUntraced(function*(request: string, reason: string, leastSeconds: number) {
        const startedAt = performance.now()
        const connection = yield* openConnection(program.port)
        connection.write(request)
        const reply = yield* next(connection)
        assert.isAtLeast(performance.now() - startedAt, leastSeconds * 1_000)
        is(reply, 408, "request timeout")
        assert.strictEqual(reply.headers["connection"], "close")
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason, status: 408 })
        yield* Effect.promise(() => connection.closed)
      })
      const body = [signed("{}"), "X-GitHub-Event: push"]
      yield* Effect.all([
        slow(`${head("a", [...body, "Content-Length: 1000"])}hello`, "sender too slow", 4.9),
        slow(`${head("b", [...body, "Content-Length: 1000000"])}hello`, "sender too slow", 4.9),
        slow(`${head("c", [...body, "Transfer-Encoding: chunked"])}5\r\nhello\r\n`, "sender too slow", 4.9),
        slow(head("d", [...body, "Content-Length: 5"]), "sender too slow", 4.9),
        slow(head("e", body).slice(0, -2), "request timeout", 9.9)
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(
        program.logs.filter(({ reason }) => reason === "sender too slow").map(({ delivery }) => delivery).toSorted(),
        ["a", "b", "c", "d"]
      )
      assert.strictEqual(backend.received.length, 0)
      is(yield* Effect.promise(() => deliver(program.port, "{}")), 200, "proxied")
    }))
})
