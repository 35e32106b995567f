import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import type * as Http from "node:http"
import { Agent, createServer } from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { listen, startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { attemptLogged, closedPort, spray, startRawBackend } from "../../support/edges.ts"

const MiB = 1024 * 1024

const promise = <A>(f: () => Promise<A>) => Effect.promise(f)

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))

/** A backend that gets requests whose bodies nobody has read. */
const startUnread = (onRequest: Http.RequestListener) =>
  Effect.map(
    Effect.suspend(() => listen(createServer(onRequest))),
    (port) => ({ url: `http://127.0.0.1:${port}`, host: `127.0.0.1:${port}` })
  )

/** A text that differs everywhere, so that no part of it passes for another. */
const textOf = (bytes: number): string => randomBytes(Math.ceil(bytes / 2)).toString("hex").slice(0, bytes)

/** Keeps the bodies it gets, as latin1. */
const startTls = (name: string, received: Array<string>) =>
  Effect.suspend(() => {
    const options = { cert: readFileSync(fixture(`${name}.pem`)), key: readFileSync(fixture(`${name}-key.pem`)) }
    return listen(Https.createServer(options, (request, response) => {
      let body = ""
      request.on("data", (chunk: Buffer) => body += chunk.toString("latin1"))
      request.on("end", () => {
        received.push(body)
        response.writeHead(202).end()
      })
    }))
  })

const register = (port: number, url: string) =>
  promise(() => send(port, { path: "/backends", body: JSON.stringify({ url }) }))

