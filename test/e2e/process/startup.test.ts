/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { join } from "node:path"
import packageJson from "../../../package.json" with { type: "json" }
import { startBackend } from "../../support/Backend.ts"
import { deliver, secret, send } from "../../support/GitHub.ts"
import { type LogLine, programFile, runToEnd, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { directory, loopback, withSecret } from "./Starting.ts"

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
  const dynamic = [...backend, "--enable-dynamic-backends"]

  it.live("none for a plain configuration", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* warningsOf(backend), [])
    }))

  for (
    const [what, args, expected] of [
      ["--insecure-skip-webhook-verify", [...backend, "--insecure-skip-webhook-verify"], /without a check that GitHub/],
      ["--insecure-skip-tls-verify", [...backend, "--insecure-skip-tls-verify"], /certificates of backends are not/],
      ["no backends", [], /^no backend gets the deliveries/],
      ["dynamic backends that nothing bounds", dynamic, /^whoever registers a backend receives the deliveries of all/],
      [
        "dynamic backends beyond loopback",
        [...dynamic, "--dynamic-backend-repositories", "org/*", "--host", "0.0.0.0"],
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
