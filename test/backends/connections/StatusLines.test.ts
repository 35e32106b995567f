import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { fileURLToPath } from "node:url"
import { BackendPolicy } from "../../../src/backends/Policy.ts"
import { BackendConnections } from "../../../src/backends/connections/Connections.ts"
import { Resolver } from "../../../src/backends/connections/Resolver.ts"
import type { AttemptReport } from "../../../src/domain/AttemptReport.ts"
import { type Backend, parse } from "../../../src/domain/Backend.ts"
import { Body } from "../../../src/domain/Body.ts"
import { Forwarder } from "../../../src/forwarding/Forwarder.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { Metrics } from "../../../src/observability/metrics/Metrics.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { listen } from "../../support/Backend.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))

const certificate = { cert: readFileSync(fixture("localhost.pem")), key: readFileSync(fixture("localhost-key.pem")) }

/** Forwards on real connections; an attempt succeeds when undici has let go of it. */
const setUp = Effect.fnUntraced(function*(
  settings: Partial<Settings["Service"]> = {},
  env: Readonly<Record<string, string>> = {}
) {
  const services = yield* Layer.build(Forwarder.layer.pipe(
    Layer.provide(BackendConnections.layerFrom(env)),
    Layer.provide(Layer.mergeAll(
      NodeFileSystem.layer,
      Log.layerTest,
      Resolver.layer,
      Timers.layer,
      Metrics.layer,
      Layer.succeed(BackendPolicy, {
        refusalOf: () => undefined,
        checkAddress: () => undefined,
        admit: () => Effect.void
      })
    )),
    Layer.provideMerge(Timers.layer),
    Layer.provide(Settings.layerFrom({ forwardingRetries: 0, backendCa: Option.some(fixture("ca.pem")), ...settings }))
  ))
  const forwarder = Context.get(services, Forwarder)
  const timers = Context.get(services, Timers)
  return (backend: Backend, body = "{}") =>
    Effect.callback<AttemptReport>((resume) => {
      let report: AttemptReport
      const delivery = {
        requestId: "request",
        guid: "guid",
        event: "push",
        method: "POST",
        target: "/proxy",
        forwardedTarget: "/",
        headers: ["Content-Length", String(body.length)],
        body: new Body([Buffer.from(body)], body.length)
      }
      const attempt = forwarder.attempt(backend, delivery, timers.now() + 15_000, {
        settled: (settled) => void (report = settled),
        ended: () => resume(Effect.succeed(report))
      })
      attempt.start()
      // undici lets a connection rest for a turn of the event loop before it takes the next request.
    }).pipe(
      Effect.tap(Effect.promise(() => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))))
    )
})

/** A backend that gets the connection itself; `secure` after the handshake. */
const startRaw = (secure: boolean, connected: (socket: Net.Socket) => void) =>
  Effect.map(
    Effect.suspend(() =>
      listen(
        secure
          ? Tls.createServer({ ...certificate, noDelay: true }, connected)
          : Net.createServer({ noDelay: true }, connected)
      )
    ),
    (port) => Result.getOrThrow(parse(`${secure ? "https" : "http"}://localhost:${port}`, "static"))
  )

/** Answers each request with `parts`, written one after the other, each in a segment of its own. */
const answering = (parts: ReadonlyArray<string>, connections: Array<Net.Socket> = []) => (socket: Net.Socket) => {
  connections.push(socket)
  socket.on("error", () => {}).on("data", () => {
    let turn = Promise.resolve()
    for (const part of parts) {
      turn = turn.then(() => new Promise((resolve) => void socket.write(part, () => setImmediate(resolve))))
    }
  })
}

const ok = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
const interim = "HTTP/1.1 100 Continue\r\n\r\n"

const eachByte = (text: string) => text.split("")

describe("a proxy's answer to CONNECT", () => {
  it.live.each([
    "HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nBad Header\r\n\r\n"
  ])("that can't be read is no answer of the backend: %j", (answer) =>
    Effect.gen(function*() {
      const port = yield* listen(Net.createServer((socket) => {
        socket.on("error", () => {}).once("data", () => socket.write(answer))
      }))
      const backend = Result.getOrThrow(parse("https://pac.example.com", "static"))
      const attempt = yield* setUp({ backends: [backend] }, { HTTPS_PROXY: `http://127.0.0.1:${port}` })
      expect(yield* attempt(backend)).toMatchObject({ outcome: "unreachable", status: undefined })
    }))
})

