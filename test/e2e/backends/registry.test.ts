/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, runToEnd, startProgram } from "../../support/Program.ts"

interface Listed {
  readonly url: string
  readonly source: string
  readonly registeredAt: string
  readonly expiresAt: string | null
  readonly lastOutcome: string | null
  readonly lastOutcomeAt: string | null
}

const change = async (program: Program, method: "POST" | "DELETE", body: unknown) => {
  const { status, text } = await send(program.port, { method, path: "/backends", body: JSON.stringify(body) })
  return `${status} ${text}`
}

const list = async (program: Program): Promise<ReadonlyArray<Listed>> => {
  const { text } = await send(program.port, {
    method: "GET",
    path: "/backends",
    headers: { accept: "application/json" }
  })
  return JSON.parse(text) as ReadonlyArray<Listed>
}

const registered = "200 registered the backend server"
const alreadyRegistered = "302 backend server already registered"
const unregistered = "200 backend server unregistered"
const notFound = "404 backend server not found in the list"

const dynamic = "--enable-dynamic-backends"

const url = (network: number, host: number) => `http://10.${network}.${host >> 8}.${host & 255}:8080`

const count = (answers: ReadonlyArray<string>) => {
  const counts: Record<string, number> = {}
  for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1
  return counts
}

describe("two thousand changes at once", () => {
  it.live("are each answered as if they were alone, and none is lost", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic, "--dynamic-backend-limit", "2000", "--backend", "http://10.9.9.9"])
      yield* Effect.promise(async () => {
        const hosts = Array.from({ length: 500 }, (_, host) => host)
        for (const answer of await Promise.all(hosts.map((host) => change(program, "POST", { url: url(1, host) })))) {
          assert.strictEqual(answer, registered)
        }
        const [added, removed, again, same, missing] = await Promise.all([
          Promise.all(hosts.map((host) => change(program, "POST", { url: url(2, host) }))),
          Promise.all(hosts.slice(0, 400).map((host) => change(program, "DELETE", { url: url(1, host) }))),
          Promise.all(hosts.slice(400).map((host) => change(program, "POST", { url: `${url(1, host)}/` }))),
          Promise.all(hosts.map(() => change(program, "POST", { url: "http://10.3.0.0/base" }))),
          Promise.all(hosts.map((host) => change(program, "DELETE", { url: url(4, host) })))
        ])
        assert.deepStrictEqual(
          [added, removed, again, same, missing].map((answers) => count(answers)),
          [
            { [registered]: 500 },
            { [unregistered]: 400 },
            { [alreadyRegistered]: 100 },
            { [registered]: 1, [alreadyRegistered]: 499 },
            { [notFound]: 500 }
          ]
        )
        const expected = [
          "http://10.9.9.9",
          "http://10.3.0.0/base",
          ...hosts.slice(400).map((host) => url(1, host)),
          ...hosts.map((host) => url(2, host))
        ]
        const listed = (await list(program)).map((one) => one.url)
        assert.strictEqual(listed[0], "http://10.9.9.9")
        assert.deepStrictEqual(listed.toSorted(), expected.toSorted())
        assert.isNull(program.process.exitCode)
        const lines = (message: string) => program.logs.filter(({ msg }) => msg === message).length
        await program.logged(() => lines("server registered") === 1_001 && lines("server unregistered") === 400)
      })
    }))

  it.live("of one backend leave it registered or not, as the last answer said", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic])
      yield* Effect.promise(async () => {
        const body = { url: "http://10.1.1.1" }
        const answers = await Promise.all(
          Array.from({ length: 500 }, (_, number) => change(program, number % 2 === 0 ? "POST" : "DELETE", body))
        )
        const times = (answer: string) => answers.filter((one) => one === answer).length
        const left = times(registered) - times(unregistered)
        assert.include([0, 1], left)
        assert.strictEqual((await list(program)).length, left)
        assert.strictEqual(
          times(registered) + times(alreadyRegistered) + times(unregistered) + times(notFound),
          500
        )
      })
    }))
})

const hasCurl = spawnSync("curl", ["--version"]).status === 0
if (!hasCurl) console.warn("SKIPPED: there is no curl on this machine, the QE scripts' requests are not tested")

const curl = async (...args: ReadonlyArray<string>): Promise<string> => {
  const { stderr, stdout } = await runToEnd(["-sS", "-w", " %{http_code}", ...args], {}, ["curl"])
  assert.strictEqual(stderr, "")
  return stdout
}

