/** `SPRAYPROXY_TEST_HANGING_SECONDS=60` makes the long version: no other delivery may be lost in a minute either. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import { startBackend } from "../../support/Backend.ts"
import { githubHeaders, type Reply, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { startRawBackend } from "../../support/edges.ts"

const seconds = Number(process.env["SPRAYPROXY_TEST_HANGING_SECONDS"] ?? 10)
const perSecond = 300
const MiB = 1024 * 1024

/** The most memory that the process has had, in bytes. */
const peakMemory = ({ process: { pid } }: Program): number =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024

/** Deliveries at a steady rate, whether replies come or not. */
const deliverSteadily = async (program: Program): Promise<ReadonlyArray<Reply>> => {
  const body = JSON.stringify({ padding: "x".repeat(7_000) })
  const headers = await githubHeaders(body)
  const agent = new Http.Agent({ keepAlive: true, maxSockets: Infinity })
  const replies: Array<Promise<Reply>> = []
  const tick = 20
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      for (let n = 0; n < perSecond * tick / 1_000; n++) {
        replies.push(send(program.port, { body, agent, headers: { ...headers, "x-github-delivery": randomUUID() } }))
      }
      if (replies.length < seconds * perSecond) return
      clearInterval(timer)
      resolve()
    }, tick)
  })
  const all = await Promise.all(replies)
  agent.destroy()
  return all
}

describe("a backend that accepts connections and never answers", () => {
  it.live(
    "costs the other backends no delivery, GitHub no 503, and us no unbounded memory",
    () =>
      Effect.gen(function*() {
        let connections = 0
        const hanging = yield* startRawBackend((socket) => {
          connections += 1
          socket.resume()
        })
        const others = yield* Effect.all([startBackend(), startBackend()])
        // 640 deliveries fit: held for the whole timeout, 80 a second, and 503 for those that find no room within two.
        const flags = ["--forwarding-timeout", "8s", "--reply-deadline", "2s", "--body-memory", "32MiB"]
        const urls = [others[0].url, hanging.url, others[1].url]
        const program = yield* startProgram(["--backend", urls.join(","), ...flags])
        const replies = yield* Effect.promise(() => deliverSteadily(program))
        expect(replies.length).toBeGreaterThanOrEqual(seconds * perSecond)
        expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([202, 502]))
        expect(program.logs.some((line) => String(line["error"]).startsWith("gave way"))).toBe(true)
        for (const { received } of others) {
          expect(new Set(received.map(({ headers }) => headers["x-github-delivery"])).size).toBe(replies.length)
        }
        expect(connections).toBeGreaterThan(0)
        expect(peakMemory(program)).toBeLessThan(320 * MiB)
      }),
    (seconds + 50) * 1_000
  )
})
