/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text as textOf } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import packageJson from "../../../package.json" with { type: "json" }
import { listen, startBackend } from "../../support/Backend.ts"
import { deliver, secret, send } from "../../support/GitHub.ts"
import { type LogLine, programFile, runToEnd, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const withSecret = { GH_APP_WEBHOOK_SECRET: secret }
const loopback = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]

/** The start ends with one line on stderr, and nothing else. */
const refused = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  expected: string | RegExp
) =>
  Effect.promise(async () => {
    const { code, stderr, stdout } = await runToEnd(args, env)
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
    if (typeof expected === "string") assert.strictEqual(stderr, `sprayproxy: ${expected}\n`)
    else assert.match(stderr, expected)
    assert.match(stderr, /^[^\n]+\n$/)
    assert.notInclude(stderr, secret)
  })

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))

const directory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sprayproxy-startup-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true }))
)

describe("a start that is refused says why in one line", () => {
  const port = "a port is a whole number from 0 to 65535"

  it.live("a bad flag", () => refused(["server", "--port", "x"], withSecret, `invalid --port "x": ${port}`))

  it.live("a bad variable", () =>
    refused(
      [],
      { ...withSecret, SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT: "15" },
      "invalid SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT \"15\": a duration is like 15s, 1m30s or 700ms, above 0s, at most 596h"
    ))

  it.live("a bad size, count, switch and word", () =>
    Effect.all([
      refused(["--max-request-size", "25M"], withSecret, /^sprayproxy: invalid --max-request-size "25M": a size is /),
      refused(
        ["--backend-concurrency", "0"],
        withSecret,
        /^sprayproxy: invalid --backend-concurrency "0": a count is /
      ),
      refused(
        ["--enable-dynamic-backends=yes"],
        withSecret,
        /^sprayproxy: invalid --enable-dynamic-backends "yes": a switch /
      ),
      refused(
        ["--log-level", "loud"],
        withSecret,
        /^sprayproxy: invalid --log-level "loud": it is one of debug, info, /
      )
    ], { concurrency: 2 }))

  it.live("a backend that is none, without its password", () =>
    refused(
      ["--backend", "https://me:hunter2@pac.example.com"],
      withSecret,
      "invalid --backend \"https://***@pac.example.com\": a backend url has no credentials"
    ))

  it.live("a value that tries to be two lines", () =>
    refused(
      ["--port", "1\nsprayproxy: all is well"],
      withSecret,
      /^sprayproxy: invalid --port "1\\nsprayproxy: all is well"/
    ))

  it.live("no secret", () =>
    refused(
      loopback,
      {},
      "missing GH_APP_WEBHOOK_SECRET or --webhook-secret-file: one of the two is required, unless " +
        "--insecure-skip-webhook-verify is set"
    ))

  it.live("an unknown flag", () =>
    refused(["server", "--prot", "80"], withSecret, "unknown flag --prot, did you mean --port?"))

  it.live("an unknown command", () => refused(["serve"], withSecret, "unknown command \"serve\", did you mean server?"))

  it.live("a port that is in use", () =>
    Effect.gen(function*() {
      const taken = yield* listen(createServer())
      yield* refused(
        ["--host", "127.0.0.1", "--port", String(taken)],
        withSecret,
        `listen EADDRINUSE: address already in use 127.0.0.1:${taken}`
      )
    }))

  it.live("an address that is not ours", () =>
    refused(["--host", "192.0.2.1", "--port", "0"], withSecret, /^sprayproxy: listen EADDRNOTAVAIL: /))

  it.live("a --backend-ca that is missing, has no certificate, or a broken one", () =>
    Effect.all([
      refused(
        [...loopback, "--backend-ca", "/nonexistent/ca.pem"],
        withSecret,
        "--backend-ca: \"/nonexistent/ca.pem\" is not there; it takes a readable PEM file of certificates"
      ),
      refused([...loopback, "--backend-ca", fixture("localhost-key.pem")], withSecret, /has no certificate in it/),
      refused(
        [...loopback, "--backend-ca", fixture("broken-ca.pem")],
        withSecret,
        /a certificate \(number 2\) that can't be parsed/
      )
    ], { concurrency: 2 }))

  it.live("an HTTP_PROXY that can't be used for an http backend, without its password", () =>
    Effect.promise(async () => {
      const { code, stderr, stdout } = await runToEnd([...loopback, "--backend", "http://pac.example.com"], {
        ...withSecret,
        HTTP_PROXY: "ftp://me:hunter2@proxy.example.com"
      })
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^sprayproxy: HTTP_PROXY can't be used: a proxy is [^\n]+\n$/)
      assert.notInclude(stderr, "hunter2")
    }))

  it.live("a store that can't be meant, without its password", () =>
    Effect.promise(async () => {
      const { code, stderr } = await runToEnd(loopback, { ...withSecret, SPRAYPROXY_STORE: "postgres://u:hunter2@db" })
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^sprayproxy: invalid SPRAYPROXY_STORE "postgres:\/\/\*\*\*@db": it names no database: [^\n]+\n$/
      )
    }))

  it.live("what is set in vain is no reason, and is told among the first lines", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--backend", "https://pac.example.com"], {
        HTTP_PROXY: "ftp://me:hunter2@x",
        SPRAYPROXY_SERVER_BACKENDS: "hunter2",
        SPRAYPROXY_SERVER_SERVICE_HOST: "10.0.0.5",
        SPRAYPROXY_SERVER_PORT: "tcp://10.0.0.5:8443"
      })
      assert.strictEqual(program.stderr(), "")
      const said = program.logs.flatMap(({ level, msg }) => level === "warn" ? [msg.split(" ", 1)[0]] : [])
      assert.deepStrictEqual(said, ["SPRAYPROXY_SERVER_PORT", "SPRAYPROXY_SERVER_BACKENDS", "HTTP_PROXY"])
      assert.notInclude(JSON.stringify(program.logs), "hunter2")
    }))
})

