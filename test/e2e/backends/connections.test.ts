import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import { Agent } from "node:http"
import type { Socket } from "node:net"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { attemptLogged, closedPort, spray, startRawBackend } from "../../support/edges.ts"
import { MiB, patient, promise, startUnread, textOf } from "./Fixtures.ts"

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
      const program = yield* startProgram(["--backend", backend.url, "--forwarding-timeout", "2s"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
      expect(attempts).toMatchObject([{ msg: "proxy error", outcome: "timed out", error: "no answer in time" }])
      expect(attempts[0]!["latency"]).toBeGreaterThan(1.9)
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
        const program = yield* startProgram(["--backend", backend.url, ...patient, ...args])
        const replies = yield* promise(() =>
          Promise.all(Array.from({ length: deliveries }, (_, n) => deliver(program.port, `{"n":${n}}`)))
        )
        expect(replies.filter(({ status }) => status !== 200)).toEqual([])
        expect(new Set(backend.received.map(({ body }) => body.toString())).size).toBe(deliveries)
        expect(new Set(backend.received.map(({ connection }) => connection)).size).toBe(limit)
      }))
  }
})
