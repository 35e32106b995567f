import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { X509Certificate } from "node:crypto"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { connect as connectTcp, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import { fileURLToPath } from "node:url"
import { InvalidMetricsCertificate } from "../../src/http/MetricsCertificate.ts"
import { layer } from "../../src/http/MetricsServer.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { OwnListeners } from "../../src/runtime/OwnListeners.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { type Files, filesInMemory } from "../support/FilesInMemory.ts"
import { send } from "../support/GitHub.ts"
import { Scrape, scrape, withFreshMetrics } from "../support/Scrape.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/tls/${name}.pem`, import.meta.url))
const pem = (name: string) => readFileSync(fixture(name), "utf8")

const tlsSettings = { metricsCert: Option.some("/tls/tls.crt"), metricsKey: Option.some("/tls/tls.key") }

/** A directory that holds a pair, as a mounted secret does. */
const directoryOf = (name: string): Files =>
  new Map([["/tls/tls.crt", pem(name)], ["/tls/tls.key", pem(`${name}-key`)]])

const start = Effect.fnUntraced(function*(
  settings: Partial<Settings["Service"]> = {},
  files: Files = new Map()
) {
  const ownListeners: Array<number> = []
  const services = yield* Layer.build(
    layer.pipe(
      Layer.provideMerge(Layer.mergeAll(
        Settings.layerFrom({ host: "127.0.0.1", metricsPort: 0, ...settings }),
        Log.layerTest,
        files.size === 0 ? NodeFileSystem.layer : filesInMemory(files),
        Layer.succeed(OwnListeners, { add: (port) => void ownListeners.push(port), has: () => false })
      ))
    )
  )
  const { entries } = Context.get(services, LogEntries)
  const port = Number(entries.find(({ message }) => message === "metrics listening")?.fields["port"])
  return { port, entries, ownListeners }
})

const get = (port: number, path = "/metrics", method = "GET") => Effect.promise(() => send(port, { method, path }))

describe("GET /metrics", () => {
  it.effect("answers with the metrics of the program, in Prometheus's text format", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* Metric.update(Metric.counter("test_total", { description: "A test." }), 3)
      const { port } = yield* start()
      const { headers, status, text } = yield* get(port)
      assert.strictEqual(status, 200)
      assert.strictEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
      assert.strictEqual(new Scrape(text).value("test_total"), 3)
      assert.strictEqual(new Scrape((yield* get(port, "/metrics?name=x")).text).value("test_total"), 3)
    })))

  it.effect("leaves the body out for HEAD", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { port } = yield* start()
      const { headers, status, text } = yield* get(port, "/metrics", "HEAD")
      assert.deepStrictEqual([status, text], [200, ""])
      assert.strictEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
    })))

  it.effect.each(["/", "/proxy", "/metrics/", "/METRICS", "/backends", "/healthz"])(
    "and not %s, which is not found",
    (path) =>
      withFreshMetrics(Effect.gen(function*() {
        const { port } = yield* start()
        assert.strictEqual((yield* get(port, path)).status, 404)
        assert.strictEqual((yield* get(port, path, "POST")).status, 404)
      }))
  )

  it.effect.each(["POST", "PUT", "DELETE"])(
    "and not %s, which is not allowed",
    (method) =>
      withFreshMetrics(Effect.gen(function*() {
        const { port } = yield* start()
        const { headers, status } = yield* get(port, "/metrics", method)
        assert.deepStrictEqual([status, headers["allow"]], [405, "GET"])
      }))
  )
})

describe("the listener", () => {
  it.effect("says where it listens, and that no backend may be there", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { entries, ownListeners, port } = yield* start()
      assert.isAbove(port, 0)
      assert.deepStrictEqual(ownListeners, [port])
      assert.deepStrictEqual(entries[0]!.fields, { address: "127.0.0.1", port })
    })))

  it.effect.each([["plain", {}], ["TLS", tlsSettings]] as const)(
    "is closed at once though a scraper is connected and silent (%s)",
    ([, settings]) =>
      withFreshMetrics(Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { port } = yield* Scope.provide(start(settings, directoryOf("localhost")), scope)
        const socket: Socket = connectTcp({ port, host: "127.0.0.1" })
        socket.on("error", () => {})
        yield* Effect.promise(() => once(socket, "connect"))
        yield* Effect.promise(() => new Promise((resolve) => socket.write("GET /metrics HTTP/1.1\r\n", resolve)))
        yield* Scope.close(scope, Exit.void)
        socket.destroy()
        const refused = connectTcp({ port, host: "127.0.0.1" })
        const [error] = yield* Effect.promise(() => once(refused, "error"))
        assert.propertyVal(error, "code", "ECONNREFUSED")
      }))
  )
})