/** The program as it is called, with its output, until the scope closes. */
const launch = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [programFile, ...args], {
        env: { PATH: process.env["PATH"], ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let stdout = ""
      let stderr = ""
      child.stdout.on("data", (chunk) => stdout += String(chunk))
      child.stderr.on("data", (chunk) => stderr += String(chunk))
      const closed = once(child, "close")
      return { child, closed, stdout: () => stdout, stderr: () => stderr }
    }),
    ({ child, closed }) =>
      Effect.promise(async () => {
        child.kill("SIGKILL")
        await closed
      })
  )

describe("the command", () => {
  const fromEnvironment = {
    ...withSecret,
    SPRAYPROXY_SERVER_HOST: "127.0.0.1",
    SPRAYPROXY_SERVER_PORT: "0",
    SPRAYPROXY_SERVER_METRICS_PORT: "0"
  }

  for (const args of [[], ["server"], ["--log-level", "info"], loopback, ["server", ...loopback]]) {
    it.live(`starts the server as \`sprayproxy ${args.join(" ")}\``, () =>
      Effect.gen(function*() {
        const started = yield* launch(args, fromEnvironment)
        yield* Effect.promise(async () => {
          await eventually(() => started.stdout().includes("\"msg\":\"listening\""), "the start")
          const line = started.stdout().split("\n").find((text) => text.includes("\"listening\""))
          const { port, version } = JSON.parse(line!) as { port: number; version: string }
          assert.strictEqual(version, packageJson.version)
          const ready = await send(port, { method: "GET", path: "/readyz" })
          assert.deepInclude(ready, { status: 200, text: "ready" })
          assert.strictEqual(started.stderr(), "")
        })
      }))
  }

  it.live("listens on all interfaces unless told otherwise", () =>
    Effect.gen(function*() {
      const started = yield* launch(["--port", "0", "--metrics-port", "0"], withSecret)
      yield* Effect.promise(async () => {
        await eventually(() => started.stdout().includes("\"listening\""), "the start")
        assert.match(started.stdout(), /"address":"(::|0\.0\.0\.0)"/)
      })
    }))

  it.live("answers --help, --version and --completions on stdout, without a secret", () =>
    Effect.promise(async () => {
      const [help, version, completions] = await Promise.all([
        runToEnd(["server", "--help"]),
        runToEnd(["--version"]),
        runToEnd(["--completions", "bash"])
      ])
      for (const { code, stderr } of [help, version, completions]) assert.deepStrictEqual([code, stderr], [0, ""])
      assert.include(help!.stdout, "--shutdown-grace")
      assert.include(help!.stdout, "GH_APP_WEBHOOK_SECRET")
      assert.strictEqual(version!.stdout.trim(), `sprayproxy v${packageJson.version}`)
      assert.include(completions!.stdout, "--shutdown-grace")
    }))

  it.live("--completions bash prints a script that bash takes and that completes a flag", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "completions.bash")
      yield* Effect.promise(async () => {
        fs.writeFileSync(path, (await runToEnd(["--completions", "bash"])).stdout)
        const script = `source "$0" && complete -p sprayproxy`
        const { code, stderr, stdout } = await runToEnd(["-c", script, path], {}, ["bash"])
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.match(stdout, /^complete .* sprayproxy\n$/)
      })
    }))
})