describe("a status line decides although", () => {
  const answers: ReadonlyArray<{ readonly what: string; readonly parts: ReadonlyArray<string>; readonly kept?: true }> =
    [
      { what: "an unasked 100 comes before it", parts: [interim + ok], kept: true },
      { what: "an unasked 100 comes long before it", parts: [interim, ok], kept: true },
      { what: "an unasked 100 comes byte by byte", parts: eachByte(interim + ok), kept: true },
      {
        what: "a 100 with headers, another, a 102 and a 103 come before it",
        parts: [
          "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n",
          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
          ok
        ],
        kept: true
      },
      { what: "its phrase is missing", parts: ["HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n"], kept: true },
      {
        what: "its head has 17 kB",
        parts: [`HTTP/1.1 202 Accepted\r\nX-Many: ${"a".repeat(17_000)}\r\nContent-Length: 0\r\n\r\n`],
        kept: true
      },
      {
        what: "its head has 200 kB",
        parts: [`HTTP/1.1 202 Accepted\r\n${`X-Many: ${"a".repeat(1_000)}\r\n`.repeat(200)}Content-Length: 0\r\n\r\n`]
      },
      {
        what: "its length is said twice",
        parts: ["HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"]
      },
      {
        what: "its length contradicts itself",
        parts: ["HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"]
      },
      {
        what: "a length stands beside chunks",
        parts: ["HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
      },
      { what: "a header is none", parts: ["HTTP/1.1 202 Accepted\r\nno header\r\n\r\n"] },
      { what: "a header is none, after a 100", parts: [interim, "HTTP/1.1 202 Accepted\r\nno header\r\n\r\n"] },
      { what: "a chunk is none", parts: ["HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"] }
    ]

  for (const secure of [false, true]) {
    for (const { kept = false, parts, what } of answers) {
      it.live(`${what}${secure ? ", over TLS" : ""}`, () =>
        Effect.gen(function*() {
          const connections: Array<Net.Socket> = []
          const backend = yield* startRaw(secure, answering(parts, connections))
          const forward = yield* setUp()
          for (let n = 0; n < 2; n++) {
            expect(yield* forward(backend)).toMatchObject({ outcome: "delivered", status: 202, requests: 1 })
          }
          expect(connections).toHaveLength(kept ? 1 : 2)
        }))
    }
  }

  it.live("the connection ends in the middle of the head", () =>
    Effect.gen(function*() {
      const forward = yield* setUp()
      for (const end of ["end", "resetAndDestroy"] as const) {
        const backend = yield* startRaw(false, (socket) =>
          void socket.once("data", () =>
            socket.write("HTTP/1.1 202 Accepted\r\nContent-Le", () =>
              setImmediate(() => socket[end]()))))
        expect(yield* forward(backend)).toMatchObject({
          outcome: "delivered",
          status: 202,
          error: expect.stringContaining("the answer's head can't be read")
        })
      }
    }))

  it.live("what it decides is that it is sent again", () =>
    Effect.gen(function*() {
      let requests = 0
      const backend = yield* startRaw(false, (socket) =>
        void socket.on("data", () => {
          requests += 1
          socket.write(requests === 1 ? "HTTP/1.1 503 No Pod\r\nno header\r\n\r\n" : ok)
        }))
      const forward = yield* setUp({ forwardingRetries: 1 })
      expect(yield* forward(backend)).toMatchObject({ outcome: "delivered", status: 202, requests: 2 })
    }))
})

describe("an attempt is broken off when", () => {
  const answers = {
    "the status is none": "HTTP/1.1 2x2 Accepted\r\nContent-Length: 0\r\n\r\n",
    "the status has two digits": "HTTP/1.1 20\r\n\r\n",
    "the status has four digits": "HTTP/1.1 2020 Accepted\r\n\r\n",
    "the protocol is another one": "SSH-2.0-OpenSSH_9.9\r\n",
    "the status line is only that of an interim answer": interim,
    "the status line is not complete": "HTTP/1.1 202 Accep",
    "the protocol is switched unasked":
      "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 202 A\r\n\r\n"
  }
  for (const [what, answer] of Object.entries(answers)) {
    it.live(what, () =>
      Effect.gen(function*() {
        const backend = yield* startRaw(false, (socket) => void socket.once("data", () => socket.end(answer)))
        const forward = yield* setUp()
        expect(yield* forward(backend)).toMatchObject({ outcome: "broken off", status: undefined })
      }))
  }

  it.live("the connection ends after the answer to another one, and before its own", () =>
    Effect.gen(function*() {
      let requests = 0
      const backend = yield* startRaw(false, (socket) =>
        void socket.on("data", () => {
          requests += 1
          if (requests === 1) socket.write(ok)
          else socket.destroy()
        }))
      const forward = yield* setUp()
      expect(yield* forward(backend)).toMatchObject({ outcome: "delivered" })
      expect(yield* forward(backend)).toMatchObject({ outcome: "broken off", status: undefined })
    }))
})

describe("a backend that answers and closes without reading on", () => {
  const length = 2 * 1024 * 1024
  const body = "b".repeat(length)

  for (const secure of [false, true]) {
    it.live(`is heard, whenever it does so${secure ? ", over TLS" : ""}`, () =>
      Effect.gen(function*() {
        let after = 0
        const backend = yield* startRaw(secure, (socket) => {
          const limit = after
          let received = 0
          const answer = () => {
            socket.pause()
            socket.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large", () => socket.destroy())
          }
          if (limit === 0) return answer()
          socket.on("data", (chunk: Buffer) => {
            const before = received
            received += chunk.length
            if (before < limit && received >= limit) answer()
          })
        })
        const forward = yield* setUp()
        const seen = new Map<string, number>()
        for (let n = 0; n < 300; n++) {
          after = n % 10 === 0 ? 0 : 1 + Math.floor((n / 300) * length * 0.9)
          const { error, outcome, status } = yield* forward(backend, body)
          const key = `${outcome} ${status} ${error}`
          seen.set(key, (seen.get(key) ?? 0) + 1)
        }
        expect(Object.fromEntries(seen)).toEqual({ "rejected 413 undefined": 300 })
      }))
  }
})
