/**
 * The command line: `sprayproxy server`, which also runs without a command, `sprayproxy deliveries` and `sprayproxy
 * recover`.
 *
 * **Details**
 *
 * A failure that ends the run is printed here, once, as one line on stderr: `sprayproxy: invalid --port "x": …`.
 */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Match from "effect/Match"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Predicate from "effect/Predicate"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import type { FlagDoc } from "effect/cli/HelpDoc"
import { ChildProcessSpawner, make as makeSpawner } from "effect/process/ChildProcessSpawner"
import packageJson from "../package.json" with { type: "json" }
import { innermostMessage, oneLine, printable, quote } from "./domain/Text.ts"
import type { CommandFailed } from "./operator/command/Failures.ts"
import { deliveriesCommand, type DeliveriesRequest } from "./operator/command/Flags.ts"
import { recoverCommand, type RecoverRequest } from "./operator/command/recover/Flags.ts"
import type { InvalidSetting } from "./settings/Definition.ts"
import { settingsHelp } from "./settings/Help.ts"
import { resolve, type Settings } from "./settings/Settings.ts"
import { definitions } from "./settings/Table.ts"
import type { Environment } from "./settings/Variables.ts"

type Service = Settings["Service"]

/**
 * Runs the handler with the settings, or prints help, version or completions. `argv` is what follows the program's
 * name. `isTerminal` says whether stdout is a terminal, which decides the default log format.
 */
export const run = <E, R>(
  argv: ReadonlyArray<string>,
  env: Environment,
  handler: (settings: Service) => Effect.Effect<void, E, R>,
  isTerminal = process.stdout.isTTY === true
): Effect.Effect<void, E | InvalidSetting | CliError.CliError | CommandFailed, R> =>
  parse<Effect.Effect<void, E | CommandFailed, R>, InvalidSetting>(argv, {
    server: (flags) => Effect.map(Effect.fromResult(resolve(flags, env, { isTerminal })), handler),
    deliveries: (request) =>
      Effect.succeed(
        // Imported here, so that the server's start does not pay for it.
        Effect.flatMap(Effect.promise(() => import("./operator/command/Command.ts")), (command) =>
          command.run(request, env))
      ),
    recover: (request) =>
      Effect.succeed(
        Effect.flatMap(Effect.promise(() => import("./operator/command/recover/Command.ts")), (command) =>
          command.run(request, env))
      )
  }).pipe(
    Effect.flatMap(Option.getOrElse(() => Effect.void)),
    // A finalizer, because nothing else runs in a fiber that was interrupted, and the cause would be lost.
    Effect.onError((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Console.error(`sprayproxy: ${printable(oneLine(reason(cause, argv)))}`)
    )
  )

/** None if help, version or completions were asked for. They are printed then. */
const parse = <A, E>(
  argv: ReadonlyArray<string>,
  resolved: {
    readonly server: (flags: Record<string, ReadonlyArray<string>>) => Effect.Effect<A, E>
    readonly deliveries: (request: DeliveriesRequest) => Effect.Effect<A, E>
    readonly recover: (request: RecoverRequest) => Effect.Effect<A, E>
  }
): Effect.Effect<Option.Option<A>, E | CliError.CliError> =>
  Effect.suspend(() => {
    let result = Option.none<A>()
    const keep = (value: A) => {
      result = Option.some(value)
    }
    const server = Command.make("server", flags, (given) => Effect.map(resolved.server(given), keep)).pipe(
      Command.withDescription("Verify each webhook delivery and forward it to every backend"),
      Command.withExamples([{
        command: "GH_APP_WEBHOOK_SECRET=… sprayproxy server --backend https://pac.example.com"
      }])
    )
    const deliveries = deliveriesCommand((request) => Effect.map(resolved.deliveries(request), keep))
    const recover = recoverCommand((request) => Effect.map(resolved.recover(request), keep))
    const root = Command.make("sprayproxy").pipe(
      Command.withDescription("One GitHub App webhook URL in front of many clusters. Without a command: server"),
      Command.withSubcommands([server, deliveries, recover])
    )
    return Command.runWith(root, { version: packageJson.version })(withCommand(withNegativeValues(argv))).pipe(
      Effect.map(() => result),
      Effect.provide(Surroundings)
    )
  })

/** Values stay text, because the settings' own schemas read them, from a flag as from a variable. */
const flags = Object.fromEntries(
  Object.values(definitions).flatMap(({ bareValue, description, flag, metavar }) => {
    if (flag === undefined) return []
    const text = Flag.String(flag).pipe(Flag.withMetavar(metavar), Flag.withDescription(description))
    // Repeatable even if one value is meant: as in Go, the last one counts.
    return [[flag, Flag.atLeast(bareValue === undefined ? text : Flag.withOptionalValue(text, bareValue), 0)]]
  })
)

/** Images run the program bare, with `server` or with flags alone: all three start the server. */
const withCommand = ([first, ...rest]: ReadonlyArray<string>): ReadonlyArray<string> => {
  if (first === undefined) return ["server"]
  const isForRoot = !first.startsWith("-") || /^(--help|-h|--version|-v|--completions)(=|$)/.test(first)
  return isForRoot ? [first, ...rest] : ["server", first, ...rest]
}

/** `-1h` after a flag is its value. Effect takes a number for one, and reads the unit `h` as a call for help. */
const withNegativeValues = (argv: ReadonlyArray<string>): ReadonlyArray<string> => {
  const isValue = (at: number) => /^-\.?\d/.test(argv[at] ?? "") && /^--[^=]+$/.test(argv[at - 1] ?? "")
  return argv.flatMap((text, at) => isValue(at + 1) ? `${text}=${argv[at + 1]}` : isValue(at) ? [] : text)
}

const plain = CliOutput.defaultFormatter({ colors: false })

const formatter: CliOutput.Formatter = {
  ...plain,
  // Effect's two columns would be 200 characters wide.
  formatHelpDoc: (doc) => {
    const isServer = doc.commandPath?.[1] === "server"
    const globalFlags = (doc.globalFlags ?? []).map(withoutChoices)
    const help = plain.formatHelpDoc({ ...doc, globalFlags, flags: isServer ? [] : doc.flags })
    return isServer ? `${help}\n\nSETTINGS\n${settingsHelp()}` : help
  }
}

/** The flag's placeholder names the choices already. */
const withoutChoices = (flag: FlagDoc): FlagDoc => ({
  ...flag,
  description: Option.map(flag.description, (text) => text.replace(/ script \(choices: .*\)$/, ""))
})

const presenter: CliOutput.Presenter = {
  present: (event) =>
    Predicate.isTagged(event, "InvalidInvocation") ? Effect.void : CliOutput.defaultPresenter.present(event)
}

/**
 * The services that flags need by type. Flags of text use none of them, and the real ones would cost 20 ms at each
 * start and open stdin.
 */
const Unused = Layer.mergeAll(
  FileSystem.layerNoop({}),
  Path.layer,
  Stdio.layerTest({}),
  Layer.succeed(
    Terminal.Terminal,
    Terminal.make({
      columns: Effect.succeed(0),
      rows: Effect.succeed(0),
      size: Effect.die("unused"),
      readInput: Effect.die("unused"),
      readLine: Effect.die("unused"),
      display: () => Effect.void
    })
  ),
  Layer.succeed(ChildProcessSpawner, makeSpawner(() => Effect.die("unused")))
)

const Surroundings = Layer.mergeAll(
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] }),
  CliOutput.layer(formatter),
  CliOutput.layerPresenter(presenter),
  Unused
)