describe("warnings", () => {
  const warningsOf = Effect.fnUntraced(
    function*(args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) {
      const { logs } = yield* startProgram(args, env)
      return logs.filter(({ level }) => level === "warn").map(({ msg }) => msg)
    }
  )
  const backend = ["--backend", "http://127.0.0.1:1"]

  it.live("none for a plain configuration", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* warningsOf(backend), [])
    }))

  for (
    const [what, args, expected] of [
      ["--insecure-skip-webhook-verify", [...backend, "--insecure-skip-webhook-verify"], /without a check that GitHub/],
      ["--insecure-skip-tls-verify", [...backend, "--insecure-skip-tls-verify"], /certificates of backends are not/],
      ["no backends", [], /^no backend gets the deliveries/],
      [
        "dynamic backends beyond loopback",
        [...backend, "--enable-dynamic-backends", "--host", "0.0.0.0"],
        /^\/backends has no authentication of its own/
      ],
      ["a short grace", [...backend, "--shutdown-grace", "5s"], /^--shutdown-grace 5s is below/]
    ] as const
  ) {
    it.live(`one for ${what}`, () =>
      Effect.gen(function*() {
        const warnings = yield* warningsOf(args)
        assert.strictEqual(warnings.length, 1)
        assert.match(warnings[0]!, expected)
      }))
  }

  it.live("the secret is in none of the first lines, nor in those of a delivery", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--insecure-skip-tls-verify", "--log-level", "debug"])
      yield* Effect.promise(() => deliver(program.port, "{}"))
      yield* Effect.promise(() => deliver(program.port, "{}", { headers: { "x-hub-signature-256": "sha256=" } }))
      yield* Effect.promise(() => program.logged(({ msg }) => msg === "refused"))
      assert.notInclude(JSON.stringify(program.logs), secret)
    }))
})

