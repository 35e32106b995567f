import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { request as httpsRequest } from "node:https"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { text as textOf } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { isDeepStrictEqual } from "node:util"
import { startBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, send } from "../../support/GitHub.ts"
import { type Program, runToEnd, startProgram } from "../../support/Program.ts"
import { Scrape } from "../../support/Scrape.ts"
import { eventually } from "../../support/eventually.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}.pem`, import.meta.url))

const metricsPortOf = async (program: Program) =>
  Number((await program.logged(({ msg }) => msg === "metrics listening"))["port"])

const scrapeOf = async (program: Program) => {
  const { status, text } = await send(await metricsPortOf(program), { method: "GET", path: "/metrics" })
  assert.strictEqual(status, 200)
  return new Scrape(text)
}

/** The samples of these families that are not 0, without the program's name. */
const counted = (seen: Scrape, families: ReadonlyArray<string>) =>
  Object.fromEntries(
    families.flatMap((name) => Array.from(seen.families.get(`sprayproxy_${name}`)?.samples ?? []))
      .filter(([key, value]) => value !== 0 && !/_bucket|_sum/.test(key))
      .map(([key, value]) => [key.replace("sprayproxy_", ""), value])
  )

const times = <A>(count: number, act: () => Promise<A>) => Promise.all(Array.from({ length: count }, act))

const register = async (program: Program, url: string, method = "POST") => {
  const { status } = await send(program.port, { method, path: "/backends", body: JSON.stringify({ url }) })
  assert.strictEqual(status, 200)
}

/** A request whose sender leaves in the middle of its body. */
const leaveEarly = async (program: Program) => {
  const socket = connect({ port: program.port, host: "127.0.0.1" })
  const head = Object.entries({ host: "x", "content-length": "100", ...await githubHeaders("{}") })
  await once(socket, "connect")
  socket.write(`POST /proxy HTTP/1.1\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\nhalf`)
  await eventually(async () => (await scrapeOf(program)).value("sprayproxy_http_inbound_requests_total") > 0)
  socket.destroy()
}

