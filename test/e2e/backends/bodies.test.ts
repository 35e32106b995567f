import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import type { Socket } from "node:net"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { spray, startRawBackend } from "../../support/edges.ts"
import { MiB, promise, startUnread, textOf } from "./Fixtures.ts"

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
      const flags = ["--forwarding-timeout", "5s", "--reply-deadline", "60s", "--backend-concurrency", "16"]
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
