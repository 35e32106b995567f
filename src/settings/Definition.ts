/**
 * One row of the settings table: where a setting's text comes from, how it is decoded, and what the help says of it.
 */
import * as Arr from "effect/Array"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import { quote } from "../domain/Text.ts"
import type { Kind, Refusal } from "./Kinds.ts"

/**
 * A setting is missing or has a bad value. The message is one line: `invalid --port "x": a port is a whole number from 0
 * to 65535`.
 */
export class InvalidSetting extends Schema.TaggedError<InvalidSetting>()("InvalidSetting", {
  /** The name as the user wrote it: `--port` or `SPRAYPROXY_SERVER_PORT`. */
  setting: Schema.String,
  /** At most 256 characters. Absent if nothing was given. */
  value: Schema.optionalKey(Schema.String),
  allowed: Schema.String
}) {
  /** The command line prints this error itself, so the runtime must not. */
  override readonly [Runtime.errorReported] = false

  override get message() {
    return this.value === undefined
      ? `missing ${this.setting}: ${this.allowed}`
      : `invalid ${this.setting} ${quote(this.value)}: ${this.allowed}`
  }
}

/** The error for a value that was refused. The value is cut to 256 characters. */
export const invalidSetting = (setting: string, { allowed, value }: Refusal) =>
  new InvalidSetting({ setting, value: value.slice(0, 256), allowed })

/** The part that is written down for every setting. */
interface Words {
  /** The flag without its dashes. A secret has no flag, because flags are seen in `ps`. */
  readonly flag?: string
  readonly variable: string
  readonly description: string
  /** The setting without which this one means nothing. */
  readonly onlyWith?: "store" | "enableDynamicBackends" | "githubAppId"
}

/** One setting: how its text is found and decoded, and how the help shows it. */
export interface Definition<A> extends Words {
  /** The placeholder in the help. */
  readonly metavar: string
  /** The default as the help shows it. */
  readonly defaultText: string
  readonly repeatable: boolean
  /** The value of a flag that stands alone. */
  readonly bareValue?: string
  /** The texts that are decoded if neither the flag nor the variable is given. */
  readonly fallback: ReadonlyArray<string>
  /** The variable of a secret is taken byte for byte, without trimming. */
  readonly secret: boolean
  readonly decode: (texts: ReadonlyArray<string>, from: "flag" | "variable") => Result.Result<A, Refusal>
}

/** A setting with exactly one value. If its flag is repeated, the last value counts, as in Go. */
export const one = <A>(
  kind: Kind<A>,
  words: Words & { readonly fallback: string; readonly defaultText?: string; readonly bareValue?: string }
): Definition<A> => ({
  defaultText: words.fallback,
  ...words,
  metavar: kind.metavar,
  repeatable: false,
  secret: false,
  fallback: [words.fallback],
  decode: (texts) => kind.decode(texts.at(-1) ?? words.fallback)
})

/** A setting that may be absent. An empty flag takes away the value that the variable gives. */
export const optional = <A>(
  kind: Kind<A>,
  words: Words & { readonly defaultText?: string; readonly secret?: boolean }
): Definition<Option.Option<A>> => ({
  defaultText: "none",
  secret: false,
  ...words,
  metavar: kind.metavar,
  repeatable: false,
  fallback: [],
  decode: (texts) => {
    const text = texts.at(-1) ?? ""
    return text === "" ? Result.succeed(Option.none()) : Result.map(kind.decode(text), Option.some)
  }
})

/** A setting with any number of values. Empty ones are left out. */
export const many = <A>(
  kind: Kind<A>,
  words: Words & {
    readonly defaultText?: string
    readonly separators: { readonly flag: RegExp | undefined; readonly variable: RegExp }
    /** Of several values with the same identity, the first counts. */
    readonly identity?: (value: A) => string
  }
): Definition<ReadonlyArray<A>> => ({
  defaultText: "none",
  ...words,
  metavar: kind.metavar,
  repeatable: true,
  secret: false,
  fallback: [],
  decode: (texts, from) => {
    const separator = words.separators[from]
    const parts = separator === undefined
      ? texts
      : texts.flatMap((text) => text.split(separator).map((part) => part.trim()))
    const decoded = Result.all(parts.filter((part) => part.trim() !== "").map(kind.decode))
    const { identity } = words
    return identity === undefined
      ? decoded
      : Result.map(decoded, Arr.dedupeWith((value, other) => identity(value) === identity(other)))
  }
})

/** The flags as they were given: each name, without its dashes, with its values in order. */
export type GivenFlags = Readonly<Record<string, ReadonlyArray<string> | undefined>>

const given = (definition: Definition<unknown>, flags: GivenFlags): ReadonlyArray<string> =>
  definition.flag === undefined ? [] : flags[definition.flag] ?? []

/** The setting's name as the user wrote it. */
export const source = (definition: Definition<unknown>, flags: GivenFlags): string =>
  given(definition, flags).length > 0 ? `--${definition.flag}` : definition.variable

/** Whether the user gave it a value. */
export const isGiven = (definition: Definition<unknown>, flags: GivenFlags, variable: string | undefined): boolean =>
  (given(definition, flags).at(-1) ?? variable ?? "").trim() !== ""

/** Reads one setting: the flag wins over the variable, and a blank variable is an unset one. */
export const read = <A>(
  definition: Definition<A>,
  flags: GivenFlags,
  variable: string | undefined
): Result.Result<A, InvalidSetting> => {
  const texts = given(definition, flags)
  const text = definition.secret ? variable : variable?.trim()
  const decoded = texts.length > 0
    ? definition.decode(texts, "flag")
    : definition.decode(text === undefined || text.trim() === "" ? definition.fallback : [text], "variable")
  return Result.mapError(decoded, (refusal) => invalidSetting(source(definition, flags), refusal))
}