describe("what was sent is what is counted", () => {
  it.effect("deliveries by answer and reason, attempts by backend and outcome, retries, changes of the registry", () =>
    Effect.gen(function*() {
      const accepting = yield* startBackend()
      const rejecting = yield* startBackend((_, response) => void response.writeHead(400).end())
      const failing = yield* startBackend((_, response) => void response.writeHead(500).end())
      const breaking = yield* startBackend((_, response) => void response.destroy())
      const silent = yield* startBackend(() => {})
      const firstTried = new Set<unknown>()
      const reluctant = yield* startBackend(({ headers }, response) => {
        const guid = headers["x-github-delivery"]
        response.writeHead(firstTried.has(guid) ? 202 : 503).end()
        firstTried.add(guid)
      })
      const closed = yield* Effect.scoped(startBackend())
      const dynamic = [rejecting, failing, breaking, silent, reluctant, closed]
      const program = yield* startProgram([
        "--backend",
        accepting.url,
        "--enable-dynamic-backends",
        "--forwarding-retries",
        "1",
        "--forwarding-timeout",
        "3s",
        "--max-request-size",
        "1000"
      ])
      yield* Effect.promise(async () => {
        await leaveEarly(program)
        await times(4, () => deliver(program.port, "{}"))
        await Promise.all(dynamic.map(({ url }) => register(program, url)))
        await times(3, () => deliver(program.port, "{}", { path: "/" }))

        const signed = await githubHeaders("{}")
        const { "x-hub-signature-256": _, ...unsigned } = signed
        const loop = [1, 2, 3, 4, 5].map((n) => `1.1 sprayproxy-${n}`).join(", ")
        await times(2, () => send(program.port, { body: "forged", headers: signed }))
        await times(3, () => send(program.port, { body: "{}", headers: unsigned }))
        await send(program.port, { body: "{}", headers: { ...signed, "x-hub-signature-256": "sha1=00" } })
        await times(2, () => deliver(program.port, "x".repeat(1_001)))
        await deliver(program.port, "{}", { headers: { via: loop } })
        // No deliveries.
        await send(program.port, { method: "GET" })
        await send(program.port, { method: "PUT", body: "{}" })
        await send(program.port, { path: "/other", body: "{}" })

        await eventually(async () => (await scrapeOf(program)).value("sprayproxy_attempts_in_flight") === 0)
        const seen = await scrapeOf(program)
        assert.deepStrictEqual(
          counted(seen, ["http_inbound_requests_total", "deliveries_total", "delivery_duration_seconds"]),
          {
            "http_inbound_requests_total": 1 + 4 + 3 + 9,
            "deliveries_total{answer=\"proxied\",reason=\"none\"}": 4,
            "deliveries_total{answer=\"failed\",reason=\"none\"}": 3,
            "deliveries_total{answer=\"refused\",reason=\"signature mismatch\"}": 2,
            "deliveries_total{answer=\"refused\",reason=\"signature missing\"}": 3,
            "deliveries_total{answer=\"refused\",reason=\"signature malformed\"}": 1,
            "deliveries_total{answer=\"refused\",reason=\"body cut off\"}": 1,
            "deliveries_total{answer=\"refused\",reason=\"body too large\"}": 2,
            "deliveries_total{answer=\"refused\",reason=\"loop\"}": 1,
            "delivery_duration_seconds_count{answer=\"proxied\"}": 4,
            "delivery_duration_seconds_count{answer=\"failed\"}": 3,
            "delivery_duration_seconds_count{answer=\"refused\"}": 10
          }
        )
        assert.deepStrictEqual(
          counted(seen, [
            "http_forwarded_requests_total",
            "attempts_total",
            "attempt_duration_seconds",
            "retries_total",
            "http_response_time_duration_seconds"
          ]),
          {
            ...attempts(accepting.host, "delivered", "none", 7),
            ...attempts(rejecting.host, "rejected", "http-error", 3),
            ...attempts(failing.host, "failed", "http-error", 3),
            ...attempts(breaking.host, "broken off", "non-http-error", 3),
            ...attempts(silent.host, "timed out", "non-http-error", 3),
            ...attempts(reluctant.host, "delivered", "none", 3),
            ...attempts(closed.host, "unreachable", "non-http-error", 3),
            [`retries_total{host="${reluctant.host}"}`]: 3,
            [`retries_total{host="${closed.host}"}`]: 3,
            "http_response_time_duration_seconds_count": 7 + 3 + 3 + 3
          }
        )
        assert.deepStrictEqual(counted(seen, ["backends", "registry_changes_total", "webhook_secrets"]), {
          "backends{source=\"static\"}": 1,
          "backends{source=\"dynamic\"}": dynamic.length,
          "registry_changes_total{change=\"registered\"}": dynamic.length,
          "webhook_secrets": 1
        })

        await Promise.all(dynamic.map(({ url }) => register(program, url, "DELETE")))
        const after = await scrapeOf(program)
        for (const { host } of dynamic) assert.deepStrictEqual(after.keysWith(host), [])
        assert.lengthOf(after.keysWith(accepting.host), 26)
        assert.strictEqual(after.value("sprayproxy_body_memory_used_bytes"), 0)
      })
    }))

  it.effect("what is accepted before it has ended is in flight until then", () =>
    Effect.gen(function*() {
      const held: Array<() => void> = []
      const slow = yield* startBackend((_, response) => void held.push(() => response.writeHead(202).end()))
      const program = yield* startProgram(["--backend", slow.url, "--reply-deadline", "100ms"])
      yield* Effect.promise(async () => {
        await times(3, () => deliver(program.port, "{}"))
        const seen = await scrapeOf(program)
        assert.strictEqual(seen.value(`sprayproxy_deliveries_total{answer="accepted",reason="none"}`), 3)
        assert.strictEqual(seen.value("sprayproxy_deliveries_in_flight"), 3)
        assert.strictEqual(seen.value("sprayproxy_attempts_in_flight"), 3)
        assert.strictEqual(seen.value("sprayproxy_body_memory_used_bytes"), 3 * (32 * 1024 + 4 * 1024 + 2))
        const outcome = `sprayproxy_attempts_total{host="${slow.host}",outcome="delivered"}`
        assert.strictEqual(seen.value(outcome), 0)
        for (const release of held) release()
        await eventually(async () => (await scrapeOf(program)).value("sprayproxy_deliveries_in_flight") === 0)
        const after = await scrapeOf(program)
        assert.strictEqual(after.value(outcome), 3)
        assert.strictEqual(after.value("sprayproxy_body_memory_used_bytes"), 0)
      })
    }))
})

