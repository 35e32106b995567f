import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import type { LookupAddress, LookupOptions } from "node:dns"
import { Resolver, type SystemLookup } from "../../../src/backends/connections/Resolver.ts"

const one: LookupAddress = { address: "192.0.2.1", family: 4 }
const two: LookupAddress = { address: "192.0.2.2", family: 4 }
const six: LookupAddress = { address: "2001:db8::1", family: 6 }

type Answer = Parameters<SystemLookup>[1]

/** A name server that answers when the test says so. */
const nameServer = () => {
  const asked: Array<string> = []
  const pending: Array<Answer> = []
  let reply: ((answer: Answer) => void) | undefined
  const system: SystemLookup = (host, answer) => {
    asked.push(host)
    if (reply === undefined) pending.push(answer)
    else reply(answer)
  }
  return {
    asked,
    layer: Resolver.layerFrom(system),
    answers: (...addresses: ReadonlyArray<LookupAddress>) => {
      reply = (answer) => answer(null, addresses)
      pending.splice(0).forEach(reply)
    },
    fails: (code: string) => {
      reply = (answer) => answer(Object.assign(new Error(code), { code }), [])
      pending.splice(0).forEach(reply)
    },
    hangs: () => {
      reply = undefined
    }
  }
}

const lookup = Effect.fnUntraced(function*(host: string, options: LookupOptions = { all: true }) {
  const resolver = yield* Resolver
  return yield* Effect.callback<unknown, NodeJS.ErrnoException>((resume) => {
    resolver.lookup(
      host,
      options,
      (error, address, family) =>
        resume(error === null ? Effect.succeed(options.all === true ? address : [address, family]) : Effect.fail(error))
    )
  })
})

describe("Resolver", () => {
  it.effect("looks a host up once, however many ask at the same time", () => {
    const dns = nameServer()
    return Effect.gen(function*() {
      const callers = yield* Effect.forkChild(
        Effect.all(Array.from({ length: 20 }, () => lookup("pac.example.com")), { concurrency: "unbounded" })
      )
      yield* Effect.yieldNow
      dns.answers(one, six)
      expect(yield* Fiber.join(callers)).toEqual(Array.from({ length: 20 }, () => [one, six]))
      expect(dns.asked).toEqual(["pac.example.com"])
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("gives an answer again for ten seconds", () => {
    const dns = nameServer()
    dns.answers(one)
    return Effect.gen(function*() {
      yield* lookup("pac.example.com")
      dns.answers(two)
      yield* TestClock.adjust("9999 millis")
      expect(yield* lookup("pac.example.com")).toEqual([one])
      yield* TestClock.adjust("1 millis")
      expect(yield* lookup("pac.example.com")).toEqual([two])
      expect(dns.asked).toHaveLength(2)
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("keeps the last good answer while DNS fails, and asks again each time", () => {
    const dns = nameServer()
    dns.answers(one)
    return Effect.gen(function*() {
      yield* lookup("pac.example.com")
      dns.fails("EAI_AGAIN")
      yield* TestClock.adjust("1 hour")
      expect(yield* lookup("pac.example.com")).toEqual([one])
      expect(yield* lookup("pac.example.com")).toEqual([one])
      dns.answers(two)
      expect(yield* lookup("pac.example.com")).toEqual([two])
      expect(dns.asked).toHaveLength(4)
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("keeps the last good answer when the new one has no address", () => {
    const dns = nameServer()
    dns.answers(one)
    return Effect.gen(function*() {
      yield* lookup("pac.example.com")
      dns.answers()
      yield* TestClock.adjust("1 hour")
      expect(yield* lookup("pac.example.com")).toEqual([one])
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("gives the last good answer after a second when DNS is silent, and the new one once it is there", () => {
    const dns = nameServer()
    dns.answers(one)
    return Effect.gen(function*() {
      yield* lookup("pac.example.com")
      dns.hangs()
      yield* TestClock.adjust("10 seconds")
      const caller = yield* Effect.forkChild(lookup("pac.example.com"))
      yield* TestClock.adjust("999 millis")
      expect(caller.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(caller)).toEqual([one])
      dns.answers(two)
      yield* Effect.promise(() => Promise.resolve())
      expect(yield* lookup("pac.example.com")).toEqual([two])
      expect(dns.asked).toHaveLength(2)
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("does not remember a failure", () => {
    const dns = nameServer()
    dns.fails("EAI_AGAIN")
    return Effect.gen(function*() {
      expect(yield* Effect.flip(lookup("pac.example.com"))).toMatchObject({ code: "EAI_AGAIN" })
      dns.answers(one)
      expect(yield* lookup("pac.example.com")).toEqual([one])
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("answers with one address where not all are asked for, and honours the family", () => {
    const dns = nameServer()
    dns.answers(one, six, two)
    return Effect.gen(function*() {
      expect(yield* lookup("pac.example.com", {})).toEqual([one.address, 4])
      expect(yield* lookup("pac.example.com", { family: 6 })).toEqual([six.address, 6])
      expect(yield* lookup("pac.example.com", { family: "IPv4", all: true })).toEqual([one, two])
      expect(dns.asked).toHaveLength(1)
      dns.answers(one)
      expect(yield* Effect.flip(lookup("v4.example.com", { family: 6 }))).toMatchObject({ code: "ENOTFOUND" })
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("forgets hosts that nobody asked for beyond 4096", () => {
    const dns = nameServer()
    dns.answers(one)
    return Effect.gen(function*() {
      yield* lookup("first.example.com")
      yield* lookup("second.example.com")
      for (let n = 0; n < 4094; n++) yield* lookup(`${n}.example.com`)
      yield* lookup("first.example.com")
      expect(dns.asked).toHaveLength(4096)
      yield* lookup("one-more.example.com")
      yield* lookup("first.example.com")
      yield* lookup("second.example.com")
      expect(dns.asked.slice(4096)).toEqual(["one-more.example.com", "second.example.com"])
    }).pipe(Effect.provide(dns.layer))
  })

  it.effect("asks the system", () =>
    Effect.gen(function*() {
      expect(yield* lookup("localhost")).toContainEqual({ address: "127.0.0.1", family: 4 })
    }).pipe(Effect.provide(Resolver.layer)))
})
