import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as TestConsole from "effect/testing/TestConsole"
import packageJson from "../package.json" with { type: "json" }
import { run } from "../src/Cli.ts"
import type { Settings } from "../src/settings/Settings.ts"
import { definitions } from "../src/settings/Table.ts"
import type { Environment } from "../src/settings/Variables.ts"

const secretEnv = { GH_APP_WEBHOOK_SECRET: "s3cret" }

class Broken extends Data.TaggedError("Broken")<{ readonly cause: unknown }> {}

interface Surroundings {
  readonly env?: Environment
  readonly isTerminal?: boolean
  readonly handler?: Effect.Effect<void, Broken>
}

/** Runs the command line and tells what it printed and started. */
const invoke = Effect.fnUntraced(function*(argv: ReadonlyArray<string>, surroundings: Surroundings = {}) {
  const console = yield* TestConsole.make
  const started: Array<Settings["Service"]> = []
  const handler = (settings: Settings["Service"]) => {
    started.push(settings)
    return surroundings.handler ?? Effect.void
  }
  const exit = yield* run(argv, surroundings.env ?? secretEnv, handler, surroundings.isTerminal ?? false).pipe(
    Effect.provideService(Console.Console, console),
    Effect.exit
  )
  return { exit, started, out: (yield* console.logLines).join("\n"), err: yield* console.errorLines }
})

const refused = Effect.fnUntraced(function*(argv: ReadonlyArray<string>, line: string, env: Environment = secretEnv) {
  const { err, exit, out, started } = yield* invoke(argv, { env })
  assert.deepStrictEqual(err, [`sprayproxy: ${line}`])
  assert.isTrue(Exit.isFailure(exit))
  assert.strictEqual(out, "")
  assert.deepStrictEqual(started, [])
})

describe("starting", () => {
  it.effect.each([
    [[], 8080],
    [["server"], 8080],
    [["--port", "81"], 81],
    [["--port=81"], 81],
    [["server", "--port", "81"], 81],
    [["--insecure-skip-webhook-verify", "--port", "81"], 81],
    [["--port", "80", "--port", "81"], 81],
    [["--"], 8080]
  ])("%j starts the server", ([argv, port]) =>
    Effect.gen(function*() {
      const { err, exit, out, started } = yield* invoke(argv as Array<string>)
      assert.deepStrictEqual(started.map((settings) => settings.port), [port as number])
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual([out, err], ["", []])
    }))

  it.effect("takes flags before variables", () =>
    Effect.gen(function*() {
      const { started } = yield* invoke(["--port", "81"], {
        env: { ...secretEnv, SPRAYPROXY_SERVER_PORT: "82", SPRAYPROXY_SERVER_METRICS_PORT: "83" }
      })
      assert.deepStrictEqual(started.map((settings) => [settings.port, settings.metricsPort]), [[81, 83]])
    }))

  it.effect("collects a repeated flag", () =>
    Effect.gen(function*() {
      const { started } = yield* invoke(["--backend", "http://a,http://b", "--backend=http://c"])
      assert.deepStrictEqual(started[0]?.backends.map(({ name }) => name), ["a", "b", "c"])
    }))

  it.effect("reads switches alone and with a value, and leaves the next argument to others", () =>
    Effect.gen(function*() {
      const { started } = yield* invoke([
        "--enable-dynamic-backends",
        "--insecure-skip-tls-verify=T",
        "--insecure-skip-webhook-verify=false"
      ], { env: { ...secretEnv, SPRAYPROXY_SERVER_INSECURE_SKIP_WEBHOOK_VERIFY: "true" } })
      const [settings] = started
      assert.isTrue(settings?.enableDynamicBackends)
      assert.isTrue(settings?.insecureSkipTlsVerify)
      assert.isFalse(settings?.insecureSkipWebhookVerify)
    }))

  it.effect("has its own --log-level, and logs for people on a terminal", () =>
    Effect.gen(function*() {
      const { started } = yield* invoke(["--log-level", "warn"], { isTerminal: true })
      assert.deepStrictEqual(started.map((settings) => [settings.logLevel, settings.logFormat]), [["warn", "pretty"]])
    }))
})

const lines = (out: string) => out.split("\n")

const helpOf = (command: string) => Effect.map(invoke(["deliveries", command, "--help"], { env: {} }), ({ out }) => out)

