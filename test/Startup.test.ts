import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as HttpServer from "effect/http/HttpServer"
import * as NetAddress from "effect/net/NetAddress"
import packageJson from "../package.json" with { type: "json" }
import { announceFrom } from "../src/Startup.ts"
import { BackendPolicy } from "../src/backends/Policy.ts"
import { BackendRegistry } from "../src/backends/Registry.ts"
import { parse } from "../src/domain/Backend.ts"
import { Log, LogEntries } from "../src/observability/logs/Logging.ts"
import { Metrics } from "../src/observability/metrics/Metrics.ts"
import { OwnListeners } from "../src/runtime/OwnListeners.ts"
import { Settings } from "../src/settings/Settings.ts"
import type { Environment } from "../src/settings/Variables.ts"

const backend = (url: string) => Result.getOrThrow(parse(url, "static"))

/** Runs `announce`. Returns its log lines, and the ports that it names as our own. */
const announced = Effect.fnUntraced(function*(
  settings: Partial<Settings["Service"]>,
  address: NetAddress.SocketAddress = Result.getOrThrow(NetAddress.inetAddressFromIpString("127.0.0.1", 4711)),
  env: Environment = {}
) {
  const ownPorts: Array<number> = []
  const policy = BackendPolicy.of({
    admit: () => Effect.void,
    refusalOf: () => undefined,
    checkAddress: () => undefined
  })
  const listener = HttpServer.make({ address, serve: () => Effect.void })
  const layer = Layer.mergeAll(
    BackendRegistry.layer.pipe(Layer.provideMerge(Layer.succeed(BackendPolicy, policy))),
    Layer.succeed(HttpServer.HttpServer, listener),
    Layer.succeed(OwnListeners, { add: (port) => void ownPorts.push(port), has: () => false })
  ).pipe(Layer.provideMerge(Layer.mergeAll(Settings.layerFrom(settings), Log.layerTest, Metrics.layer)))
  return yield* Effect.provide(
    Effect.gen(function*() {
      yield* announceFrom(env)
      const { entries } = yield* LogEntries
      return { entries, ownPorts }
    }),
    layer
  )
})

describe("announce", () => {
  it.effect("tells the port that the listener was given, the version and the backends", () =>
    Effect.gen(function*() {
      const { entries } = yield* announced({
        port: 0,
        backends: [backend("https://a.example.com/base"), backend("http://b.example.com:81")]
      })
      assert.deepStrictEqual(entries, [{
        level: "info",
        message: "listening",
        fields: {
          address: "127.0.0.1",
          port: 4711,
          version: packageJson.version,
          backends: "a.example.com/base, b.example.com:81",
          store: undefined
        }
      }])
    }))

  it.effect("tells the kind of the store, and nothing of where it is", () =>
    Effect.gen(function*() {
      const url = Redacted.make("postgres://u:hidden@db.example.com/d?sslmode=verify-full")
      const { entries } = yield* announced({ store: Option.some({ kind: "postgres", url }) })
      assert.strictEqual(entries.at(-1)!.fields["store"], "postgres")
      assert.notMatch(JSON.stringify(entries), /hidden|db\.example/)
    }))

  it.effect("warns before it says that it listens", () =>
    Effect.gen(function*() {
      const { entries } = yield* announced({ insecureSkipTlsVerify: true, shutdownGrace: Duration.seconds(1) })
      assert.deepStrictEqual(entries.map(({ level }) => level), ["warn", "warn", "warn", "info"])
      assert.match(entries[0]!.message, /--insecure-skip-tls-verify/)
      assert.match(entries[1]!.message, /^no backend/)
      assert.match(entries[2]!.message, /--shutdown-grace 1s/)
    }))

  it.effect("warns of variables that do nothing, and of a proxy that no backend uses, without their values", () =>
    Effect.gen(function*() {
      const { entries } = yield* announced({ backends: [backend("http://a.example.com")] }, undefined, {
        SPRAYPROXY_STOER: "hunter2",
        HTTPS_PROXY: "ftp://user:hunter2@proxy"
      })
      assert.deepStrictEqual(entries.map(({ level }) => level), ["warn", "warn", "info"])
      assert.strictEqual(
        entries[0]!.message,
        "SPRAYPROXY_STOER is set and is no setting: did you mean SPRAYPROXY_STORE?"
      )
      assert.match(entries[1]!.message, /^HTTPS_PROXY can't be used: a proxy is .*no backend uses it/)
      assert.notInclude(JSON.stringify(entries), "hunter2")
    }))

  it.effect("keeps our own port from being a dynamic backend", () =>
    Effect.gen(function*() {
      const { ownPorts } = yield* announced({ port: 0 })
      assert.deepStrictEqual(ownPorts, [4711])
    }))

  it.effect("has no port to tell of a listener that is a path", () =>
    Effect.gen(function*() {
      const { entries, ownPorts } = yield* announced(
        { backends: [backend("http://a.example.com")] },
        NetAddress.unixPathAddress("/run/sprayproxy.sock")
      )
      assert.deepStrictEqual([entries, ownPorts], [[], []])
    }))
})
