/** Every backend gets exactly what GitHub sends. */
import { assert, layer } from "@effect/vitest"
import { sign, verify } from "@octokit/webhooks-methods"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHmac, randomBytes, randomUUID } from "node:crypto"
import * as Http from "node:http"
import { createRequire } from "node:module"
import { type Received, startBackend } from "../../support/Backend.ts"
import type { TestBackend } from "../../support/Backend.ts"
import { secret, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { openConnection } from "../../support/RawConnection.ts"

const examples = createRequire(import.meta.url)("@octokit/webhooks-examples") as ReadonlyArray<{
  readonly name: string
  readonly examples: ReadonlyArray<unknown>
}>

const payloads = examples.flatMap((webhook) => webhook.examples.map((example) => ({ event: webhook.name, example })))

/** One program, and three backends: one of them below a path, one with a trailing slash. */
class Sprayproxy extends Context.Service<Sprayproxy, {
  readonly program: Program
  readonly backends: ReadonlyArray<TestBackend>
}>()("sprayproxy/test/e2e/webhook/payloads.test/Sprayproxy") {
  static readonly layer = Layer.effect(
    Sprayproxy,
    Effect.gen(function*() {
      const backends = yield* Effect.all([startBackend(), startBackend(), startBackend()])
      const [first, second, third] = backends
      const program = yield* startProgram(["--backend", `${first.url},${second.url}/,${third.url}/base/path/`])
      return { program, backends }
    })
  )
}

/** The request that each backend has received under a delivery's GUID. */
const receivedBy = (backends: ReadonlyArray<TestBackend>, guid: string): ReadonlyArray<Received> =>
  backends.map(({ received }) => {
    const [request, ...more] = received.filter(({ headers }) => headers["x-github-delivery"] === guid)
    assert.strictEqual(more.length, 0)
    return request!
  })

const pairs = (rawHeaders: ReadonlyArray<string>): ReadonlyArray<readonly [string, string]> =>
  Array.from({ length: rawHeaders.length / 2 }, (_, i) => [rawHeaders[2 * i]!, rawHeaders[2 * i + 1]!] as const)

/** The headers of GitHub's that reached the backend, in their order; without those of each hop. */
const endToEnd = ({ rawHeaders }: Received) =>
  pairs(rawHeaders).filter(([name]) => !["host", "connection", "content-length", "via"].includes(name.toLowerCase()))

const hmac = (body: string | Buffer) => `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`

/** Sends raw headers after `Host`, and the body in one piece, framed as the headers say. */
const sendRaw = Effect.fnUntraced(function*(target: string, headers: ReadonlyArray<string>, body: string | Buffer) {
  const { backends, program } = yield* Sprayproxy
  const guid = randomUUID()
  const connection = yield* openConnection(program.port)
  const head = [
    `POST ${target} HTTP/1.1`,
    "Host: sprayproxy.example.com",
    `X-GitHub-Delivery: ${guid}`,
    ...headers,
    "",
    ""
  ]
  connection.write(Buffer.from(head.join("\r\n"), "latin1"), body)
  const [reply] = yield* Effect.promise(() => connection.replies(1))
  assert.deepInclude(reply, { status: 200, text: "proxied" })
  return receivedBy(backends, guid)
})

/** The same for a body with its length and signature. */
const sendSigned = (target: string, headers: ReadonlyArray<string>, body: string | Buffer = "{}") =>
  sendRaw(
    target,
    [...headers, `X-Hub-Signature-256: ${hmac(body)}`, `Content-Length: ${Buffer.byteLength(body)}`],
    body
  )

const deliverAll = Effect.fnUntraced(
  function*(contentType: string, toBody: (payload: unknown) => string) {
    const { backends, program } = yield* Sprayproxy
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() => new Http.Agent({ keepAlive: true, maxSockets: 16 })),
      (keptAlive) => Effect.sync(() => keptAlive.destroy())
    )
    yield* Effect.forEach(payloads, ({ event, example }) =>
      Effect.promise(async () => {
        const guid = randomUUID()
        const body = toBody(example)
        const headers = {
          "Accept": "*/*",
          "Content-Type": contentType,
          "User-Agent": "GitHub-Hookshot/044aadd",
          "X-GitHub-Delivery": guid,
          "X-GitHub-Event": event,
          "X-GitHub-Hook-ID": "292430182",
          "X-GitHub-Hook-Installation-Target-ID": "79929171",
          "X-GitHub-Hook-Installation-Target-Type": "integration",
          "X-Hub-Signature": `sha1=${createHmac("sha1", secret).update(body).digest("hex")}`,
          "X-Hub-Signature-256": await sign(secret, body)
        }
        const reply = await send(program.port, { headers, body, agent })
        assert.deepInclude(reply, { status: 200, text: "proxied" })
        const all = receivedBy(backends, guid)
        for (const received of all) {
          assert.isTrue(received.body.equals(Buffer.from(body)))
          assert.deepStrictEqual(endToEnd(received), Object.entries(headers))
          assert.strictEqual(received.headers["content-length"], String(Buffer.byteLength(body)))
        }
        const verified = await Promise.all(all.map((received) =>
          verify(secret, received.body.toString("utf8"), String(received.headers["x-hub-signature-256"]))
        ))
        assert.deepStrictEqual(verified, [true, true, true])
      }), { concurrency: 16 })
  },
  Effect.scoped
)

