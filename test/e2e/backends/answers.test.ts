import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startBackend } from "../../support/Backend.ts"
import { startProgram } from "../../support/Program.ts"
import { spray, startRawBackend } from "../../support/edges.ts"
import { MiB, patient, promise, startUnread, textOf } from "./Fixtures.ts"

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
      // The bytes that fit into the system's buffers are sent although nobody reads them.
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
      const program = yield* startProgram(["--backend", `${early.url},${other.url}`, ...patient])
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
