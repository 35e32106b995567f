/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as Http from "node:http"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PublicServer } from "../../../src/http/PublicServer.ts"
import { Readiness } from "../../../src/http/Readiness.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { RefusalLog } from "../../../src/observability/logs/RefusalLog.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { listen, startBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { startReverseProxy } from "../../support/ReverseProxy.ts"
import { eventually } from "../../support/eventually.ts"

const mebibyte = Buffer.alloc(1024 * 1024, "x")

/** Sends a body of some MiB, until the answer is there. */
const upload = (
  port: number,
  mebibytes: number,
  headers: Record<string, string>
): Promise<{ readonly status: number; readonly text: string }> =>
  new Promise((resolve, reject) => {
    const request = Http.request({
      host: "127.0.0.1",
      port,
      method: "POST",
      path: "/proxy",
      agent: false,
      // Else the proxy closes the connection with the answer, and what is still on its way resets it.
      headers: { connection: "keep-alive", ...headers }
    })
    const answered = new AbortController()
    let sent = 0
    const write = () => {
      while (!answered.signal.aborted && sent < mebibytes) {
        sent += 1
        if (!request.write(mebibyte)) return request.once("drain", write)
      }
      return request.end()
    }
    request.on("error", (error) => answered.signal.aborted || reject(error))
    request.on("response", (response) => {
      answered.abort()
      let text = ""
      response.on("data", (chunk) => text += String(chunk))
      response.on("error", reject)
      response.on("end", () => {
        request.destroy()
        resolve({ status: response.statusCode!, text })
      })
    })
    write()
  })

const forgedSignature = `sha256=${"0".repeat(64)}`

/** Runs `count` tasks, `concurrency` at a time. */
const inParallel = async <A>(count: number, concurrency: number, task: (number: number) => Promise<A>) => {
  const results: Array<A> = []
  let next = 0
  const workers = Array.from({ length: concurrency }, async () => {
    while (next < count) {
      const number = next++
      results[number] = await task(number)
    }
  })
  await Promise.all(workers)
  return results
}

/** The size in MiB of the n-th body: most are small, some are beyond what is discarded in one go. */
const sizeOf = (number: number) => number % 10 === 0 ? 30 : 1 + number % 5

/** Bodies that are refused before they are read, in the three ways there are. */
const refusedEarly = async (port: number, number: number) => {
  const mebibytes = sizeOf(number)
  switch (number % 3) {
    case 0: {
      const length = String(mebibytes * mebibyte.length)
      const reply = await upload(port, mebibytes, { "content-length": length, "x-hub-signature-256": forgedSignature })
      return [number, reply.status, reply.text, 413, "request body too large"]
    }
    case 1: {
      const reply = await upload(port, mebibytes, { "x-hub-signature-256": forgedSignature })
      return [number, reply.status, reply.text, 413, "request body too large"]
    }
    default: {
      const reply = await upload(port, mebibytes, { "x-hub-signature-256": "sha256=forged" })
      return [number, reply.status, reply.text, 400, "bad request"]
    }
  }
}

const assertAsExpected = (results: ReadonlyArray<ReadonlyArray<unknown>>) =>
  assert.deepStrictEqual(
    results.filter(([, status, text, expected, words]) => status !== expected || text !== words),
    []
  )

describe("behind a reverse proxy that keeps connections", () => {
  it.live("thousands of deliveries with pauses between them: none is a 502, and no connection is closed on it", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const proxy = yield* startReverseProxy(program.port, 24)
      yield* Effect.promise(async () => {
        const headers = await githubHeaders("{}")
        const forged = { ...headers, "x-hub-signature-256": forgedSignature }
        const results = await inParallel(4_000, 40, async (number) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 20))
          const isForged = number % 7 === 0
          const reply = await send(proxy.port, { body: "{}", headers: isForged ? forged : headers })
          return [number, reply.status, reply.text, ...isForged ? [400, "bad request"] : [200, "proxied"]]
        })
        assertAsExpected(results)
        assert.deepStrictEqual(proxy.errors, [])
        assert.isAtMost(proxy.opened(), 24)
        assert.strictEqual(backend.received.length, 4_000 - Math.ceil(4_000 / 7))
      })
    }))

  it.live("bodies of 1 to 30 MiB that are refused early, hundreds at once: each gets its 413 or 400", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url, "--max-request-size", "512KiB"])
      const proxy = yield* startReverseProxy(program.port, 32)
      yield* Effect.promise(async () => {
        assertAsExpected(await inParallel(240, 40, (number) => refusedEarly(proxy.port, number)))
        assert.deepStrictEqual(proxy.errors, [])
        // The same proxy still delivers.
        assert.strictEqual((await deliver(proxy.port, "{}")).status, 200)
        assert.strictEqual(backend.received.length, 1)
      })
    }))

  it.live("forged bodies of 1 to 30 MiB that are read to their end: each gets its 400", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram([
        "--backend",
        backend.url,
        "--max-request-size",
        "30MiB",
        // The machine may be busy: a body may wait for memory as long as it likes.
        "--reply-deadline",
        "50s"
      ])
      const proxy = yield* startReverseProxy(program.port, 32)
      yield* Effect.promise(async () => {
        const results = await inParallel(60, 16, async (number) => {
          const mebibytes = sizeOf(number)
          const reply = await upload(proxy.port, mebibytes, {
            "content-length": String(mebibytes * mebibyte.length),
            "x-hub-signature-256": forgedSignature
          })
          return [number, reply.status, reply.text, 400, "bad request"]
        })
        assertAsExpected(results)
        assert.deepStrictEqual(proxy.errors, [])
      })
    }))

  it.live("an early answer is still there for a slow client that reads only when it has sent everything", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--max-request-size", "512KiB"])
      yield* Effect.promise(async () => {
        const mebibytes = 6
        const answers = await inParallel(8, 8, async () => {
          const socket = connect({ port: program.port, host: "127.0.0.1" }).pause().on("error", () => {})
          const ended = new Promise((resolve) => socket.once("close", resolve))
          socket.write(
            `POST /proxy HTTP/1.1\r\nHost: x\r\nContent-Length: ${mebibytes * mebibyte.length}\r\n` +
              `X-Hub-Signature-256: ${forgedSignature}\r\n\r\n`
          )
          for (let sent = 0; sent < mebibytes; sent++) {
            // Slow for a second, half of the time for which what still comes is discarded.
            if (sent === 3) await new Promise((resolve) => setTimeout(resolve, 1_000))
            await new Promise((resolve) => socket.write(mebibyte, resolve))
          }
          let text = ""
          socket.on("data", (chunk) => text += String(chunk)).resume()
          await ended
          return text
        })
        for (const answer of answers) {
          assert.match(answer, /^HTTP\/1\.1 413 /)
          assert.match(answer, /request body too large/)
        }
      })
    }))

  it.live("a connection is announced to be kept for 120 s", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([])
      yield* Effect.promise(async () => {
        const agent = new Http.Agent({ keepAlive: true })
        const reply = await send(program.port, { method: "GET", path: "/healthz", agent })
        agent.destroy()
        assert.deepInclude(reply.headers, { connection: "keep-alive", "keep-alive": "timeout=120" })
      })
    }))
})

