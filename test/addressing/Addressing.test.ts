import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { gzipSync } from "node:zlib"
import * as Addressing from "../../src/addressing/Addressing.ts"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { parse } from "../../src/domain/Backend.ts"
import { type BackendFilter, make, nothing } from "../../src/domain/BackendFilter.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Delivery } from "../../src/domain/Delivery.ts"

const backend = Result.getOrThrow(parse("http://a.test", "dynamic"))

const deliveryOf = (fullName: string, padding = 0, headers: ReadonlyArray<string> = []): Delivery => ({
  requestId: "1",
  guid: "1",
  event: "push",
  method: "POST",
  target: "/",
  forwardedTarget: "/",
  headers: [...headers],
  body: Body.of(Buffer.from(JSON.stringify({ x: "x".repeat(padding), repository: { full_name: fullName } })))
})

/** With one backend, whose filter may change. */
const setUp = Effect.fnUntraced(function*(repositories: ReadonlyArray<string>) {
  const has = { filter: make(repositories, undefined) }
  const addressing = yield* Addressing.make.pipe(Effect.provideService(
    BackendRegistry,
    BackendRegistry.of({
      snapshot: () => has.filter === nothing ? [] : [backend],
      isFiltered: () => true,
      filterOf: (): BackendFilter | undefined => has.filter,
      isKnown: () => true,
      list: Effect.succeed([]),
      register: () => Effect.succeed("registered"),
      unregister: () => Effect.void,
      recordOutcome: () => {}
    })
  ))
  const addressees = (delivery: Delivery) =>
    Effect.callback<number>((resume) =>
      addressing.addressees(delivery, (backends) => resume(Effect.succeed(backends.length)))
    )
  return { addressees, asked: (delivery: Delivery) => addressing.asked(backend, delivery), has }
})

describe.each([["small", 0], ["large", 3_000_000]] as const)("a %s delivery", (_, padding) => {
  it.effect("is for the backend that takes its repository", () =>
    Effect.gen(function*() {
      const { addressees, asked } = yield* setUp(["org/*"])
      assert.strictEqual(yield* asked(deliveryOf("Org/repo", padding)), "takes")
      assert.strictEqual(yield* asked(deliveryOf("other/repo", padding)), "refuses")
      assert.strictEqual(yield* addressees(deliveryOf("Org/repo", padding)), 1)
      assert.strictEqual(yield* addressees(deliveryOf("other/repo", padding)), 0)
    }))

  it.effect("of a backend that is gone is not sent, whatever its filter was", () =>
    Effect.gen(function*() {
      const { asked, has } = yield* setUp(["org/*"])
      has.filter = nothing
      assert.strictEqual(yield* asked(deliveryOf("other/repo", padding)), "gone")
      assert.strictEqual(yield* asked(deliveryOf("org/repo", padding)), "gone")
    }))
})

describe("while a large payload is read", () => {
  it.effect.each(
    [
      ["goes", "gone", nothing],
      ["is narrowed", "refuses", make(["org/other"], undefined)],
      ["gets an event that it wants", "refuses", make(["org/*"], ["ping"])]
    ] as const
  )("a backend that %s does not get it", ([, expected, filter]) =>
    Effect.gen(function*() {
      const { addressees, asked, has } = yield* setUp(["org/*"])
      const change = Effect.sync(() => has.filter = filter)
      const delivery = deliveryOf("org/repo", 3_000_000)
      const [answer] = yield* Effect.all([asked(delivery), change], { concurrency: 2 })
      assert.strictEqual(answer, expected)
      has.filter = make(["org/*"], undefined)
      const [count] = yield* Effect.all([addressees(delivery), change], { concurrency: 2 })
      assert.strictEqual(count, 0)
    }))
})

describe("the type of a form", () => {
  const form = Body.of(
    Buffer.from(new URLSearchParams({ payload: `{"repository":{"full_name":"org/repo"}}` }).toString())
  )
  it.effect.each<[ReadonlyArray<string>, string]>([
    [["Content-Type", "application/x-www-form-urlencoded"], "takes"],
    [["content-type", " Application/X-WWW-Form-Urlencoded ; charset=utf-8"], "takes"],
    [["Content-Type", "application/x-www-form-urlencoded", "Content-Type", "application/json"], "takes"],
    [["Content-Type", "application/json", "Content-Type", "application/x-www-form-urlencoded"], "refuses"],
    [["Content-Type", "application/x-www-form-urlencoded2"], "refuses"],
    [[], "refuses"]
  ])("%j: the backend %s", ([headers, expected]) =>
    Effect.gen(function*() {
      const { asked } = yield* setUp(["org/*"])
      assert.strictEqual(yield* asked({ ...deliveryOf("x/y", 0, headers), body: form }), expected)
    }))

  it.effect("of a payload that is compressed tells nothing: nobody with a filter gets it", () =>
    Effect.gen(function*() {
      const { asked } = yield* setUp(["org/*"])
      const body = Body.of(gzipSync(`{"repository":{"full_name":"org/repo"}}`))
      assert.strictEqual(yield* asked({ ...deliveryOf("x/y"), body, headers: ["Content-Encoding", "gzip"] }), "refuses")
    }))
})