describe.skipIf(!hasCurl)("as the QE scripts do it, with curl", () => {
  it.live("registers, lists and unregisters", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic])
      yield* Effect.promise(async () => {
        const backends = `${program.url}/backends`
        const data = ["--data", `{"url":"https://10.1.2.3"}`]
        assert.strictEqual(await curl(backends), "Backend urls:  200")
        assert.strictEqual(await curl("-X", "POST", backends, ...data), "registered the backend server 200")
        assert.strictEqual(await curl("-X", "POST", backends, ...data), "backend server already registered 302")
        assert.strictEqual(await curl(backends, ...data), "backend server already registered 302")
        assert.strictEqual(await curl("-X", "GET", backends, ...data), "Backend urls: https://10.1.2.3 200")
        const json = await curl("-H", "Accept: application/json", backends)
        assert.match(json, /^\[\{"url":"https:\/\/10\.1\.2\.3","source":"dynamic","registeredAt":"20.*\}\] 200$/)
        assert.strictEqual(await curl("-X", "DELETE", backends, ...data), "backend server unregistered 200")
        assert.strictEqual(await curl("-X", "DELETE", backends, ...data), "backend server not found in the list 404")
        assert.strictEqual(await curl("-X", "POST", backends), "please provide a valid json body 400")
        assert.strictEqual(
          await curl("-H", "Expect: 100-continue", "-X", "POST", backends, ...data),
          "registered the backend server 200"
        )
      })
    }))
})

describe("a registered backend", () => {
  it.live("gets the next delivery, and none after it was unregistered", () =>
    Effect.gen(function*() {
      const always = yield* startBackend()
      const sometimes = yield* startBackend()
      const program = yield* startProgram([dynamic, "--backend", always.url])
      yield* Effect.promise(async () => {
        await deliver(program.port, "1")
        assert.strictEqual(await change(program, "POST", { url: sometimes.url }), registered)
        await deliver(program.port, "2")
        assert.strictEqual(await change(program, "DELETE", { url: `${sometimes.url}/` }), unregistered)
        await deliver(program.port, "3")
        assert.deepStrictEqual(always.received.map(({ body }) => body.toString()), ["1", "2", "3"])
        assert.deepStrictEqual(sometimes.received.map(({ body }) => body.toString()), ["2"])
      })
    }))

  it.live("shows how its last delivery ended, and when", () =>
    Effect.gen(function*() {
      const good = yield* startBackend()
      const bad = yield* startBackend((_, response) => {
        response.writeHead(500).end()
      })
      const program = yield* startProgram([dynamic, "--backend", good.url])
      yield* Effect.promise(async () => {
        await change(program, "POST", { url: bad.url, ttl: "1h" })
        for (const one of await list(program)) {
          assert.deepInclude(one, { lastOutcome: null, lastOutcomeAt: null })
        }
        assert.strictEqual((await deliver(program.port, "{}")).status, 502)
        const [first, second] = await list(program)
        assert.deepInclude(first, { url: good.url, source: "static", expiresAt: null, lastOutcome: "delivered" })
        assert.deepInclude(second, { url: bad.url, source: "dynamic", lastOutcome: "failed" })
        assert.strictEqual(Date.parse(second!.expiresAt!) - Date.parse(second!.registeredAt), 3_600_000)
        assert.isAtLeast(Date.parse(second!.lastOutcomeAt!), Date.parse(second!.registeredAt))
      })
    }))

  it.live("is gone when its ttl is over", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram([dynamic])
      yield* Effect.promise(async () => {
        const start = Date.now()
        assert.strictEqual(await change(program, "POST", { url: backend.url, ttl: "700ms" }), registered)
        const { ts: end } = await program.logged(({ msg }) => msg === "server unregistered")
        assert.isAtLeast(Date.parse(String(end)) - start, 690)
        assert.deepStrictEqual(await list(program), [])
        assert.strictEqual((await deliver(program.port, "{}")).status, 200)
        assert.strictEqual(backend.received.length, 0)
        assert.strictEqual(await change(program, "DELETE", { url: backend.url }), notFound)
      })
    }))

  it.live("is not there any more after a restart", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const program = yield* startProgram([dynamic])
        yield* Effect.promise(() => change(program, "POST", { url: "http://10.1.1.1" }))
      }))
      const program = yield* startProgram([dynamic])
      assert.deepStrictEqual(yield* Effect.promise(() => list(program)), [])
    }))
})

