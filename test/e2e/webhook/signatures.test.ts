/** Signatures: which are taken, which are refused, and how the refusal is said. */
import { assert, describe, layer, live } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHmac, randomUUID } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { startBackend } from "../../support/Backend.ts"
import { secret, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { ask, digest, head, is, isForwarded, isOf, signed, Sprayproxy, withChunks, withLength } from "./Ingress.ts"

layer(Sprayproxy.layer(), { excludeTestServices: true })("a signature", (it) => {
  const body = "{}"
  const sha1 = `X-Hub-Signature: sha1=${createHmac("sha1", secret).update(body).digest("hex")}`

  it.effect.each([
    { what: "missing", headers: [] },
    { what: "empty", headers: ["X-Hub-Signature-256:"] },
    { what: "SHA-1 only", headers: [sha1] },
    { what: "SHA-1 under the name of SHA-256", headers: [sha1.replace("Signature", "Signature-256")] },
    { what: "without its prefix", headers: [`X-Hub-Signature-256: ${digest(body)}`] },
    { what: "a digit short", headers: [signed(body).slice(0, -1)] },
    { what: "a digit long", headers: [`${signed(body)}0`] },
    { what: "no hex", headers: [`${signed(body).slice(0, -1)}g`] },
    { what: "there twice", headers: [signed(body), signed(body)] },
    { what: "there twice, once forged", headers: [signed("other"), signed(body)] },
    { what: "of another body", headers: [signed("other")] },
    { what: "with another secret", headers: [signed(body, "other")] },
    { what: "with an empty secret", headers: [signed(body, " ").replace(digest(body, " "), digest(body, ""))] }
  ])("is refused when it is $what", ({ headers }) =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const guid = randomUUID()
      is(yield* ask(port, withLength(guid, body, headers)), 400, "bad request")
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("may have its digits in upper case, and goes on as it came", () =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const signature = `sha256=${digest(body).toUpperCase()}`
      is(yield* ask(port, withLength(randomUUID(), body, [`x-hub-SIGNATURE-256: ${signature}`])), 200, "proxied")
      assert.strictEqual(backend.received.at(-1)!.headers["x-hub-signature-256"], signature)
    }))
})

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(`${tmpdir()}/sprayproxy-`)),
  (path) => Effect.promise(() => rm(path, { recursive: true }))
)

describe("secrets", () => {
  live("may be two while one is rotated, and the variable is none of them", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* Effect.promise(() => writeFile(`${directory}/old`, "the old one\n"))
      yield* Effect.promise(() => writeFile(`${directory}/new`, "the new one"))
      const files = ["--webhook-secret-file", `${directory}/old`, "--webhook-secret-file", `${directory}/new`]
      const backend = yield* startBackend()
      const { port } = yield* startProgram(["--backend", backend.url, ...files])
      const post = (key: string) => ask(port, withLength(randomUUID(), "{}", [signed("{}", key)]))
      is(yield* post("the old one"), 200, "proxied")
      is(yield* post("the new one"), 200, "proxied")
      is(yield* post("the old one\n"), 400, "bad request")
      is(yield* post(secret), 400, "bad request")
    }))

  live(
    "are waited for: without one nothing is taken and nobody is sent here, with one everything is",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const backend = yield* startBackend()
        const file = `${directory}/secret`
        const args = ["--backend", backend.url, "--webhook-secret-file", file]
        const program = yield* startProgram(args, { GH_APP_WEBHOOK_SECRET: "" })
        const probe = () => Effect.promise(() => send(program.port, { method: "GET", path: "/readyz" }))
        is(yield* probe(), 503, "no secret")
        const refused = yield* ask(program.port, withLength(randomUUID(), "{}"))
        is(refused, 503, "no secret")
        assert.strictEqual(refused.headers["retry-after"], "10")
        const line = yield* Effect.promise(() => program.logged(isOf(refused)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason: "no secret", status: 503 })
        is(yield* ask(program.port, withLength(randomUUID(), "{}", [signed("{}", " ")])), 503, "no secret")
        yield* Effect.promise(() => writeFile(file, secret))
        yield* Effect.promise(() => program.logged(({ msg }) => msg === "webhook secret loaded"))
        is(yield* probe(), 200, "ready")
        is(yield* ask(program.port, withLength(randomUUID(), "{}")), 200, "proxied")
      })
  )

  live("are not needed by a program that is told not to verify", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--backend", backend.url, "--insecure-skip-webhook-verify"]
      const { logs, port } = yield* startProgram(args, { GH_APP_WEBHOOK_SECRET: "" })
      is(yield* Effect.promise(() => send(port, { method: "GET", path: "/readyz" })), 200, "ready")
      is(yield* ask(port, withLength(randomUUID(), "{}", [])), 200, "proxied")
      is(yield* ask(port, withLength(randomUUID(), "{}", [signed("other")])), 200, "proxied")
      assert.isTrue(logs.some(({ level, msg }) => level === "warn" && msg.includes("--insecure-skip-webhook-verify")))
    }))
})