describe("an answer", () => {
  const table = [
    [200, 200, "delivered"],
    [201, 200, "delivered"],
    [202, 200, "delivered"],
    [400, 200, "rejected"],
    [413, 200, "rejected"],
    [401, 502, "failed"],
    [403, 502, "failed"],
    [404, 502, "failed"],
    [500, 502, "failed"],
    [502, 502, "failed"],
    [504, 502, "failed"]
  ] as const

  it.live("decides by its status what GitHub is told, and is not asked for again", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend(({ url }, response) => {
        response.writeHead(Number(url.split("=")[1]), { "content-type": "text/plain" }).end("its words")
      })
      const program = yield* startProgram(["--backend", backend.url])
      for (const [status, told, outcome] of table) {
        const { attempts, reply } = yield* promise(() => spray(program, "{}", { path: `/proxy?status=${status}` }))
        expect(reply).toMatchObject({ status: told, text: told === 200 ? "proxied" : "failed to proxy" })
        expect(attempts).toHaveLength(1)
        expect(attempts[0]).toMatchObject({ msg: "proxied request", status, outcome, backend: backend.host })
        expect(attempts[0]!["answer"]).toBe(status < 300 ? undefined : "its words")
      }
      expect(backend.received.map(({ url }) => url)).toEqual(table.map(([status]) => `/?status=${status}`))
    }))

  it.live("of 503 is followed by a retry, as while no pod is ready", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response, count) => {
        response.writeHead(count === 1 ? 503 : 202).end()
      })
      const program = yield* startProgram(["--backend", backend.url])
      const { attempts, reply } = yield* promise(() => spray(program, "the body"))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      expect(attempts).toMatchObject([{ status: 202, outcome: "delivered", tries: 2 }])
      expect(backend.received.map(({ body }) => body.toString())).toEqual(["the body", "the body"])
      expect(backend.received[1]!.rawHeaders).toEqual(backend.received[0]!.rawHeaders)
    }))

  it.live("of 429 is followed by a retry when Retry-After says so", () =>
    Effect.gen(function*() {
      const at: Array<number> = []
      const backend = yield* startBackend((_, response, count) => {
        at.push(performance.now())
        if (count === 1) response.writeHead(429, { "retry-after": "2" }).end()
        else response.writeHead(202).end()
      })
      const program = yield* startProgram(["--backend", backend.url])
      const { reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(200)
      expect(at).toHaveLength(2)
      expect(at[1]! - at[0]!).toBeGreaterThan(1_950)
    }))

  it.live("of 503 to the last is a failure", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => void response.writeHead(503).end("no pod is ready"))
      const program = yield* startProgram(["--backend", backend.url, "--forwarding-retries", "1"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ status: 503, outcome: "failed", tries: 2, answer: "no pod is ready" }])
      expect(backend.received).toHaveLength(2)
    }))

  it.live("that is a redirect is not followed, and the log says so", () =>
    Effect.gen(function*() {
      const target = yield* startBackend()
      const backend = yield* startBackend(({ url }, response) => {
        response.writeHead(Number(url.split("=")[1]), { location: `${target.url}/elsewhere` }).end()
      })
      const program = yield* startProgram(["--backend", backend.url])
      for (const status of [301, 302, 303, 307, 308]) {
        const { attempts, reply } = yield* promise(() => spray(program, "{}", { path: `/?status=${status}` }))
        expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
        expect(attempts).toMatchObject([{
          level: "error",
          status,
          outcome: "failed",
          error: `redirect not followed: ${target.url}/elsewhere`
        }])
      }
      expect(backend.received).toHaveLength(5)
      expect(target.received).toHaveLength(0)
    }))

  it.live("may be announced by informational ones", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => {
        response.writeProcessing()
        response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => response.writeHead(202).end())
      })
      const program = yield* startProgram(["--backend", backend.url])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(200)
      expect(attempts).toMatchObject([{ status: 202, outcome: "delivered" }])
    }))

  it.live("that trickles doesn't delay the reply, and is cut off with the forwarding timeout", () =>
    Effect.gen(function*() {
      const closed = Promise.withResolvers<void>()
      const backend = yield* startUnread((request, response) => {
        request.resume()
        response.writeHead(200, { "content-type": "text/plain" })
        const trickling = setInterval(() => response.write("."), 20)
        response.on("close", () => {
          clearInterval(trickling)
          closed.resolve()
        })
      })
      const program = yield* startProgram(["--backend", backend.url, "--forwarding-timeout", "2s"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      expect(attempts).toMatchObject([{ status: 200, outcome: "delivered" }])
      yield* promise(() => closed.promise)
      expect(program.logs.filter((line) => line["backend"] === backend.host)).toHaveLength(1)
    }))

  it.live("of 100 MB is not read to its end, and the delivery is delivered", () =>
    Effect.gen(function*() {
      const closed = Promise.withResolvers<number>()
      const backend = yield* startUnread((request, response) => {
        request.resume()
        response.writeHead(200, { "content-length": 100 * MiB })
        const chunk = Buffer.alloc(64 * 1024)
        let left = 100 * MiB
        const write = () => {
          while (left > 0) {
            left -= chunk.length
            if (!response.write(chunk)) return void response.once("drain", write)
          }
        }
        response.on("close", () => closed.resolve(100 * MiB - left))
        write()
      })
      const program = yield* startProgram(["--backend", backend.url])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(200)
      expect(attempts).toMatchObject([{ status: 200, outcome: "delivered" }])
      // What the system's buffers take is sent although nobody reads it.
      expect(yield* promise(() => closed.promise)).toBeLessThan(50 * MiB)
    }))

  it.live("that comes before the body is read ends the attempt, and costs the other backend nothing", () =>
    Effect.gen(function*() {
      const early = yield* startRawBackend((socket) => {
        socket.once("data", () => {
          socket.pause()
          socket.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        })
      })
      const other = yield* startBackend()
      const program = yield* startProgram(["--backend", `${early.url},${other.url}`])
      const body = textOf(20 * MiB)
      const { attempts, reply } = yield* promise(() => spray(program, body))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      expect(attempts).toHaveLength(2)
      expect(attempts.find((line) => line["backend"] === early.host)).toMatchObject({
        status: 413,
        outcome: "rejected",
        answer: "too large"
      })
      expect(other.received[0]!.body.equals(Buffer.from(body))).toBe(true)
    }))
})

