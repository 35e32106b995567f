import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { type Relay, spray, startRelay } from "../../support/edges.ts"

const refusedLoops = (program: Program) => program.logs.filter((line) => line["reason"] === "loop")

const promise = <A>(f: () => Promise<A>) => Effect.promise(f)

const hops = (count: number) => Array.from({ length: count }, (_, n) => `1.1 sprayproxy-${n}`)

const register = (program: Program, url: string) =>
  promise(() => send(program.port, { path: "/backends", body: JSON.stringify({ url }) }))

const expectOneTurn = Effect.fnUntraced(function*(program: Program, relay: Relay, last: Program = program) {
  const { attempts, reply } = yield* promise(() => spray(program))
  expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
  expect(relay.requests()).toBe(1)
  yield* promise(() => last.logged((line) => line["reason"] === "loop"))
  expect(refusedLoops(last)).toMatchObject([{ status: 508 }])
  return attempts
})

describe("a delivery that comes back to us", () => {
  it.live("is refused with 508 after one turn", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const program = yield* startProgram(["--backend", `http://127.0.0.1:${relay.port}`])
      relay.leadTo(program.port)
      const attempts = yield* expectOneTurn(program, relay)
      expect(attempts).toMatchObject([{ status: 508, outcome: "failed", answer: "loop" }])
    }))

  it.live("under another name is refused with 508 after one turn", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const program = yield* startProgram(["--backend", `http://localhost:${relay.port}`])
      relay.leadTo(program.port)
      const attempts = yield* expectOneTurn(program, relay)
      expect(attempts).toMatchObject([{ backend: `localhost:${relay.port}`, status: 508, outcome: "failed" }])
    }))

  it.live("over several backends makes as many requests as there are backends", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const other = yield* startBackend()
      const urls = [`http://127.0.0.1:${relay.port}`, `http://localhost:${relay.port}`, other.url]
      const program = yield* startProgram(["--backend", urls.join(",")])
      relay.leadTo(program.port)
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts.map(({ status }) => status).toSorted()).toEqual([202, 508, 508])
      expect(relay.requests()).toBe(2)
      expect(other.received).toHaveLength(1)
    }))

  it.live("through another sprayproxy is refused with 508 when it is back", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const second = yield* startProgram(["--backend", `http://127.0.0.1:${relay.port}`])
      const first = yield* startProgram(["--backend", second.url])
      relay.leadTo(first.port)
      const attempts = yield* expectOneTurn(first, relay)
      expect(attempts).toMatchObject([{ status: 502 }])
      expect(second.logs.filter((line) => line["backend"] === `127.0.0.1:${relay.port}`)).toMatchObject([
        { status: 508 }
      ])
      expect(refusedLoops(second)).toEqual([])
    }))

  it.live("to another replica is refused with 508 there, after one turn", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const other = yield* startBackend()
      // Written differently, and in another order.
      const [first, second] = [
        yield* startProgram(["--backend", `http://127.0.0.1:${relay.port},${other.url}`]),
        yield* startProgram(["--backend", `${other.url}/`, "--backend", `http://127.0.0.1:${relay.port}/`])
      ]
      relay.leadTo(second.port)
      yield* expectOneTurn(first, relay, second)
      expect(other.received).toHaveLength(1)
    }))

  it.live("as a dynamic backend is refused with 508 after one turn", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay
      const program = yield* startProgram(["--enable-dynamic-backends"])
      relay.leadTo(program.port)
      const registered = yield* register(program, `http://localhost:${relay.port}`)
      expect(registered.status).toBe(200)
      yield* expectOneTurn(program, relay)
    }))
})

describe("a chain of sprayproxies", () => {
  it.live("is no loop while it is short", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const second = yield* startProgram(["--backend", backend.url])
      const first = yield* startProgram(["--backend", second.url])
      const { reply } = yield* promise(() => spray(first))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      expect(String(backend.received[0]!.headers["via"])).toMatch(
        /^1\.1 sprayproxy-[0-9a-f]{16}, 1\.1 sprayproxy-[0-9a-f]{16}$/
      )
    }))

  it.live("is a loop when it is longer than four", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const four = yield* promise(() => deliver(program.port, "{}", { headers: { via: hops(4) } }))
      expect(four.status).toBe(200)
      for (const via of [hops(5), hops(5).join(", ")]) {
        const five = yield* promise(() => deliver(program.port, "{}", { headers: { via } }))
        expect(five).toMatchObject({ status: 508, text: "loop" })
      }
      expect(backend.received).toHaveLength(1)
    }))
})
