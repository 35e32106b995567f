/** The command line of the benchmark. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { parseArgs } from "node:util"

export interface Options {
  readonly quick: boolean
  /** Other builds to compare with: folders, or the programs in them. */
  readonly against: ReadonlyArray<string>
  /** Groups of scenarios, or kinds where builds are compared; none: all of them. */
  readonly only: ReadonlyArray<string>
  /** A file, or `-` for stdout. */
  readonly json: string | undefined
  readonly report: boolean
  readonly list: boolean
  readonly help: boolean
  /** The programs to measure. */
  readonly servers: ReadonlyArray<string>
  readonly serverFlags: ReadonlyArray<string>
  /** For Node itself, under the servers and the floor alike. */
  readonly nodeFlags: ReadonlyArray<string>
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
  only: { type: "string", multiple: true, help: "these groups of scenarios (repeat, or commas)" },
  json: { type: "string", multiple: false, help: "everything that was measured, into a file, or - for stdout" },
  report: {
    type: "boolean",
    multiple: false,
    help: "renew docs/benchmark.json, docs/benchmark.svg and what the docs show of them"
  },
  server: { type: "string", multiple: true, help: "a built server (repeat to compare; dist/sprayproxy.js)" },
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
  list: { type: "boolean", multiple: false, help: "the groups of scenarios" },
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

/** `--json` alone is stdout. */
const withJsonTarget = (args: ReadonlyArray<string>): Array<string> =>
  args.map((arg, i) => {
    const next = args[i + 1]
    return arg === "--json" && (next === undefined || next.startsWith("--")) ? "--json=-" : arg
  })

export const parse = Effect.fnUntraced(function*(
  args: ReadonlyArray<string>,
  groups: ReadonlyArray<string>,
  kinds: ReadonlyArray<string>
) {
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
  const against = given.get("against") ?? []
  const allowed = against.length > 0 ? kinds : groups
  const only = (given.get("only") ?? []).flatMap((value) => value.split(","))
  for (const value of only) {
    if (!allowed.includes(value)) {
      return yield* new InvalidOption({ flag: "--only", value, allowed: `must be of ${allowed.join(", ")}` })
    }
  }
  for (const flag of ["only", "server", "against"] as const) {
    if (given.has("report") && given.has(flag)) {
      return yield* new InvalidOption({ flag: "--report", allowed: `not with --${flag}: it is about all there is` })
    }
  }
  return {
    quick: given.has("quick"),
    against,
    only,
    json: given.get("json")?.[0],
    report: given.has("report"),
    list: given.has("list"),
    help: given.has("help"),
    servers: given.get("server") ?? ["dist/sprayproxy.js"],
    serverFlags: given.get("server-flag") ?? [],
    nodeFlags: given.get("node-flag") ?? []
  } satisfies Options
})