describe("a backend that", () => {
  it.live("refuses connections is unreachable, tried again, and doesn't stop the others", () =>
    Effect.gen(function*() {
      const port = yield* closedPort
      const other = yield* startBackend()
      const urls = [`http://127.0.0.1:${port}`, other.url]
      const program = yield* startProgram(["--backend", urls.join(","), "--forwarding-retries", "1"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
      expect(attempts.find((line) => line["backend"] === `127.0.0.1:${port}`)).toMatchObject({
        level: "error",
        msg: "proxy error",
        outcome: "unreachable",
        error: "ECONNREFUSED",
        tries: 2
      })
      expect(other.received).toHaveLength(1)
    }))

  it.live("can't be resolved is unreachable", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--backend", "http://nowhere.invalid", "--forwarding-retries", "0"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ msg: "proxy error", outcome: "unreachable", backend: "nowhere.invalid" }])
      expect(String(attempts[0]!["error"])).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/)
    }))

  for (
    const [what, end] of Object.entries<(socket: Socket) => unknown>({
      "resets the connection": (socket) => socket.resetAndDestroy(),
      "closes the connection": (socket) => socket.end(),
      "answers with something that is not HTTP": (socket) => socket.end("SSH-2.0-OpenSSH_9.9\r\n")
    })
  ) {
    it.live(`${what} before a status line is broken off, and not tried again`, () =>
      Effect.gen(function*() {
        let requests = 0
        const backend = yield* startRawBackend((socket) =>
          void socket.once("data", () => {
            requests += 1
            end(socket)
          })
        )
        const program = yield* startProgram(["--backend", backend.url])
        const { attempts, reply } = yield* promise(() => spray(program))
        expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
        expect(attempts).toMatchObject([{ msg: "proxy error", outcome: "broken off" }])
        expect(attempts[0]!["tries"]).toBeUndefined()
        expect(requests).toBe(1)
      }))
  }

  // As net/http does: in HTTP/1.0, with no headers, and without having read anything.
  it.live("is a port for TLS of a Go program has not got the delivery", () =>
    Effect.gen(function*() {
      const answer = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
      const backend = yield* startRawBackend((socket) => void socket.write(answer, () => socket.destroy()))
      const program = yield* startProgram(["--backend", backend.url])
      for (const body of ["{}", textOf(MiB)]) {
        const { attempts, reply } = yield* promise(() => spray(program, body))
        expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
        expect(attempts).toMatchObject([{
          level: "error",
          status: 400,
          outcome: "failed",
          error: "its port is for TLS: the backend's url has to begin with https://"
        }])
      }
    }))

  it.live("resets the connection in the middle of its answer has the delivery", () =>
    Effect.gen(function*() {
      const sockets: Array<Socket> = []
      const backend = yield* startRawBackend((socket) => {
        sockets.push(socket)
        socket.once("data", () => socket.write("HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nso far"))
      })
      const program = yield* startProgram(["--backend", backend.url])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(200)
      expect(attempts).toMatchObject([{ status: 202, outcome: "delivered" }])
      for (const socket of sockets) socket.resetAndDestroy()
      const next = yield* promise(() => spray(program))
      expect(next.reply.status).toBe(200)
      expect(sockets).toHaveLength(2)
      expect(program.logs.filter((line) => line["backend"] === backend.host)).toHaveLength(2)
    }))

  it.live("never answers is timed out after --forwarding-timeout, and its connection closed", () =>
    Effect.gen(function*() {
      const closed = Promise.withResolvers<void>()
      const backend = yield* startRawBackend((socket) => void socket.resume().on("close", () => closed.resolve()))
      const program = yield* startProgram(["--backend", backend.url, "--forwarding-timeout", "300ms"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
      expect(attempts).toMatchObject([{ msg: "proxy error", outcome: "timed out", error: "no answer in time" }])
      expect(attempts[0]!["latency"]).toBeGreaterThan(0.299)
      yield* promise(() => closed.promise)
    }))

  it.live("is slower than --reply-deadline gets the delivery, and GitHub a 202", () =>
    Effect.gen(function*() {
      const answer = Promise.withResolvers<void>()
      const backend = yield* startBackend((_, response) => {
        void answer.promise.then(() => response.writeHead(202).end())
      })
      const program = yield* startProgram(["--backend", backend.url, "--reply-deadline", "200ms"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 202, text: "accepted" })
      expect(attempts).toEqual([])
      answer.resolve()
      expect(yield* promise(() => attemptLogged(program, backend.host))).toMatchObject({ outcome: "delivered" })
    }))

  it.live("is slow gets the delivery although GitHub hangs up meanwhile", () =>
    Effect.gen(function*() {
      const answer = Promise.withResolvers<void>()
      const backend = yield* startBackend((_, response) => {
        void answer.promise.then(() => response.writeHead(202).end())
      })
      const program = yield* startProgram(["--backend", backend.url])
      const agent = new Agent({ keepAlive: true })
      const delivery = deliver(program.port, "{}", { agent }).catch((error: Error) => error)
      yield* promise(() => backend.receivedAtLeast(1))
      agent.destroy()
      expect(yield* promise(() => delivery)).toBeInstanceOf(Error)
      yield* promise(() => program.logged(({ msg }) => msg.startsWith("client hung up")))
      answer.resolve()
      expect(yield* promise(() => attemptLogged(program, backend.host))).toMatchObject({ outcome: "delivered" })
    }))
})

describe("connections", () => {
  it.live("are used again: a hundred deliveries, one after the other, need one", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      for (let n = 0; n < 100; n++) {
        expect((yield* promise(() => deliver(program.port, `{"n":${n}}`))).status).toBe(200)
      }
      expect(backend.received.map(({ body }) => body.toString())).toEqual(
        Array.from({ length: 100 }, (_, n) => `{"n":${n}}`)
      )
      expect(new Set(backend.received.map(({ connection }) => connection)).size).toBe(1)
    }))

  it.live("that a backend closed while they were idle cost no delivery", () =>
    Effect.gen(function*() {
      const closed: Array<Promise<unknown>> = []
      const backend = yield* startUnread((request, response) => {
        const { socket } = request
        closed.push(once(socket, "close"))
        request.resume().on("end", () => {
          response.writeHead(202).end()
          // Without a word about it in the answer.
          response.on("finish", () => socket.end())
        })
      })
      const program = yield* startProgram(["--backend", backend.url])
      for (let n = 0; n < 20; n++) {
        const { attempts, reply } = yield* promise(() => spray(program))
        expect(reply.status).toBe(200)
        expect(attempts).toMatchObject([{ outcome: "delivered" }])
        yield* promise(() => closed.at(-1)!)
      }
      expect(closed).toHaveLength(20)
    }))

  for (const { args, limit } of [{ args: [], limit: 64 }, { args: ["--backend-concurrency", "3"], limit: 3 }]) {
    it.live(`are ${limit} at most to a backend ${args.join(" ") || "by default"}, however many deliveries there are`, () =>
      Effect.gen(function*() {
        const deliveries = 500
        const full = Promise.withResolvers<void>()
        const backend = yield* startBackend((_, response, count) => {
          if (count === limit) full.resolve()
          void full.promise.then(() => response.writeHead(202).end())
        })
        const program = yield* startProgram(["--backend", backend.url, ...args])
        const replies = yield* promise(() =>
          Promise.all(Array.from({ length: deliveries }, (_, n) => deliver(program.port, `{"n":${n}}`)))
        )
        expect(replies.filter(({ status }) => status !== 200)).toEqual([])
        expect(new Set(backend.received.map(({ body }) => body.toString())).size).toBe(deliveries)
        expect(new Set(backend.received.map(({ connection }) => connection)).size).toBe(limit)
      }))
  }
})