/** The samples in which attempts on one backend, all with the same outcome, are counted. */
const attempts = (host: string, outcome: string, error: string, count: number) => ({
  [`http_forwarded_requests_total{error="${error}",host="${host}"}`]: count,
  [`attempts_total{host="${host}",outcome="${outcome}"}`]: count,
  [`attempt_duration_seconds_count{host="${host}"}`]: count
})

describe("scrapes under load", () => {
  it.effect("disturb no delivery, are each complete, and never go back", () =>
    Effect.gen(function*() {
      const backends = [yield* startBackend(), yield* startBackend(), yield* startBackend()]
      const program = yield* startProgram(["--backend", backends.map(({ url }) => url).join(",")])
      yield* Effect.promise(async () => {
        const replies: Array<number> = []
        const scrapes: Array<Scrape> = []
        const delivering = times(300, async () => replies.push((await deliver(program.port, "{}")).status))
        await eventually(async () => scrapes.push(await scrapeOf(program)) > 0 && replies.length === 300)
        await delivering
        assert.deepStrictEqual(Array.from(new Set(replies)), [200])
        for (const [index, scrape] of scrapes.slice(1).entries()) {
          for (const [key, before] of scrapes[index]!.samples) {
            if (/_(total|bucket|count)\b/.test(key)) assert.isAtLeast(scrape.value(key), before, key)
          }
        }
        const seen = await scrapeOf(program)
        assert.strictEqual(seen.value(`sprayproxy_deliveries_total{answer="proxied",reason="none"}`), 300)
        for (const { host } of backends) {
          assert.strictEqual(
            seen.value(`sprayproxy_http_forwarded_requests_total{error="none",host="${host}"}`),
            300
          )
        }
      })
    }))
})

describe("the end of the program", () => {
  it.effect("does not wait for a scraper that is connected and silent", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([])
      yield* Effect.promise(async () => {
        const socket = connect({ port: await metricsPortOf(program), host: "127.0.0.1" })
        socket.on("error", () => {})
        await once(socket, "connect")
        program.process.kill("SIGTERM")
        assert.strictEqual(await program.exit, 0)
        socket.destroy()
      })
    }))

  it.effect("at its start is one line, where the certificate of the metrics can't be used", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* Effect.promise(() =>
        runToEnd(
          [
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--host",
            "127.0.0.1",
            "--metrics-cert",
            fixture("localhost"),
            "--metrics-key",
            fixture("other-key")
          ],
          { GH_APP_WEBHOOK_SECRET: "x" }
        )
      )
      assert.strictEqual(code, 1)
      assert.match(stderr, /^[^\n]*--metrics-cert [^\n]* --metrics-key [^\n]*\n$/)
    }))
})

/** Debian's package `prometheus` has both. */
const missing = (["prometheus", "promtool"] as const).filter((name) => spawnSync(name, ["--version"]).status !== 0)
if (missing.length > 0) {
  console.warn(`SKIPPED: no ${missing.join(" and no ")} here; apt-get install --no-install-recommends prometheus`)
}

const tlsFlags = ["--metrics-cert", fixture("localhost"), "--metrics-key", fixture("localhost-key")]

const scrapeTls = async (port: number) => {
  const request = httpsRequest({
    port,
    host: "127.0.0.1",
    path: "/metrics",
    ca: await readFile(fixture("ca")),
    agent: false
  })
  const [response] = await once(request.end(), "response")
  return textOf(response)
}

