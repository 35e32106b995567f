/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { ServerResponse } from "node:http"
import { connect } from "node:net"
import { startBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, secret, send } from "../../support/GitHub.ts"
import { type LogLine, type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const linesOf = (program: Program, msg: string) => program.logs.filter((line) => line.msg === msg)

const answered = (program: Program, requestId: unknown) =>
  program.logged((line) => line.msg === "delivery answered" && line["request-id"] === requestId)

/** Without what each run has anew. */
const constant = ({ latency, ts, ...rest }: LogLine): Record<string, unknown> => {
  assert.match(String(ts), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  assert.isNumber(latency)
  return rest
}

describe("a delivery's lines", () => {
  it.live("are one for each attempt and one for the reply, with all that is known, under the reply's request id", () =>
    Effect.gen(function*() {
      const good = yield* startBackend()
      const rejecting = yield* startBackend((_, response) => {
        response.writeHead(400).end("not a payload of ours")
      })
      const program = yield* startProgram(["--backend", `${good.url},${rejecting.url}/base`])
      yield* Effect.promise(async () => {
        const guid = randomUUID()
        const reply = await deliver(program.port, "{}", {
          path: "/proxy?a=1&b=%20",
          event: "pull_request",
          headers: { "x-github-delivery": guid }
        })
        const requestId = reply.headers["x-request-id"]
        assert.match(String(requestId), uuid)
        await answered(program, requestId)
        const common = {
          level: "info",
          service: "sprayproxy",
          audit: "true",
          "request-id": requestId,
          delivery: guid,
          event: "pull_request",
          method: "POST",
          path: "/proxy",
          query: "a=1&b=%20"
        }
        const attempts = linesOf(program, "proxied request").map((line) => constant(line))
        assert.sameDeepMembers(attempts, [
          { ...common, msg: "proxied request", backend: good.host, status: 202, outcome: "delivered" },
          {
            ...common,
            msg: "proxied request",
            backend: `${rejecting.host}/base`,
            status: 400,
            outcome: "rejected",
            answer: "not a payload of ours"
          }
        ])
        assert.deepStrictEqual(linesOf(program, "delivery answered").map((line) => constant(line)), [
          { ...common, msg: "delivery answered", status: 200, outcome: "proxied" }
        ])
      })
    }))

  it.live("have latencies in seconds", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => {
        setTimeout(() => response.writeHead(202).end(), 200)
      })
      const program = yield* startProgram(["--backend", backend.url])
      yield* Effect.promise(async () => {
        const before = performance.now()
        const reply = await deliver(program.port, "{}")
        const took = (performance.now() - before) / 1_000
        const { latency } = await answered(program, reply.headers["x-request-id"])
        const attempt = Number(linesOf(program, "proxied request")[0]?.["latency"])
        assert.isAtLeast(attempt, 0.195)
        assert.isAtLeast(Number(latency), attempt)
        assert.isAtMost(Number(latency), took)
      })
    }))

  it.live("are of level error where a backend did not get it, and say why", () =>
    Effect.gen(function*() {
      const failing = yield* startBackend((_, response) => {
        response.writeHead(500).end()
      })
      const redirecting = yield* startBackend((_, response) => {
        response.writeHead(301, { location: "https://elsewhere.example.com/" }).end()
      })
      const breaking = yield* startBackend((_, response) => {
        response.destroy()
      })
      const unreachable = yield* Effect.scoped(startBackend())
      const backends = [failing, redirecting, breaking, unreachable]
      const program = yield* startProgram([
        "--backend",
        backends.map(({ url }) => url).join(","),
        "--forwarding-retries",
        "0"
      ])
      yield* Effect.promise(async () => {
        const reply = await deliver(program.port, "{}")
        assert.deepInclude(reply, { status: 502, text: "failed to proxy" })
        const last = await answered(program, reply.headers["x-request-id"])
        assert.deepInclude(last, { level: "error", status: 502, outcome: "failed" })
        const found = backends.map(({ host }) => {
          const line = program.logs.find((one) => one["backend"] === host)
          return [line?.level, line?.msg, line?.["status"], line?.["outcome"], line?.["error"]]
        })
        assert.deepStrictEqual(found, [
          ["error", "proxied request", 500, "failed", undefined],
          ["error", "proxied request", 301, "failed", "redirect not followed: https://elsewhere.example.com/"],
          ["error", "proxy error", undefined, "broken off", "UND_ERR_SOCKET"],
          ["error", "proxy error", undefined, "unreachable", "ECONNREFUSED"]
        ])
      })
    }))

  it.live("show the first kB of an answer that is not 2xx, and nothing of one that is", () =>
    Effect.gen(function*() {
      const talkative = yield* startBackend((_, response) => {
        response.writeHead(500).end(`${"a".repeat(1_000)}${"b".repeat(10_000)}`)
      })
      const hostile = yield* startBackend((_, response) => {
        response.writeHead(403).end("one\ntwo\u001b[2J \"three\"")
      })
      const content = yield* startBackend((_, response) => {
        response.writeHead(202).end("accepted")
      })
      const program = yield* startProgram(["--backend", `${talkative.url},${hostile.url},${content.url}`])
      yield* Effect.promise(async () => {
        const reply = await deliver(program.port, "{}")
        await answered(program, reply.headers["x-request-id"])
        const answerOf = (host: string) => program.logs.find((line) => line["backend"] === host)?.["answer"]
        assert.strictEqual(answerOf(talkative.host), `${"a".repeat(1_000)}${"b".repeat(24)}`)
        assert.strictEqual(answerOf(hostile.host), "one\ntwo\u001b[2J \"three\"")
        assert.isUndefined(answerOf(content.host))
      })
    }))

  it.live("say that the client hung up, and what became of the attempt", () =>
    Effect.gen(function*() {
      const held: Array<ServerResponse> = []
      const backend = yield* startBackend((_, response) => {
        held.push(response)
      })
      const program = yield* startProgram(["--backend", backend.url])
      yield* Effect.promise(async () => {
        const controller = new AbortController()
        const guid = randomUUID()
        const hangingUp = fetch(`${program.url}/proxy`, {
          method: "POST",
          body: "{}",
          headers: { ...await githubHeaders("{}"), "x-github-delivery": guid },
          signal: controller.signal
        }).then(() => "replied", () => "hung up")
        await backend.receivedAtLeast(1)
        controller.abort()
        assert.strictEqual(await hangingUp, "hung up")
        const line = await program.logged(({ msg }) => msg.startsWith("client hung up"))
        assert.deepInclude(line, { level: "warn", delivery: guid })
        for (const response of held) response.writeHead(202).end()
        const attempt = await program.logged(({ msg }) => msg === "proxied request")
        assert.deepInclude(attempt, { "request-id": line["request-id"], outcome: "delivered", status: 202 })
      })
    }))

  it.live("never contain the secret, the signature or the payload", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url, "--log-level", "debug"])
      yield* Effect.promise(async () => {
        const reply = await deliver(program.port, JSON.stringify({ word: "confidential" }))
        await answered(program, reply.headers["x-request-id"])
        const signature = String(backend.received[0]?.headers["x-hub-signature-256"])
        assert.match(signature, /^sha256=/)
        const logs = JSON.stringify(program.logs)
        for (const hidden of [secret, signature.slice("sha256=".length), "confidential"]) {
          assert.notInclude(logs, hidden)
        }
      })
    }))
})

