/** The command line of the benchmark. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { serverName } from "../figures/Scenario.ts"

export interface Options {
  readonly quick: boolean
  /** The build that is measured, then the builds that it is compared with. */
  readonly builds: readonly [measured: Build, ...others: Array<Build>]
  /** How often processes are started anew in each scenario. Undefined: as often as the scenario says. */
  readonly starts: number | undefined
  /** Scenarios and groups of them. Empty: all, or those that compare builds if there are several builds. */
  readonly only: ReadonlyArray<string>
  /** A file, or `-` for stdout. */
  readonly json: string | undefined
  readonly report: boolean
  readonly list: boolean
  readonly help: boolean
  readonly serverFlags: ReadonlyArray<string>
  /** Flags for Node itself, the same for the servers and the floor. */
  readonly nodeFlags: ReadonlyArray<string>
}

export interface Build {
  readonly name: string
  readonly program: string
}

class InvalidOption extends Schema.TaggedError<InvalidOption>()("InvalidOption", {
  flag: Schema.String,
  value: Schema.optional(Schema.String),
  allowed: Schema.String
}) {
  override get message() {
    const given = this.value === undefined ? this.flag : `${this.flag} ${JSON.stringify(this.value)}`
    return `invalid ${given}: ${this.allowed}`
  }
}

const flags = {
  quick: { type: "boolean", multiple: false, help: "short rounds: a first impression in a few minutes" },
  against: {
    type: "string",
    multiple: true,
    help: "another build's dist: what this one costs beside it (repeat)"
  },
  only: { type: "string", multiple: true, help: "these scenarios, or groups of them (repeat, or commas)" },
  starts: {
    type: "string",
    multiple: false,
    help: "how often each process is started anew: more make intervals narrower"
  },
  json: { type: "string", multiple: false, help: "everything that was measured, into a file, or - for stdout" },
  report: {
    type: "boolean",
    multiple: false,
    help: "renew docs/benchmark.json, docs/benchmark.svg and what the docs show of them"
  },
  server: { type: "string", multiple: false, help: "another build's dist in place of this one" },
  "server-flag": {
    type: "string",
    multiple: true,
    help: "--server-flag=--body-memory=64MiB: a flag for the server (repeat)"
  },
  "node-flag": {
    type: "string",
    multiple: true,
    help: "--node-flag=--max-semi-space-size=4: a flag for Node (repeat)"
  },
  list: { type: "boolean", multiple: false, help: "the scenarios, by group" },
  help: { type: "boolean", multiple: false, help: "this text" }
} as const

type FlagName = keyof typeof flags
const names = Object.keys(flags) as ReadonlyArray<FlagName>
const isFlag = (name: string): name is FlagName => name in flags

export const help = [
  "usage: npm run bench -- [flags]",
  ...names.map((name) => {
    const takes = flags[name].type === "string" ? " <value>" : ""
    return `  ${`--${name}${takes}`.padEnd(22)} ${flags[name].help}`
  })
].join("\n")

/** The program of a build, which is given as its folder or as the program in it. */
const programOf = (build: string): string => /\.[cm]?js$/.test(build) ? build : join(build, "sprayproxy.js")

/** Makes `--json` alone mean stdout. */
const withJsonTarget = (args: ReadonlyArray<string>): Array<string> =>
  args.map((arg, i) => {
    const next = args[i + 1]
    return arg === "--json" && (next === undefined || next.startsWith("--")) ? "--json=-" : arg
  })

/** `scenarios` are the names that `--only` takes. */
export const parse = Effect.fnUntraced(function*(args: ReadonlyArray<string>, scenarios: ReadonlyArray<string>) {
  const { tokens } = parseArgs({
    args: withJsonTarget(args),
    options: flags,
    strict: false,
    allowPositionals: true,
    tokens: true
  })
  const given = new Map<FlagName, Array<string>>()
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue
    if (token.kind === "positional") {
      return yield* new InvalidOption({
        flag: "argument",
        value: token.value,
        allowed: "there are only flags, see --help"
      })
    }
    const { name, rawName: flag, value } = token
    if (!isFlag(name)) {
      return yield* new InvalidOption({
        flag,
        allowed: `must be one of ${names.map((n) => `--${n}`).join(" ")}`
      })
    }
    const takesValue = flags[name].type === "string"
    if (takesValue && (value === undefined || value === "")) {
      return yield* new InvalidOption({ flag, allowed: "needs a value" })
    }
    if (!takesValue && value !== undefined) {
      return yield* new InvalidOption({ flag, value, allowed: "takes no value" })
    }
    if (!flags[name].multiple && given.has(name)) {
      return yield* new InvalidOption({ flag, allowed: "must be given once" })
    }
    given.set(name, [...given.get(name) ?? [], value ?? ""])
  }
  const only = (given.get("only") ?? []).flatMap((value) => value.split(","))
  for (const value of only) {
    if (!scenarios.includes(value)) {
      return yield* new InvalidOption({ flag: "--only", value, allowed: `must be of ${scenarios.join(", ")}` })
    }
  }
  const starts = given.get("starts")?.[0]
  if (starts !== undefined && !/^[1-9]\d?$/.test(starts)) {
    return yield* new InvalidOption({ flag: "--starts", value: starts, allowed: "must be from 1 to 99" })
  }
  for (const flag of ["only", "server", "against"] as const) {
    if (given.has("report") && given.has(flag)) {
      return yield* new InvalidOption({ flag: "--report", allowed: `not with --${flag}: it is about all there is` })
    }
  }
  return {
    quick: given.has("quick"),
    builds: [
      { name: serverName, program: programOf(given.get("server")?.[0] ?? "dist") },
      ...[...new Set(given.get("against"))].map((path) => ({ name: path, program: programOf(path) }))
    ],
    starts: starts === undefined ? undefined : Number(starts),
    only,
    json: given.get("json")?.[0],
    report: given.has("report"),
    list: given.has("list"),
    help: given.has("help"),
    serverFlags: given.get("server-flag") ?? [],
    nodeFlags: given.get("node-flag") ?? []
  } satisfies Options
})