describe("an https backend", () => {
  it.live("is trusted with --backend-ca, small bodies and large", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("localhost", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--backend-ca", fixture("ca.pem")])
      const bodies = ["{}", textOf(3 * MiB)]
      for (const body of bodies) {
        const { attempts, reply } = yield* promise(() => spray(program, body))
        expect(reply.status).toBe(200)
        expect(attempts).toMatchObject([{ outcome: "delivered", backend: `localhost:${port}` }])
      }
      expect(received.map((body, n) => body === bodies[n])).toEqual([true, true])
    }))

  it.live("is unreachable when nobody vouches for it, and sees no delivery", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("localhost", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--forwarding-retries", "0"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ outcome: "unreachable", error: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" }])
      expect(received).toEqual([])
    }))

  it.live("with a certificate for another name is unreachable", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("other", received)
      const flags = ["--forwarding-retries", "0", "--backend-ca", fixture("ca.pem")]
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, ...flags])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ outcome: "unreachable", error: "ERR_TLS_CERT_ALTNAME_INVALID" }])
      expect(received).toEqual([])
    }))

  it.live("is taken as it is with --insecure-skip-tls-verify", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("other", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--insecure-skip-tls-verify"])
      const { reply } = yield* promise(() => spray(program, "insecure"))
      expect(reply.status).toBe(200)
      expect(received).toEqual(["insecure"])
    }))
})