describe("asking", () => {
  it.effect.each([["--help"], ["-h"]])("%j shows the commands", (argv) =>
    Effect.gen(function*() {
      const { err, exit, out, started } = yield* invoke(argv, { env: {} })
      assert.match(out, /SUBCOMMANDS\n {2}server .*\n {2}deliveries .*\n {2}recover /)
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual([err, started], [[], []])
    }))

  it.effect.each([["server", "--help"], ["--port", "1", "--help"]])(
    "%j shows the settings",
    (argv) =>
      Effect.gen(function*() {
        const { exit, out, started } = yield* invoke(argv, { env: {} })
        for (const { flag, variable } of Object.values(definitions)) {
          assert.include(out, variable)
          if (flag !== undefined) assert.include(lines(out).map((line) => line.split(/[ [=]+/)[1]), `--${flag}`)
        }
        assert.isTrue(Exit.isSuccess(exit))
        assert.deepStrictEqual(started, [])
        assert.deepStrictEqual(lines(out).filter((line) => line.length > 80), [])
      })
  )

  it.effect.each([
    [["deliveries", "--help"], ["list", "show", "redeliver"]],
    [["deliveries", "list", "--help"], ["--state", "--backend", "--event", "--since", "--limit", "--all", "--json"]],
    [["deliveries", "show", "--help"], ["<guid>", "--body", "SPRAYPROXY_URL"]],
    [["deliveries", "redeliver", "--help"], ["[<guid>]", "--all", "--token-file", "SPRAYPROXY_TOKEN"]],
    [["recover", "--help"], ["--since", "--event", "--dry-run", "--json", "SPRAYPROXY_URL", "SPRAYPROXY_TOKEN"]]
  ])("%j shows what can be asked of a server, and asks none", ([argv, words]) =>
    Effect.gen(function*() {
      const { err, exit, out, started } = yield* invoke(argv!, { env: {} })
      for (const word of words!) assert.include(out, word)
      assert.notInclude(out, "SETTINGS")
      assert.deepStrictEqual(lines(out).filter((line) => line.length > 120), [])
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual([err, started], [[], []])
    }))

  it.effect("the help of a command names the defaults that it has, and no others", () =>
    Effect.gen(function*() {
      const redeliver = yield* helpOf("redeliver")
      assert.match(redeliver, /--state <state> +Rows in this state \[default: dead\]/)
      assert.match(redeliver, /--limit <count> .*\[default: 500\]/)
      assert.match(redeliver, /--event <name> +Only this event, such as push\n/)
      const list = yield* helpOf("list")
      assert.notMatch(list, /--state .*default/)
      assert.match(list, /--limit <count> .*\[default: 50, with --all 500\]/)
    }))

  it.effect.each([["--version"], ["-v"], ["server", "--version"]])(
    "%j shows the version",
    (argv) =>
      Effect.gen(function*() {
        const { out, started } = yield* invoke(argv, { env: {} })
        assert.strictEqual(out, `sprayproxy v${packageJson.version}`)
        assert.deepStrictEqual(started, [])
      })
  )

  it.effect.each(["bash", "zsh", "fish"])("--completions %s knows every flag", (shell) =>
    Effect.gen(function*() {
      const { out, started } = yield* invoke(["--completions", shell], { env: {} })
      for (const { flag } of Object.values(definitions)) if (flag !== undefined) assert.include(out, flag)
      for (const word of ["server", "deliveries", "redeliver", "recover", "token-file"]) assert.include(out, word)
      assert.deepStrictEqual(started, [])
    }))
})

describe("refusing", () => {
  it.effect("an unknown flag", () => refused(["--prot", "80"], "unknown flag --prot, did you mean --port?"))

  it.effect("an unknown flag that resembles none", () => refused(["server", "--zzzzzz"], "unknown flag --zzzzzz"))

  it.effect("a secret on the command line", () =>
    refused(["--gh-app-webhook-secret=hunter2"], "unknown flag --gh-app-webhook-secret"))

  it.effect("a flag without its value", () => refused(["--port"], "--port needs a value"))

  it.effect("a flag whose value is missing before the next", () =>
    refused(["--port", "--backend", "http://a"], "--port needs a value"))

  it.effect("a flag whose value is a negative duration, which is no call for help", () =>
    refused(
      ["--recovery-pace", "-1h"],
      "invalid --recovery-pace \"-1h\": a duration is like 15s, 1m30s or 700ms, 0s or more, at most 596h"
    ))

  it.effect("an unknown command", () => refused(["serve"], "unknown command \"serve\", did you mean server?"))

  it.effect("an argument that belongs to nothing", () =>
    refused(
      ["--enable-dynamic-backends", "false"],
      "unexpected argument \"false\"; a switch takes its value after ="
    ))

  it.effect.each([
    [["deliveries", "show", "a", "b"], "b"],
    [["deliveries", "list", "--json", "x"], "x"],
    [["--port", "80", "81"], "81"],
    [["server", "--host=a", "b"], "b"]
  ])(
    "an argument that no switch stands before: %j",
    ([argv, argument]) => refused(argv as Array<string>, `unexpected argument "${argument as string}"`)
  )

  it.effect("a bad flag", () =>
    refused(["--port", "x"], "invalid --port \"x\": a port is a whole number from 0 to 65535"))

  it.effect("a bad variable", () =>
    refused([], "invalid SPRAYPROXY_SERVER_PORT \"x\": a port is a whole number from 0 to 65535", {
      ...secretEnv,
      SPRAYPROXY_SERVER_PORT: "x"
    }))

  it.effect("to start without a secret", () =>
    refused(
      [],
      "missing GH_APP_WEBHOOK_SECRET or --webhook-secret-file: one of the two is required, unless " +
        "--insecure-skip-webhook-verify is set",
      {}
    ))

  it.effect("a group of commands without one", () =>
    Effect.gen(function*() {
      const { err, exit, out } = yield* invoke(["deliveries"], { env: {} })
      assert.deepStrictEqual(err, ["sprayproxy: deliveries needs a command"])
      assert.include(out, "redeliver")
      assert.isTrue(Exit.isFailure(exit))
    }))

  it.effect("a delivery that is not named", () => refused(["deliveries", "show"], "missing <guid>"))

  it.effect("a state that is none", () =>
    refused(
      ["deliveries", "list", "--state", "ded"],
      `invalid --state "ded": it is one of pending, delivered, rejected, dead, cancelled`
    ))

  it.effect("to send everything again", () =>
    refused(
      ["deliveries", "redeliver", "--all"],
      "name a delivery by its GUID, or several with --state, --backend, --event or --since"
    ))

  it.effect("a server that is none, in the flag and in the variable", () =>
    Effect.gen(function*() {
      const rule = "a server is an http or https url without credentials"
      yield* refused(["deliveries", "list", "--server", "x"], `invalid --server "x": ${rule}`)
      yield* refused(["recover", "--server", "x"], `invalid --server "x": ${rule}`)
      yield* refused(["deliveries", "list"], `invalid SPRAYPROXY_URL "x": ${rule}`, { SPRAYPROXY_URL: "x" })
    }))

  const control = /[\p{Cc}\p{Zl}\p{Zp}]/u

  it.effect.prop(
    "is one line, whatever stands there",
    { text: Schema.String, before: Schema.Literals(["--", "--port=", "--completions=", "-p=", "x", "--help="]) },
    ({ before, text }) =>
      Effect.gen(function*() {
        const { err } = yield* invoke(["server", `${before}${text}\u0007\r\n\u0085\u2028\u001b[2J`])
        assert.lengthOf(err, 1)
        assert.match(String(err[0]), /^sprayproxy: ./)
        assert.notMatch(String(err[0]), control)
      })
  )
})

describe("a server that fails", () => {
  it.effect("is explained by its cause, on one line", () =>
    Effect.gen(function*() {
      const handler = Effect.fail(new Broken({ cause: new Error("listen EADDRINUSE:\n address in use") }))
      const { err, exit } = yield* invoke([], { handler })
      assert.deepStrictEqual(err, ["sprayproxy: listen EADDRINUSE: address in use"])
      assert.isTrue(Exit.isFailure(exit))
    }))

  it.effect("by a mistake of ours shows where", () =>
    Effect.gen(function*() {
      const { err } = yield* invoke([], { handler: Effect.die(new Error("impossible")) })
      assert.lengthOf(err, 1)
      assert.match(String(err[0]), /^sprayproxy: Error: impossible at .*Cli\.test\.ts/)
    }))

  it.effect("because it was told to stop says nothing", () =>
    Effect.gen(function*() {
      const { err, exit } = yield* invoke([], { handler: Effect.interrupt })
      assert.deepStrictEqual(err, [])
      assert.isTrue(Exit.isFailure(exit))
    }))
})