describe.skipIf(missing.length > 0)("the tools of Prometheus", () => {
  it.effect("promtool finds nothing to say about a scrape", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url, ...tlsFlags])
      const scraped = yield* Effect.promise(async () => {
        await deliver(program.port, "{}")
        return scrapeTls(await metricsPortOf(program))
      })
      const checked = spawnSync("promtool", ["check", "metrics"], { input: scraped, encoding: "utf8" })
      assert.deepStrictEqual([checked.stdout + checked.stderr, checked.status], ["", 0])
    }))

  it.effect("a Prometheus that scrapes over TLS answers queries with the counts that were sent", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const failing = yield* startBackend((_, response) => void response.writeHead(500).end())
      const program = yield* startProgram([
        "--backend",
        `${backend.url},${failing.url}`,
        "--forwarding-retries",
        "0",
        ...tlsFlags
      ])
      const query = yield* startPrometheus(yield* Effect.promise(() => metricsPortOf(program)))
      yield* Effect.promise(async () => {
        // Prometheus has seen the zeros, so that an increase from them can be told.
        await eventually(async () => (await query("up"))[0]?.value === 1, "the first scrape")
        await times(7, () => deliver(program.port, "{}"))
        await times(2, () => send(program.port, { body: "{}" }))
        const expected: Record<string, number> = {
          "sprayproxy_http_inbound_requests_total": 9,
          "sprayproxy_deliveries_total{answer=\"failed\"}": 7,
          "sprayproxy_deliveries_total{answer=\"refused\",reason=\"signature missing\"}": 2,
          [`sprayproxy_http_forwarded_requests_total{host="${backend.host}",error="none"}`]: 7,
          [`sprayproxy_http_forwarded_requests_total{host="${failing.host}",error="http-error"}`]: 7,
          [`sprayproxy_attempts_total{host="${failing.host}",outcome="failed"}`]: 7,
          "sum(sprayproxy_attempts_total)": 14,
          "sprayproxy_http_response_time_duration_seconds_count": 14,
          "sprayproxy_http_response_time_duration_seconds_bucket{le=\"+Inf\"}": 14,
          [`sprayproxy_attempt_duration_seconds_count{host="${backend.host}"}`]: 7,
          "sprayproxy_delivery_duration_seconds_count{answer=\"failed\"}": 7,
          "sprayproxy_backends{source=\"static\"}": 2,
          "count(sprayproxy_build_info)": 1
        }
        const answers = async () => {
          const results = await Promise.all(Object.keys(expected).map((promql) => query(promql)))
          return Object.fromEntries(
            Object.keys(expected).map((promql, index) => [promql, results[index]!.map(({ value }) => value)])
          )
        }
        const wanted = Object.fromEntries(Object.entries(expected).map(([promql, value]) => [promql, [value]]))
        await eventually(async () => isDeepStrictEqual(await answers(), wanted), "the counts").catch(async () =>
          assert.deepStrictEqual(await answers(), wanted)
        )
        const seen = new Scrape(await scrapeTls(await metricsPortOf(program)))
        const stored = await query(`count by (__name__) ({__name__=~"(sprayproxy|process|nodejs)_.+"})`)
        assert.strictEqual(stored.reduce((sum, { value }) => sum + value, 0), seen.samples.size)
      })
    }))
})

/** A Prometheus of its own that scrapes this port every second, as a function that asks it. */
const startPrometheus = Effect.fnUntraced(function*(metricsPort: number) {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "sprayproxy-prometheus-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  const config = join(directory, "prometheus.yml")
  yield* Effect.promise(() =>
    writeFile(
      config,
      `global: { scrape_interval: 1s }
scrape_configs:
  - job_name: sprayproxy
    scheme: https
    tls_config: { ca_file: "${fixture("ca")}" }
    static_configs: [{ targets: ["127.0.0.1:${metricsPort}"] }]
`
    )
  )
  const { port } = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn("prometheus", [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=127.0.0.1:0`
      ], { stdio: ["ignore", "ignore", "pipe"] })
      const exit = once(child, "exit")
      const output: Array<string> = []
      const listening = new Promise<number>((resolve, reject) => {
        createInterface({ input: child.stderr }).on("line", (line) => {
          output.push(line)
          const all = output.join("\n")
          const address = /msg="Listening on" address=\S+:(\d+)/.exec(all)
          if (address !== null && all.includes("Server is ready")) resolve(Number(address[1]))
        })
        void exit.then(() => reject(new Error(`prometheus ended: ${output.join("\n")}`)))
      })
      return { child, exit, port: await listening }
    }),
    ({ child, exit }) =>
      Effect.promise(async () => {
        child.kill("SIGKILL")
        await exit
      })
  )
  return async (promql: string): Promise<ReadonlyArray<{ readonly value: number }>> => {
    const path = `/api/v1/query?query=${encodeURIComponent(promql)}`
    const answer = await send(port, { method: "GET", path })
    assert.strictEqual(answer.status, 200, answer.text)
    const { data } = JSON.parse(answer.text) as {
      readonly data: { readonly result: ReadonlyArray<{ readonly value: readonly [number, string] }> }
    }
    return data.result.map(({ value }) => ({ value: Number(value[1]) }))
  }
})