layer(Sprayproxy.layer, { excludeTestServices: true })("every backend gets", (it) => {
  it.effect("all of GitHub's example payloads, byte for byte, with a signature that is valid there", () =>
    Effect.gen(function*() {
      assert.strictEqual(payloads.length, 329)
      yield* deliverAll("application/json", (payload) => JSON.stringify(payload))
    }))

  it.effect("the same as forms", () =>
    deliverAll(
      "application/x-www-form-urlencoded",
      (payload) => new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
    ))

  it.effect("the delivery that GitHub documents", () =>
    Effect.gen(function*() {
      const signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
      const headers = [`X-Hub-Signature-256: ${signature}`, "Content-Length: 13"]
      for (const received of yield* sendRaw("/proxy", headers, "Hello, World!")) {
        assert.strictEqual(received.body.toString(), "Hello, World!")
        assert.strictEqual(received.headers["x-hub-signature-256"], signature)
      }
    }))

  it.effect("what is no text, of any length around those at which bodies are cut", () =>
    Effect.gen(function*() {
      for (const length of [1, 16_383, 16_384, 65_535, 65_536, 65_537, 131_073, 3_000_000]) {
        const body = randomBytes(length)
        for (const received of yield* sendSigned("/proxy", ["Content-Type: application/octet-stream"], body)) {
          assert.isTrue(body.equals(received.body), String(length))
          assert.strictEqual(received.headers["content-length"], String(length))
        }
      }
    }))

  it.effect("an empty body, with its length", () =>
    Effect.gen(function*() {
      for (
        const received of [
          ...yield* sendSigned("/proxy", [], ""),
          ...yield* sendRaw("/proxy", [`X-Hub-Signature-256: ${hmac("")}`], "")
        ]
      ) {
        assert.strictEqual(received.body.length, 0)
        assert.strictEqual(received.headers["content-length"], "0")
      }
    }))

  it.effect("a chunked body with its length instead", () =>
    Effect.gen(function*() {
      const body = randomBytes(100_000)
      const chunks = [1, 2, 4_096, 70_000, 25_901]
      let at = 0
      const framed = Buffer.concat([
        ...chunks.flatMap((size) => [
          Buffer.from(`${size.toString(16)};ext=1\r\n`),
          body.subarray(at, at += size),
          Buffer.from("\r\n")
        ]),
        Buffer.from("0\r\nX-Trailer: 1\r\n\r\n")
      ])
      const headers = [
        `X-Hub-Signature-256: ${hmac(body)}`,
        "Transfer-Encoding: chunked",
        "Trailer: X-Trailer",
        "X-Last: 1"
      ]
      for (const received of yield* sendRaw("/proxy", headers, framed)) {
        assert.isTrue(body.equals(received.body))
        assert.strictEqual(received.headers["content-length"], "100000")
        assert.notProperty(received.headers, "transfer-encoding")
        assert.notProperty(received.headers, "trailer")
        assert.notProperty(received.headers, "x-trailer")
        assert.strictEqual(received.headers["x-last"], "1")
      }
    }))

  it.effect("the path below the backend's own, with the query as it came", () =>
    Effect.gen(function*() {
      for (
        const [target, urls] of [
          ["/proxy?x=1&y=%2F", ["/?x=1&y=%2F", "/?x=1&y=%2F", "/base/path/?x=1&y=%2F"]],
          ["/proxy", ["/", "/", "/base/path/"]],
          ["/", ["/", "/", "/base/path/"]],
          ["/?", ["/?", "/?", "/base/path/?"]],
          ["/?a=/proxy&b=%2f%7E+%20&&c", ["/?a=/proxy&b=%2f%7E+%20&&c", "/?a=/proxy&b=%2f%7E+%20&&c"]],
          ["http://sprayproxy.example.com/proxy?x=%2F", ["/?x=%2F", "/?x=%2F", "/base/path/?x=%2F"]]
        ] as const
      ) {
        const received = yield* sendSigned(target, [])
        assert.deepStrictEqual(received.slice(0, urls.length).map(({ url }) => url), [...urls])
        for (const { method } of received) assert.strictEqual(method, "POST")
      }
    }))

  it.effect("every header in its order, its case and its repetitions", () =>
    Effect.gen(function*() {
      const headers = ["x-b: 2", "X-A: 1", "x-B: 3", "Cookie: a=1", "cookie: b=2", "X-Empty:", "X-a:  spaced  out  "]
      for (const received of yield* sendSigned("/proxy", headers)) {
        assert.deepStrictEqual(endToEnd(received).slice(1, -1), [
          ["x-b", "2"],
          ["X-A", "1"],
          ["x-B", "3"],
          ["Cookie", "a=1"],
          ["cookie", "b=2"],
          ["X-Empty", ""],
          ["X-a", "spaced  out"]
        ])
      }
    }))

  it.effect("headers in latin1, and in UTF-8, with the bytes they had", () =>
    Effect.gen(function*() {
      const utf8 = Buffer.from("Grüße 🌍").toString("latin1")
      for (const received of yield* sendSigned("/proxy", ["X-Latin: caf\xe9 \xff", `X-Utf8: ${utf8}`])) {
        assert.strictEqual(received.headers["x-latin"], "caf\xe9 \xff")
        assert.strictEqual(Buffer.from(String(received.headers["x-utf8"]), "latin1").toString(), "Grüße 🌍")
      }
    }))

  it.effect("no header that was meant for us alone", () =>
    Effect.gen(function*() {
      const headers = [
        "Connection: close, X-Secret-Of-This-Hop",
        "Connection: x-another",
        "X-Secret-Of-This-Hop: 1",
        "X-Another: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "Proxy-Authenticate: Basic",
        "TE: trailers",
        "Trailer: X-Trailer",
        "Upgrade-Insecure-Requests: 1",
        "X-Kept: 1"
      ]
      for (const received of yield* sendSigned("/proxy", headers)) {
        assert.deepStrictEqual(endToEnd(received).slice(1, -1), [["Upgrade-Insecure-Requests", "1"], ["X-Kept", "1"]])
      }
    }))

  it.effect("an upgrade refused: a delivery that offers another protocol stays one", () =>
    Effect.gen(function*() {
      for (const received of yield* sendSigned("/proxy", ["Connection: Upgrade", "Upgrade: h2c"])) {
        assert.strictEqual(received.body.toString(), "{}")
        assert.notProperty(received.headers, "upgrade")
      }
    }))

  it.effect("its own name as the host, and one Via of ours behind those that were there", () =>
    Effect.gen(function*() {
      const { backends } = yield* Sprayproxy
      const plain = yield* sendSigned("/proxy", [])
      const via = plain[0]!.headers["via"]!
      assert.match(via, /^1\.1 sprayproxy-[0-9a-f]{16}$/)
      plain.forEach((received, i) => {
        assert.strictEqual(received.headers["host"], backends[i]!.host)
        assert.deepStrictEqual(pairs(received.rawHeaders).filter(([name]) => name.toLowerCase() === "via"), [[
          "Via",
          via
        ]])
      })
      for (const received of yield* sendSigned("/proxy", ["Via: 1.0 first", "via: 1.1 sprayproxy-other (of ours)"])) {
        assert.deepStrictEqual(
          pairs(received.rawHeaders).filter(([name]) => name.toLowerCase() === "via"),
          [["Via", "1.0 first"], ["via", "1.1 sprayproxy-other (of ours)"], ["Via", via]]
        )
      }
    }))

  it.effect("nothing else: no header that GitHub did not send", () =>
    Effect.gen(function*() {
      for (const received of yield* sendSigned("/proxy", ["X-GitHub-Event: ping"])) {
        assert.deepStrictEqual(
          pairs(received.rawHeaders).map(([name]) => name.toLowerCase()).toSorted(),
          ["connection", "content-length", "host", "via", "x-github-delivery", "x-github-event", "x-hub-signature-256"]
        )
      }
    }))
})
