import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as net from "node:net"
import * as os from "node:os"
import { BackendPolicy } from "../../src/backends/Policy.ts"
import { Resolver } from "../../src/backends/connections/Resolver.ts"
import { parse } from "../../src/domain/Backend.ts"
import { OwnListeners } from "../../src/runtime/OwnListeners.ts"
import { Settings } from "../../src/settings/Settings.ts"

const names: Readonly<Record<string, ReadonlyArray<string>>> = {
  "pac.example.com": ["192.0.2.1", "2001:db8::1"],
  "metadata.example.com": ["169.254.169.254"],
  "mixed.example.com": ["192.0.2.1", "fd00:ec2::254"],
  "nat64.example.com": ["64:ff9b::a9fe:a9fe"],
  "localhost": ["127.0.0.1", "::1"]
}

/** `silent.example.com` never answers; a name that is not in the table does not exist. */
const lookup: net.LookupFunction = (hostname, options, callback) => {
  assert.isTrue(options.all)
  if (hostname === "silent.example.com") return
  const addresses = names[hostname]
  if (addresses === undefined) return callback(Object.assign(new Error("ENOTFOUND"), { code: "ENOTFOUND" }), [])
  callback(null, addresses.map((address) => ({ address, family: net.isIP(address) })))
}

const layer = (dynamicBackendAllow: ReadonlyArray<string> = []) =>
  BackendPolicy.layer.pipe(
    Layer.provideMerge(OwnListeners.layer),
    Layer.provide(Layer.succeed(Resolver, { lookup })),
    Layer.provide(Settings.layerFrom({ dynamicBackendAllow }))
  )

const admit = Effect.fnUntraced(function*(url: string) {
  const policy = yield* BackendPolicy
  yield* policy.admit(Result.getOrThrow(parse(url, "dynamic")))
})

const refusal = (url: string) => Effect.map(Effect.flip(admit(url)), ({ reason }) => reason)

describe("admit", () => {
  it.effect("lets every host be registered without patterns", () =>
    Effect.gen(function*() {
      yield* admit("https://pac.example.com/base")
      yield* admit("http://192.0.2.1:8080")
      yield* admit("http://[2001:db8::1]")
    }).pipe(Effect.provide(layer())))

  it.effect("lets only hosts of the patterns be registered, and names these", () =>
    Effect.gen(function*() {
      yield* admit("https://PAC.example.com:8443")
      const reason = "the host is not allowed; allowed are *.example.com, 192.0.2.7"
      assert.strictEqual(yield* refusal("https://example.com"), reason)
      assert.strictEqual(yield* refusal("https://pac.example.org"), reason)
      assert.strictEqual(yield* refusal("https://192.0.2.1"), reason)
      yield* admit("https://192.0.2.7")
    }).pipe(Effect.provide(layer(["*.example.com", "192.0.2.7"]))))

  it.effect.each([
    "http://169.254.169.254",
    "http://2852039166/latest",
    "http://0xa9.0376.43518",
    "http://[fe80::1]",
    "http://[::ffff:169.254.169.254]"
  ])("refuses %s", (url) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* refusal(url), "link-local addresses are not allowed")
    }).pipe(Effect.provide(layer())))

  it.effect.each(["metadata", "mixed", "nat64"])(
    "refuses a name with a forbidden address and does not tell which (%s)",
    (label) =>
      Effect.gen(function*() {
        assert.strictEqual(
          yield* refusal(`https://${label}.example.com`),
          "the host can't resolve to a link-local, metadata or unspecified address, nor to this sprayproxy"
        )
      }).pipe(Effect.provide(layer()))
  )

  it.effect("a pattern does not make a forbidden address allowed", () =>
    Effect.gen(function*() {
      assert.include(yield* refusal("http://169.254.169.254"), "link-local")
      assert.include(yield* refusal("http://metadata.example.com"), "can't resolve")
    }).pipe(Effect.provide(layer(["169.254.169.254", "*.example.com"]))))

  it.effect("admits a name that does not exist yet", () =>
    Effect.provide(admit("https://unknown.example.com"), layer()))

  it.effect("admits a name whose lookup takes more than two seconds, and not before, in routes too", () =>
    Effect.gen(function*() {
      // As routes are, which no interruption reaches.
      const admission = yield* Effect.forkChild(Effect.uninterruptible(admit("https://silent.example.com")))
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(admission.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(admission)))
    }).pipe(Effect.provide(layer())))

  it.effect("refuses our own listeners by address and by name", () =>
    Effect.gen(function*() {
      const listeners = yield* OwnListeners
      const own = Object.values(os.networkInterfaces()).flatMap((all) => all ?? []).filter((one) =>
        one.family === "IPv4"
      )
      const hosts = [...own.map(({ address }) => address), "127.0.0.1", "127.9.9.9", "[::1]", "localhost"]
      for (const host of hosts) yield* admit(`http://${host}:8080`)
      listeners.add(8080)
      listeners.add(443)
      for (const host of hosts) {
        for (const url of [`http://${host}:8080`, `https://${host}/base`, `http://${host}:443`]) {
          assert.include(yield* refusal(url), "this sprayproxy", url)
        }
        yield* admit(`http://${host}`)
        yield* admit(`http://${host}:8081`)
      }
      listeners.add(80)
      assert.include(yield* refusal("http://127.0.0.1"), "this sprayproxy")
      yield* admit("http://192.0.2.1:8080")
    }).pipe(Effect.provide(layer())))
})

describe("checkAddress", () => {
  it.effect("judges the address of a connection", () =>
    Effect.gen(function*() {
      const policy = yield* BackendPolicy
      const listeners = yield* OwnListeners
      listeners.add(8080)
      assert.isUndefined(policy.checkAddress("192.0.2.1", 443))
      assert.isUndefined(policy.checkAddress("127.0.0.1", 8081))
      assert.isUndefined(policy.checkAddress("2001:db8::1", 8080))
      assert.strictEqual(policy.checkAddress("127.0.0.1", 8080)?.reason, "a backend can't be this sprayproxy itself")
      assert.strictEqual(
        policy.checkAddress("169.254.169.254", 80)?.reason,
        "link-local addresses are not allowed"
      )
      assert.strictEqual(policy.checkAddress("fe80::1%eth0", 80)?.reason, "link-local addresses are not allowed")
      // The patterns are about names; a connection only has addresses.
      assert.strictEqual(policy.checkAddress("pac.example.com", 80)?.reason, "unreadable addresses are not allowed")
    }).pipe(Effect.provide(layer(["pac.example.com"]))))
})