describe("PublicServer", () => {
  // kube-rbac-proxy lets go of a connection that was idle for 90 s; that can't be waited out here.
  it.effect("keeps idle connections longer than the sidecar reuses them, and gives senders less time than that", () =>
    Effect.gen(function*() {
      const { server } = yield* PublicServer
      assert.strictEqual(server.keepAliveTimeout, 120_000)
      assert.isAbove(server.keepAliveTimeout, 90_000)
      assert.strictEqual(server.timeout, 0)
      assert.strictEqual(server.maxRequestsPerSocket, 0)
      assert.strictEqual(server.headersTimeout, 10_000)
      assert.strictEqual(server.requestTimeout, 37_000)
    }).pipe(Effect.provide(PublicServer.layer.pipe(
      Layer.provide(Layer.mergeAll(
        RefusalLog.layer.pipe(Layer.provide(Log.layerTest)),
        Readiness.layer,
        Settings.layerFrom({ replyDeadline: Duration.seconds(7) })
      ))
    ))))
})

const hasNginx = spawnSync("nginx", ["-v"]).status === 0
if (!hasNginx) console.warn("SKIPPED: there is no nginx on this machine, the tests behind it did not run")

const startNginx = Effect.fnUntraced(function*(upstream: number) {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sprayproxy-nginx-"))),
    (path) => Effect.sync(() => fs.rmSync(path, { recursive: true }))
  )
  // nginx can't take a free port and tell it.
  const port = yield* Effect.scoped(listen(createServer()))
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`)
  const root = process.getuid?.() === 0 ? "user root;" : ""
  fs.writeFileSync(
    join(directory, "nginx.conf"),
    `daemon off; ${root} pid ${directory}/pid; error_log ${directory}/error.log warn;
    events { worker_connections 1024; }
    http {
      access_log off; client_max_body_size 0; ${temporary.join(" ")}
      upstream sprayproxy { server 127.0.0.1:${upstream} max_fails=0; keepalive 32; keepalive_timeout 90s; }
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://sprayproxy; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_request_buffering off; proxy_next_upstream off;
        }
      }
    }`
  )
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn("nginx", [
        "-p",
        directory,
        "-e",
        `${directory}/error.log`,
        "-c",
        `${directory}/nginx.conf`
      ], {
        stdio: "ignore"
      })
      return { child, ended: once(child, "exit") }
    }),
    ({ child, ended }) =>
      Effect.promise(async () => {
        child.kill("SIGTERM")
        await ended
      })
  )
  yield* Effect.promise(() =>
    eventually(
      () => send(port, { method: "GET", path: "/healthz" }).then(({ status }) => status === 200, () => false),
      "nginx"
    )
  )
  return { port }
})

describe.skipIf(!hasNginx)("behind nginx", () => {
  it.live("thousands of deliveries: none is a 502", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const nginx = yield* startNginx(program.port)
      yield* Effect.promise(async () => {
        const headers = await githubHeaders("{}")
        const results = await inParallel(2_000, 32, async (number) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 20))
          const reply = await send(nginx.port, { body: "{}", headers })
          return [number, reply.status, reply.text, 200, "proxied"]
        })
        assertAsExpected(results)
        assert.strictEqual(backend.received.length, 2_000)
      })
    }))

  it.live("bodies that are refused early: each gets its 413 or 400", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--max-request-size", "512KiB"])
      const nginx = yield* startNginx(program.port)
      yield* Effect.promise(async () =>
        assertAsExpected(await inParallel(240, 40, (number) => refusedEarly(nginx.port, number)))
      )
    }))
})