describe("the log of what is refused", () => {
  const payload = "{\"payload\":\"nobody may read this in a log\"}"
  const large = payload.padEnd(1_001)

  live("says why, and what was refused, and never a secret, a signature or a payload", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--backend", backend.url, "--max-request-size", "1000", "--log-level", "debug"]
      const program = yield* startProgram(args)
      const event = "X-GitHub-Event: push"
      const forged = "f".repeat(64)
      const refusals = [
        ["signature missing", 400, withLength("1", payload, [event])],
        ["signature malformed", 400, withLength("2", payload, [event, `${signed(payload)}, ${signed(payload)}`])],
        ["signature mismatch", 400, withLength("3", payload, [event, `X-Hub-Signature-256: sha256=${forged}`])],
        ["body too large", 413, withLength("4", large, [event, signed(large)])],
        ["body too large", 413, withChunks("5", large, [event, signed(large)])],
        ["loop", 508, withLength("6", payload, [event, signed(payload), `Via: ${"1.1 sprayproxy-a, ".repeat(5)}`])]
      ] as const
      for (const [i, [reason, status, request]] of refusals.entries()) {
        const reply = yield* ask(program.port, request)
        assert.strictEqual(reply.status, status)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, {
          level: "warn",
          msg: "refused",
          reason,
          status,
          delivery: String(i + 1),
          event: "push",
          method: "POST",
          path: "/proxy",
          query: ""
        })
        assert.isAtLeast(Number(line["latency"]), 0)
      }
      for (
        const [reason, status, request] of [
          ["not http", 400, `\x16\x03\x01${payload}\r\n\r\n`],
          ["not http", 400, `${head("7", [signed(payload), "Transfer-Encoding: chunked"])}${payload}\r\n`],
          ["headers too large", 431, head("8", [signed(payload), `X-Large: ${payload.repeat(1_000)}`])]
        ] as const
      ) {
        const reply = yield* ask(program.port, request)
        assert.strictEqual(reply.status, status)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason, status })
      }
      is(yield* ask(program.port, withLength("9", payload)), 200, "proxied")
      yield* Effect.promise(() => program.logged(({ msg }) => msg === "delivery answered"))

      const all = JSON.stringify(program.logs) + program.stderr()
      assert.notInclude(all, secret)
      assert.notInclude(all, "nobody may read this")
      for (const signature of [forged, digest(payload), digest(large)]) {
        assert.notInclude(all.toLowerCase(), signature)
        assert.notInclude(all, Buffer.from(signature, "hex").toString("base64"))
      }
    }))

  live(
    "takes nothing from a sender that is long, or that could break the line or steer a terminal",
    () =>
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const program = yield* startProgram(["--backend", backend.url])
        const written: Array<Buffer> = []
        program.process.stdout!.on("data", (chunk: Buffer) => written.push(chunk))
        const bad = "\"\\\x9b31m\x85\x7f\x90"
        const reply = yield* ask(
          program.port,
          [
            `POST /proxy?${"q".repeat(1_000)} HTTP/1.1`,
            "Host: x",
            `X-GitHub-Delivery: ${bad.replace("\x7f", "")}${"d".repeat(1_000)}`,
            `X-GitHub-Event: ${"\xe9".repeat(1_000)}`,
            "Content-Length: 2",
            "",
            "{}"
          ].join("\r\n")
        )
        assert.strictEqual(reply.status, 400)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.strictEqual(line["query"], "q".repeat(256))
        assert.strictEqual(line["event"], "\xe9".repeat(256))
        assert.strictEqual(String(line["delivery"]).length, 256)
        assert.isTrue(String(line["delivery"]).startsWith("\"\\\x9b31m"))
        const text = Buffer.concat(written).toString("utf8")
        // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
        assert.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/)
        assert.strictEqual(text.trimEnd().split("\n").length, 1)
      })
  )
})