const reason = (cause: Cause.Cause<unknown>, argv: ReadonlyArray<string>): string => {
  const error = Cause.squash(cause)
  // A defect is a mistake in this program: its stack says where.
  if (cause.reasons.some(Cause.isDieReason)) return Cause.pretty(cause)
  if (isShowHelp(error)) {
    const [first] = error.errors
    return first === undefined
      ? `${error.commandPath.slice(1).join(" ")} needs a command`
      : invocationReason(first, argv)
  }
  return innermostMessage(error)
}

const isShowHelp = (error: unknown): error is CliError.ShowHelp =>
  CliError.isCliError(error) && Predicate.isTagged(error, "ShowHelp")

/** Effect's own messages take several lines and print values as they are. */
const invocationReason = (error: CliError.NonShowHelpErrors, argv: ReadonlyArray<string>): string =>
  Match.value(error).pipe(
    Match.tags({
      UnrecognizedOption: ({ option, suggestions }) => `unknown flag ${option}${suggested(suggestions)}`,
      UnknownSubcommand: ({ subcommand, suggestions }) =>
        `unknown command ${quote(subcommand)}${suggested(suggestions)}`,
      UnexpectedArgument: ({ arguments: [argument = ""] }) =>
        `unexpected argument ${quote(argument)}${
          followsSwitch(argument, argv) ? "; a switch takes its value after =" : ""
        }`,
      MissingArgument: ({ argument }) => `missing <${argument}>`,
      InvalidValue: ({ expected, option, value }) =>
        value === "" ? `--${option} needs a value` : `invalid --${option} ${quote(value)}: ${ruleOf(expected)}`
    }),
    Match.orElse(({ message }) => message)
  )

/** Effect writes a choice as `"a" | "b"`. The settings have words of their own for it. */
const ruleOf = (expected: string): string =>
  expected.startsWith("\"")
    ? `it is one of ${expected.replaceAll("\"", "").split(" | ").join(", ")}`
    : `expected ${expected}`

const followsSwitch = (argument: string, argv: ReadonlyArray<string>): boolean =>
  argv.some((text, at) => text === argument && switches.has(argv[at - 1] ?? ""))

const switches: ReadonlySet<string> = new Set(
  Object.values(definitions).flatMap(({ bareValue, flag }) => bareValue === undefined ? [] : [`--${flag}`])
)

const suggested = (suggestions: ReadonlyArray<string>): string =>
  suggestions.length === 0 ? "" : `, did you mean ${suggestions.join(" or ")}?`