describe("the log's settings", () => {
  it.live("--log-format pretty prints lines for people, without colours when there is no terminal", () =>
    Effect.gen(function*() {
      const started = yield* launch([...loopback, "--log-format", "pretty"], withSecret)
      yield* Effect.promise(() => eventually(() => started.stdout().includes("listening"), "the start"))
      const line = started.stdout().split("\n").find((text) => text.includes("listening"))
      assert.match(line!, /^\d\d:\d\d:\d\d\.\d{3} INFO  listening  address=127\.0\.0\.1 port=\d+ /)
      assert.notInclude(started.stdout(), "\u001b")
    }))

  it.live("--log-level error silences warnings and deliveries that went well, not failures", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((request, response) => {
        response.writeHead(request.body.toString() === "{}" ? 202 : 500).end()
      })
      // No line tells the port.
      const tellPort = `import { Server } from "node:net"
        const { listen } = Server.prototype
        Server.prototype.listen = function(...args) {
          this.once("listening", () => process.stderr.write(this.address().port + "\\n"))
          return listen.apply(this, args)
        }`
      const args = ["--log-level", "error", "--shutdown-grace", "10s", "--backend", backend.url]
      const started = yield* launch([...loopback, ...args], {
        ...withSecret,
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(tellPort)}`
      })
      yield* Effect.promise(async () => {
        await eventually(() => started.stderr().endsWith("\n"), "the start")
        const port = Number(started.stderr().split("\n")[0])
        assert.strictEqual((await deliver(port, "{}")).status, 200)
        assert.strictEqual((await deliver(port, "[]")).status, 502)
        started.child.kill("SIGTERM")
        await started.closed
        const lines = started.stdout().trim().split("\n").map((line) => JSON.parse(line) as LogLine)
        assert.deepStrictEqual(lines.map(({ level, msg, status }) => [level, msg, status]), [
          ["error", "proxied request", 500],
          ["error", "delivery answered", 502]
        ])
      })
    }))
})

/** A pipe as a shell makes it. Both ends are the caller's to close. */
const pipe = Effect.map(directory, (path) => {
  const fifo = join(path, "stdout")
  execFileSync("mkfifo", [fifo])
  // Opened for both, as neither end waits for the other then.
  const both = fs.openSync(fifo, "r+")
  const reader = fs.openSync(fifo, "r")
  const writer = fs.openSync(fifo, "w")
  fs.closeSync(both)
  return { reader, writer }
})

/** The program with `writer` as its stdout, which is closed here then. */
const launchInto = (writer: number, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [programFile, ...loopback, ...args], {
        env: { PATH: process.env["PATH"], ...withSecret },
        stdio: ["ignore", writer, "pipe"]
      })
      fs.closeSync(writer)
      const stderr = textOf(child.stderr!)
      const closed = once(child, "close").then(([code]) => code as number | null)
      return { child, closed, stderr }
    }),
    ({ child, closed }) =>
      Effect.promise(async () => {
        child.kill("SIGKILL")
        await closed
      })
  )

/** What a command makes of the pipe, which is closed here then. */
const readBy = (command: string, args: ReadonlyArray<string>, reader: number): Promise<string> => {
  const child = spawn(command, args, { stdio: [reader, "pipe", "inherit"] })
  fs.closeSync(reader)
  return textOf(child.stdout!)
}

const isCount = ({ msg }: LogLine): boolean => msg === "log lines dropped"

/** The port of the public listener, which the first line tells. */
const listening = (lines: string): number => {
  const { msg, port } = JSON.parse(lines.slice(0, lines.indexOf("\n"))) as LogLine
  assert.strictEqual(msg, "listening")
  return Number(port)
}

describe("stdout", () => {
  it.live("closed by its reader after a line, as by `| head -1`, ends nothing", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const { reader, writer } = yield* pipe
      const program = yield* launchInto(writer, ["--backend", backend.url])
      yield* Effect.promise(async () => {
        const port = listening(await readBy("head", ["-1"], reader))
        for (let count = 0; count < 20; count++) {
          assert.strictEqual((await deliver(port, JSON.stringify({ count }))).status, 200)
        }
        assert.strictEqual(backend.received.length, 20)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        assert.strictEqual(await program.stderr, "")
      })
    }))

  it.live("that nobody reads holds no delivery up, and what is kept for it is bounded and counted", () =>
    Effect.gen(function*() {
      // Each delivery makes 50 lines of 1.4 kB: 250 deliveries make twice what may be kept.
      const backend = yield* startBackend((_, response) => {
        response.writeHead(413).end("x".repeat(1_100))
      })
      const { reader, writer } = yield* pipe
      const backends = Array.from({ length: 50 }, (_, number) => `${backend.url}/${number}`)
      const timeouts = ["--forwarding-timeout", "50s", "--reply-deadline", "50s", "--shutdown-grace", "100s"]
      const program = yield* launchInto(writer, ["--backend", backends.join(","), ...timeouts])
      yield* Effect.promise(async () => {
        const first = Buffer.alloc(64 * 1024)
        const { bytesRead } = await promisify(fs.read)(reader, first, 0, first.length, null)
        const port = listening(first.subarray(0, bytesRead).toString())
        for (let round = 0; round < 25; round++) {
          const replies = await Promise.all(
            Array.from({ length: 10 }, (_, number) => deliver(port, JSON.stringify({ round, number })))
          )
          assert.deepStrictEqual(replies.map(({ status }) => status), replies.map(() => 200))
        }
        assert.strictEqual(backend.received.length, 12_500)

        const stdout = readBy("cat", [], reader)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        const lines = (await stdout).trim().split("\n").map((line) => JSON.parse(line) as LogLine)
        const dropped = lines.filter(isCount).reduce((sum, { count }) => sum + Number(count), 0)
        assert.isAbove(dropped, 0)
        // The attempts, the replies, "shutting down" and "stopped".
        assert.strictEqual(lines.filter((line) => !isCount(line)).length + dropped, 12_500 + 250 + 2)
        assert.isBelow(Buffer.byteLength(await stdout), 10 * 1024 * 1024)
      })
    }))

  it.live("that nobody ever reads holds the end up for two seconds at most", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => {
        response.writeHead(400).end("x".repeat(1_100))
      })
      const { reader, writer } = yield* pipe
      const backends = Array.from({ length: 50 }, (_, number) => `${backend.url}/${number}`)
      const program = yield* launchInto(writer, ["--backend", backends.join(",")])
      yield* Effect.promise(async () => {
        const first = Buffer.alloc(64 * 1024)
        const { bytesRead } = await promisify(fs.read)(reader, first, 0, first.length, null)
        const port = listening(first.subarray(0, bytesRead).toString())
        // 140 kB, more than the pipe takes.
        for (const body of ["1", "2"]) assert.strictEqual((await deliver(port, body)).status, 200)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        fs.closeSync(reader)
      })
    }))
})