describe("a dynamic backend", () => {
  it.live("can't be our own listener, however its URL is written", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--enable-dynamic-backends"])
      for (const host of ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::1]", "[::ffff:7f00:1]"]) {
        const reply = yield* register(program.port, `http://${host}:${program.port}`)
        expect([host, reply.status]).toEqual([host, 422])
      }
    }))

  it.live("can't be a link-local or metadata address, however its URL is written", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--enable-dynamic-backends"])
      for (
        const host of ["169.254.169.254", "0xa9fea9fe", "2852039166", "[::ffff:a9fe:a9fe]", "[fe80::1]", "0.0.0.0"]
      ) {
        const reply = yield* register(program.port, `http://${host}`)
        expect([host, reply.status]).toEqual([host, 422])
      }
    }))

  it.live("whose name leads to a forbidden address later is refused when it is connected to", () =>
    Effect.gen(function*() {
      // A name server that knows the name only after it was registered.
      const preload = `
        import dns from "node:dns"
        import { syncBuiltinESMExports } from "node:module"
        const { lookup } = dns
        let asked = 0
        dns.lookup = (host, options, callback) => {
          if (host !== "rebinding.test") return lookup(host, options, callback)
          asked += 1
          if (asked === 1) callback(Object.assign(new Error("not yet"), { code: "ENOTFOUND" }))
          else callback(null, [{ address: "169.254.169.254", family: 4 }])
        }
        syncBuiltinESMExports()`
      const program = yield* startProgram(["--enable-dynamic-backends", "--forwarding-retries", "0"], {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(preload)}`
      })
      expect((yield* register(program.port, "http://rebinding.test")).status).toBe(200)
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
      expect(attempts).toMatchObject([{
        outcome: "unreachable",
        error: "address refused: link-local addresses are not allowed"
      }])
    }))
})

describe("large bodies", () => {
  it.live("reach three backends byte for byte, although one of them is slow to read", () =>
    Effect.gen(function*() {
      const others = yield* Effect.all([startBackend(), startBackend()])
      const arrived = Promise.withResolvers<Buffer>()
      const slow = yield* startUnread((request, response) => {
        const chunks: Array<Buffer> = []
        const bothOthers = Promise.all(others.map(({ receivedAtLeast }) => receivedAtLeast(1)))
        request.once("data", (chunk: Buffer) => {
          chunks.push(chunk)
          request.pause()
          void bothOthers.then(() => request.on("data", (next: Buffer) => chunks.push(next)).resume())
        })
        request.on("end", () => {
          arrived.resolve(Buffer.concat(chunks))
          response.writeHead(202).end()
        })
      })
      const program = yield* startProgram(["--backend", [slow.url, ...others.map(({ url }) => url)].join(",")])
      const body = textOf(20 * MiB)
      const { reply } = yield* promise(() => spray(program, body))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      const sent = Buffer.from(body)
      expect((yield* promise(() => arrived.promise)).equals(sent)).toBe(true)
      for (const { received } of others) expect(received.map((request) => request.body.equals(sent))).toEqual([true])
    }))
})

/** Numbers that only look random: the same in each run. */
const seeded = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}

describe("backends that answer early, reset, or stop reading", () => {
  const manners = [
    "reads all",
    "answers early",
    "answers at once and closes",
    "resets",
    "stops reading",
    "no pod"
  ] as const

  /** Checks every byte that a connection receives against the body whose GUID its head carries. */
  const startHostile = (bodies: ReadonlyMap<string, Buffer>, random: () => number) => {
    const seen = { wrong: [] as Array<string>, bytes: 0, manners: new Set<string>() }
    const stalled = new Set<Socket>()
    const connected = (socket: Socket) => {
      let head = ""
      let body: Buffer | undefined
      let at = 0
      let end = 0
      let manner: typeof manners[number] = "reads all"
      const answer = (line: string) => void socket.write(`HTTP/1.1 ${line}\r\nContent-Length: 0\r\n\r\n`)
      const act = () => {
        seen.manners.add(manner)
        if (manner === "answers early") answer("202 Accepted")
        if (manner === "answers at once and closes") answer("413 Content Too Large\r\nConnection: close")
        if (manner === "no pod") answer("503 Service Unavailable")
        if (manner === "resets") socket.resetAndDestroy()
        if (manner === "stops reading") {
          stalled.add(socket)
          socket.pause()
        }
      }
      const onHead = () => {
        const guid = /^x-github-delivery: (.*)$/im.exec(head)?.[1] ?? ""
        body = bodies.get(guid)
        const length = Number(/^content-length: (.*)$/im.exec(head)?.[1])
        if (!head.startsWith("POST /") || body === undefined || length !== body.length) {
          seen.wrong.push(`head ${JSON.stringify(head.slice(0, 200))}`)
          socket.destroy()
          return
        }
        at = 0
        manner = manners[Math.floor(random() * manners.length)]!
        end = manner === "reads all" ? body.length : Math.floor(random() * body.length)
      }
      socket.on("data", (chunk: Buffer) => {
        let rest = chunk
        while (rest.length > 0 && !socket.destroyed) {
          if (body === undefined) {
            const text = head + rest.toString("latin1")
            const headEnd = text.indexOf("\r\n\r\n")
            if (headEnd < 0) {
              head = text
              break
            }
            rest = rest.subarray(headEnd + 4 - head.length)
            head = text.slice(0, headEnd + 2)
            onHead()
            continue
          }
          const part: Buffer = rest.subarray(0, body.length - at)
          if (!part.equals(body.subarray(at, at + part.length))) seen.wrong.push(`bytes at ${at} of ${body.length}`)
          seen.bytes += part.length
          rest = rest.subarray(part.length)
          const acts = at <= end && at + part.length > end
          at += part.length
          if (acts && manner !== "reads all") act()
          if (at < body.length) continue
          if (manner === "reads all") {
            seen.manners.add(manner)
            answer("202 Accepted")
          }
          body = undefined
          head = ""
        }
      })
    }
    return Effect.map(startRawBackend(connected), ({ url }) => ({
      url,
      seen,
      /** Reads what the system still has from connections that were not read to their end. */
      readOn: () =>
        Promise.all(Array.from(stalled, (socket) => {
          if (socket.destroyed) return undefined
          socket.resume()
          return once(socket, "close")
        }))
    }))
  }

  it.live("never receive a byte of another delivery, and a good backend beside them receives every one", () =>
    Effect.gen(function*() {
      const random = seeded(20_261_123)
      const bodies = new Map<string, Buffer>()
      const hostile = yield* Effect.all([startHostile(bodies, random), startHostile(bodies, random)])
      const good = yield* startBackend()
      const urls = [good.url, ...hostile.map(({ url }) => url)]
      const flags = ["--forwarding-timeout", "1s", "--backend-concurrency", "16"]
      const program = yield* startProgram(["--backend", urls.join(","), ...flags])
      const texts = Array.from({ length: 240 }, (_, n) => {
        // Eight MiB are more than the system's buffers take: their writing stalls.
        const text = textOf(n % 16 === 0 ? 8 * MiB : 1_000 + Math.floor(random() ** 2 * 700_000))
        bodies.set(`guid-${n}`, Buffer.from(text))
        return text
      })
      const replies = yield* Effect.forEach(
        texts,
        (text, n) => promise(() => deliver(program.port, text, { headers: { "x-github-delivery": `guid-${n}` } })),
        { concurrency: 24 }
      )
      expect(replies.filter(({ status }) => status !== 200 && status !== 502)).toEqual([])
      yield* promise(() => Promise.all(hostile.map(({ readOn }) => readOn())))
      for (const { seen } of hostile) {
        expect(seen.wrong.slice(0, 3)).toEqual([])
        expect(seen.bytes).toBeGreaterThan(MiB)
        expect([...seen.manners].toSorted()).toEqual([...manners].toSorted())
      }
      const wrong = good.received.filter(({ body, headers }) => {
        const expected = bodies.get(String(headers["x-github-delivery"]))
        return expected === undefined || !expected.equals(body)
      })
      expect(wrong).toEqual([])
      expect(new Set(good.received.map(({ headers }) => headers["x-github-delivery"])).size).toBe(texts.length)
      expect(good.received).toHaveLength(texts.length)
    }))
})