/** Scrapes over TLS; the certificate it was shown, and the answer. */
const getTls = (port: number, host = "localhost") =>
  Effect.promise(async () => {
    const socket = connectTls({ port, host: "127.0.0.1", servername: host, ca: pem("ca") })
    await once(socket, "secureConnect")
    const shown = socket.getPeerX509Certificate()!.fingerprint256
    const chunks: Array<Buffer> = []
    socket.on("data", (chunk: Buffer) => chunks.push(chunk))
    socket.write(`GET /metrics HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    await once(socket, "close")
    return { shown, statusLine: Buffer.concat(chunks).toString().split("\r\n")[0] }
  })

const fingerprintOf = (name: string) => new X509Certificate(pem(name)).fingerprint256
const expiryOf = (name: string) => Date.parse(new X509Certificate(pem(name)).validTo) / 1_000
const expiry = Effect.map(
  scrape,
  (seen) => seen.value("sprayproxy_metrics_certificate_expiry_timestamp_seconds")
)

const warning = "metrics certificate not loaded, keeping the last one"

describe("TLS", () => {
  it.effect("is spoken with the certificate of the files, whose expiry is a metric", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { port } = yield* start(tlsSettings, directoryOf("localhost"))
      assert.deepStrictEqual(yield* getTls(port), {
        shown: fingerprintOf("localhost"),
        statusLine: "HTTP/1.1 200 OK"
      })
      assert.strictEqual(yield* expiry, expiryOf("localhost"))
    })))

  it.effect("has no expiry where it is off", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* start()
      assert.deepStrictEqual((yield* scrape).keysWith("certificate"), [])
    })))

  it.effect("takes new files within five seconds, without a restart", () =>
    withFreshMetrics(Effect.gen(function*() {
      const files = directoryOf("localhost")
      const { entries, port } = yield* start(tlsSettings, files)
      for (const [path, content] of directoryOf("other")) files.set(path, content)
      assert.strictEqual((yield* getTls(port)).shown, fingerprintOf("localhost"))
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* getTls(port, "other.example.com")).shown, fingerprintOf("other"))
      assert.strictEqual(yield* expiry, expiryOf("other"))
      assert.deepStrictEqual(entries.slice(1).map(({ message }) => message), ["metrics certificate loaded"])
    })))

  it.effect("keeps the last pair while half of the next one is there, and says so once", () =>
    withFreshMetrics(Effect.gen(function*() {
      const files = directoryOf("localhost")
      const { entries, port } = yield* start(tlsSettings, files)
      files.set("/tls/tls.crt", pem("other"))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* getTls(port)).shown, fingerprintOf("localhost"))
      assert.strictEqual(yield* expiry, expiryOf("localhost"))
      assert.deepStrictEqual(entries.slice(1).map(({ level, message }) => [level, message]), [["warn", warning]])
      files.set("/tls/tls.key", pem("other-key"))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* getTls(port, "other.example.com")).shown, fingerprintOf("other"))
      assert.deepStrictEqual(entries.slice(2).map(({ message }) => message), ["metrics certificate loaded"])
    })))

  it.effect("keeps it when the files are gone or are no certificates, and warns of each anew", () =>
    withFreshMetrics(Effect.gen(function*() {
      const files = directoryOf("localhost")
      const { entries, port } = yield* start(tlsSettings, files)
      const key = pem("localhost-key")
      files.delete("/tls/tls.key")
      yield* TestClock.adjust("10 seconds")
      files.set("/tls/tls.key", "no key")
      yield* TestClock.adjust("10 seconds")
      files.set("/tls/tls.key", key)
      yield* TestClock.adjust("10 seconds")
      files.delete("/tls/tls.key")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* getTls(port)).shown, fingerprintOf("localhost"))
      assert.deepStrictEqual(entries.slice(1).map(({ message }) => message), [warning, warning, warning])
    })))

  it.effect("looks no more when the listener has closed", () =>
    withFreshMetrics(Effect.gen(function*() {
      const files = directoryOf("localhost")
      const scope = yield* Scope.make()
      const { entries } = yield* Scope.provide(start(tlsSettings, files), scope)
      yield* Scope.close(scope, Exit.void)
      files.clear()
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(entries, 1)
      assert.strictEqual((yield* scrape).samples.size, 0)
    })))

  const unusable: ReadonlyArray<readonly [what: string, files: Files]> = [
    ["a certificate that is none", new Map([...directoryOf("localhost"), ["/tls/tls.crt", "no certificate"]])],
    ["a key of another certificate", new Map([...directoryOf("localhost"), ["/tls/tls.key", pem("other-key")]])],
    ["a file that is not there", new Map([["/tls/tls.crt", pem("localhost")]])]
  ]

  it.effect.each(unusable)(
    "%s ends the start with one line that names both settings",
    ([, files]) =>
      withFreshMetrics(Effect.gen(function*() {
        const error = yield* Effect.flip(start(tlsSettings, files))
        assert.instanceOf(error, InvalidMetricsCertificate)
        assert.match(
          error.message,
          /^--metrics-cert "\/tls\/tls.crt" and --metrics-key "\/tls\/tls.key" can't be used \(.+\); they take .+ key$/
        )
      }))
  )
})