describe("the registry's lines", () => {
  it.live("have the original's words", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--enable-dynamic-backends"])
      yield* Effect.promise(async () => {
        const body = JSON.stringify({ url: "http://10.1.1.1/base" })
        for (const method of ["POST", "POST", "DELETE"]) await send(program.port, { method, path: "/backends", body })
        await program.logged(({ msg }) => msg === "server unregistered")
        const lines = program.logs.filter(({ msg }) => msg.startsWith("server "))
        assert.deepStrictEqual(lines.map(({ backend, level, msg }) => [level, msg, backend]), [
          ["info", "server registered", "http://10.1.1.1/base"],
          ["info", "server already registered", "http://10.1.1.1/base"],
          ["info", "server unregistered", "http://10.1.1.1/base"]
        ])
      })
    }))
})

describe("refusals", () => {
  it.live("are lines with their reason, under the reply's request id", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--max-request-size", "10"])
      yield* Effect.promise(async () => {
        const guid = randomUUID()
        const headers = { "x-github-delivery": guid, "x-hub-signature-256": `sha256=${"0".repeat(64)}` }
        const forged = await deliver(program.port, "{}", { headers, path: "/?x=y" })
        const large = await deliver(program.port, "x".repeat(11), { headers })
        const unsigned = await send(program.port, { body: "{}" })
        assert.deepStrictEqual([forged, large, unsigned].map(({ status }) => status), [400, 413, 400])
        const ids = [forged, large, unsigned].map((reply) => reply.headers["x-request-id"])
        const lines = await Promise.all(
          ids.map((id) => program.logged((line) => line.msg === "refused" && line["request-id"] === id))
        )
        assert.deepStrictEqual(
          lines.map(({ level, method, path, query, reason, status }) => [
            level,
            method,
            path,
            query,
            reason,
            status
          ]),
          [
            ["warn", "POST", "/", "x=y", "signature mismatch", 400],
            ["warn", "POST", "/proxy", "", "body too large", 413],
            ["warn", "POST", "/proxy", "", "signature missing", 400]
          ]
        )
        assert.deepStrictEqual(lines.map(({ delivery, event }) => [delivery, event]), [
          [guid, "push"],
          [guid, "push"],
          [undefined, undefined]
        ])
        for (const { latency } of lines) assert.isNumber(latency)
      })
    }))

  it.live("of what is not HTTP are lines too", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([])
      yield* Effect.promise(async () => {
        const socket = connect(program.port, "127.0.0.1")
        socket.end("not http at all\r\n\r\n")
        let text = ""
        for await (const chunk of socket) text += String(chunk)
        const id = /^X-Request-Id: (\S+)\r$/m.exec(text)?.[1]
        assert.match(text, /^HTTP\/1\.1 400 /)
        const line = await program.logged(({ msg }) => msg === "refused")
        assert.deepInclude(line, { reason: "not http", status: 400, "request-id": id })
      })
    }))

  it.live("are ten lines a second for each reason, and then a count that leaves none out", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      yield* Effect.promise(async () => {
        const headers = { "x-hub-signature-256": `sha256=${"0".repeat(64)}` }
        const replies = await Promise.all(
          Array.from({ length: 500 }, () => deliver(program.port, "{}", { headers }))
        )
        assert.deepStrictEqual(replies.filter(({ status }) => status !== 400), [])
        // Another reason and a valid delivery are not pushed out.
        assert.strictEqual((await send(program.port, { body: "{}" })).status, 400)
        await program.logged(({ msg, reason }) => msg === "refused" && reason === "signature missing")
        assert.strictEqual((await deliver(program.port, "{}")).status, 200)
        await program.logged(({ msg }) => msg === "proxied request")

        const ofReason = (msg: string) => linesOf(program, msg).filter(({ reason }) => reason === "signature mismatch")
        const counted = () => ofReason("refusals not logged").reduce((sum, { count }) => sum + Number(count), 0)
        await eventually(() => ofReason("refused").length + counted() === 500, "the count")
        const first = Date.parse(String(ofReason("refused")[0]?.["ts"]))
        const last = Date.parse(String(ofReason("refused").at(-1)?.["ts"]))
        const windows = Math.floor((last - first) / 1_000) + 1
        assert.isAtLeast(ofReason("refused").length, 10)
        assert.isAtMost(ofReason("refused").length, 10 * windows)
        assert.isAbove(counted(), 0)
        for (const { level } of ofReason("refusals not logged")) assert.strictEqual(level, "warn")
      })
    }))
})