describe("refused", () => {
  it.live("beyond the limit: 409, until one is unregistered", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic, "--dynamic-backend-limit", "1", "--backend", "http://10.0.0.1"])
      yield* Effect.promise(async () => {
        assert.strictEqual(await change(program, "POST", { url: "http://10.0.0.2" }), registered)
        assert.strictEqual(
          await change(program, "POST", { url: "http://10.0.0.3" }),
          "409 no more than 1 dynamic backends are allowed"
        )
        assert.strictEqual(await change(program, "POST", { url: "http://10.0.0.2" }), alreadyRegistered)
        assert.strictEqual(await change(program, "DELETE", { url: "http://10.0.0.2" }), unregistered)
        assert.strictEqual(await change(program, "POST", { url: "http://10.0.0.3" }), registered)
      })
    }))

  it.live("a static backend: 302 when it is registered, 403 when it is unregistered", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic, "--backend", "http://10.0.0.1"])
      yield* Effect.promise(async () => {
        assert.strictEqual(await change(program, "POST", { url: "http://10.0.0.1:80/" }), alreadyRegistered)
        assert.strictEqual(
          await change(program, "DELETE", { url: "http://10.0.0.1" }),
          "403 a static backend can't be unregistered"
        )
      })
    }))

  it.live("metadata and unspecified addresses however they are written, and this listener: 422", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic])
      const ownPort = String(program.port)
      yield* Effect.promise(async () => {
        for (
          const [host, reason] of [
            ["169.254.169.254", "link-local addresses are not allowed"],
            ["2852039166", "link-local addresses are not allowed"],
            ["0xA9FEA9FE", "link-local addresses are not allowed"],
            ["0251.0376.0251.0376", "link-local addresses are not allowed"],
            ["[::ffff:169.254.169.254]", "link-local addresses are not allowed"],
            ["[::ffff:a9fe:a9fe]", "link-local addresses are not allowed"],
            ["[64:ff9b::169.254.169.254]", "link-local addresses are not allowed"],
            ["[fe80::1]", "link-local addresses are not allowed"],
            ["[fd00:ec2::254]", "metadata addresses are not allowed"],
            ["168.63.129.16", "metadata addresses are not allowed"],
            ["0.0.0.0", "unspecified addresses are not allowed"],
            ["[::]", "unspecified addresses are not allowed"],
            [`127.0.0.1:${ownPort}`, "a backend can't be this sprayproxy itself"],
            [`[::ffff:127.0.0.1]:${ownPort}`, "a backend can't be this sprayproxy itself"]
          ]
        ) {
          assert.strictEqual(await change(program, "POST", { url: `http://${host}` }), `422 ${reason}`, host)
        }
        assert.match(
          await change(program, "POST", { url: `http://localhost:${ownPort}` }),
          /^422 the host can't resolve/
        )
        assert.deepStrictEqual(await list(program), [])
      })
    }))

  it.live("hosts that --dynamic-backend-allow does not name: 422", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic, "--dynamic-backend-allow", "*.apps.example.com,10.1.1.1"])
      yield* Effect.promise(async () => {
        assert.match(
          await change(program, "POST", { url: "http://10.1.1.2" }),
          /^422 the host is not allowed; allowed are/
        )
        assert.strictEqual(await change(program, "POST", { url: "http://10.1.1.1" }), registered)
      })
    }))

  it.live("what is no JSON: 400; what is no URL of a backend: 422; what is too large: 413", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([dynamic])
      yield* Effect.promise(async () => {
        const post = async (body: string) => {
          const { status, text } = await send(program.port, { path: "/backends", body })
          return `${status} ${text}`
        }
        assert.strictEqual(await post("url=http://10.1.1.1"), "400 please provide a valid json body")
        assert.strictEqual(await post(`{"url":"ftp://10.1.1.1"}`), "422 a backend url starts with http:// or https://")
        assert.strictEqual(await post(" ".repeat(64 * 1024 + 1)), "413 request body too large")
        assert.strictEqual(await post(" ".repeat(10 * 1024 * 1024)), "413 request body too large")
        assert.match(await change(program, "POST", { url: "http://10.1.1.1", ttl: "1 day" }), /^422 ttl is "1 day"/)
      })
    }))

  it.live("everything, without --enable-dynamic-backends: 404", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--backend", "http://10.0.0.1"])
      yield* Effect.promise(async () => {
        for (const method of ["GET", "POST", "DELETE", "PUT"]) {
          const body = method === "GET" ? {} : { body: `{"url":"http://10.1.1.1"}` }
          const { status, text } = await send(program.port, { method, path: "/backends", ...body })
          assert.deepStrictEqual([method, status, text], [method, 404, "not found"])
        }
      })
    }))
})
