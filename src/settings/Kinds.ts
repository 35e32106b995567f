/**
 * The kinds of values that a setting can have. A kind has a placeholder for the help, a schema that reads the text, and
 * the rule that a refusal states.
 */
import * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { isIP } from "node:net"
import * as Backend from "../domain/Backend.ts"
import { eventRule, isEvent } from "../domain/BackendFilter.ts"
import * as RepositoryPattern from "../domain/RepositoryPattern.ts"
import { ByteSize, format as formatSize } from "./ByteSize.ts"
import * as GitHubUrl from "./GitHubUrl.ts"
import { GoDuration } from "./GoDuration.ts"
import * as StoreLocation from "./StoreLocation.ts"

/** Why a text was refused: the wrong part of it, fit to be printed, and what is allowed instead. */
export interface Refusal {
  readonly value: string
  readonly allowed: string
}

/** Reads one value of a setting. */
export interface Kind<A> {
  /** The placeholder in the help: `<duration>`. */
  readonly metavar: string
  readonly decode: (text: string) => Result.Result<A, Refusal>
}

const kind = <A>(metavar: string, allowed: string, schema: Schema.Codec<A, string>): Kind<A> => ({
  metavar,
  decode: (text) => Result.mapError(Schema.decodeResult(schema)(text), () => ({ value: text, allowed }))
})

// Node fires a longer timer at once.
const longestTimer = Duration.millis(2 ** 31 - 1)

/** A Go duration, from `minimum` to the longest that Node's timers can hold. */
export const duration = (minimum: "above 0s" | "0s or more"): Kind<Duration.Duration> =>
  kind(
    "<duration>",
    `a duration is like 15s, 1m30s or 700ms, ${minimum}, at most 596h`,
    GoDuration.check(Schema.makeFilter((value) =>
      Duration.isLessThanOrEqualTo(value, longestTimer) &&
      (Duration.isPositive(value) || (minimum === "0s or more" && Duration.isZero(value)))
    ))
  )

/** A number of bytes (`26214400`, `25MiB`), at least `minimum`. */
export const size = (minimum: number): Kind<number> =>
  kind(
    "<size>",
    `a size is a whole number of bytes, or one with a unit like 25MiB, at least ${formatSize(minimum)}`,
    ByteSize.check(Schema.isGreaterThanOrEqualTo(minimum))
  )

// Leading zeros are refused, because Go reads 010 as 8.
const Digits = Schema.String.check(Schema.isPattern(/^(0|[1-9]\d{0,15})$/)).pipe(
  Schema.decodeTo(Schema.Int, { decode: SchemaGetter.Number(), encode: SchemaGetter.String() })
)

const whole = (metavar: string, subject: string, minimum: number, maximum: number): Kind<number> =>
  kind(
    metavar,
    `${subject} is a whole number ${
      maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`
    }`,
    Digits.check(Schema.isBetween({ minimum, maximum }))
  )

/** A whole number. */
export const count = (minimum: number, maximum = Number.MAX_SAFE_INTEGER): Kind<number> =>
  whole("<count>", "a count", minimum, maximum)

/** A GitHub App's id. */
export const appId: Kind<number> = kind(
  "<id>",
  "an App id is a whole number of at least 1, as on the App's page; its client id (Iv…) is not meant",
  Digits.check(Schema.isBetween({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }))
)

/** A TCP port; 0 takes a free one. */
export const port: Kind<number> = whole("<port>", "a port", 0, 65_535)

const truths = ["1", "t", "T", "TRUE", "true", "True"] as const
const falsehoods = ["0", "f", "F", "FALSE", "false", "False"] as const

/** A boolean, in any spelling that Go's `strconv.ParseBool` takes. */
export const bool: Kind<boolean> = kind(
  "[=<bool>]",
  `a switch is one of ${[...truths, ...falsehoods].join(", ")}`,
  Schema.Literals([...truths, ...falsehoods]).pipe(Schema.decodeTo(Schema.Boolean, {
    decode: SchemaGetter.transform((word) => truths.some((truth) => truth === word)),
    encode: SchemaGetter.transform((value) => value ? "true" as const : "false" as const)
  }))
)

/** One of some words, in any case. */
export const choice = <const Words extends ReadonlyArray<string>>(words: Words): Kind<Words[number]> =>
  kind(
    `<${words.join("|")}>`,
    `it is one of ${words.join(", ")}`,
    Schema.String.pipe(Schema.decode(SchemaTransformation.toLowerCase()), Schema.decodeTo(Schema.Literals(words)))
  )

/** A file's path. Whether the file is there is checked where it is read. */
export const path: Kind<string> = kind("<path>", "a path is not empty", Schema.NonEmptyString)

/** Any text, byte for byte, kept out of logs. */
export const secret: Kind<Redacted.Redacted<string>> = kind(
  "<secret>",
  "a secret is not empty",
  Schema.RedactedFromValue(Schema.NonEmptyString)
)

/**
 * A host name of RFC 1123. Underscores are allowed too, because clusters use them. A last label of digits is refused:
 * it is a mistyped address.
 */
const isName = (host: string): boolean =>
  host.length <= 253 && /^([a-z\d_]([a-z\d_-]{0,61}[a-z\d_])?(\.|$))+$/i.test(host) && !/(^|\.)\d+$/.test(host) &&
  !host.endsWith(".")

/** An address to listen on. `""` is all interfaces. `[::1]`, as Go wants it, loses its brackets. */
export const listenAddress: Kind<string> = kind(
  "<address>",
  "a host is an IP address or a host name",
  Schema.String.pipe(
    Schema.decode({
      decode: SchemaGetter.transform((host) => host.replace(/^\[([^\]]*:[^\]]*)\]$/, "$1")),
      encode: SchemaGetter.passthrough()
    }),
    Schema.check(Schema.makeFilter((host) => host === "" || isIP(host) !== 0 || isName(host)))
  )
)

/** A pattern that `HostPattern.matches` understands, in lower case. */
export const hostPattern: Kind<string> = kind(
  "<pattern>",
  "a pattern is a host name, *. and a host name, * for all names, or an IP address",
  Schema.String.pipe(
    Schema.decode(SchemaTransformation.toLowerCase()),
    Schema.check(
      Schema.makeFilter((pattern) => pattern === "*" || isIP(pattern) !== 0 || isName(pattern.replace(/^\*\./, "")))
    )
  )
)

/** A static backend. */
export const backend: Kind<Backend.Backend> = {
  metavar: "<url>",
  decode: (url) =>
    /[,\s]\s*https?:|,$/i.test(url)
      ? Result.fail({
        value: Backend.withoutSecrets(url),
        allowed: "each backend is one url: commas separate them in the flag, white space in the variable"
      })
      : Result.mapError(
        Backend.parse(url, "static"),
        ({ reason }) => ({ value: Backend.withoutSecrets(url), allowed: reason })
      )
}

/** A pattern of repositories, in lower case. */
export const repositoryPattern: Kind<string> = {
  metavar: "<pattern>",
  decode: (text) => {
    const pattern = RepositoryPattern.parse(text)
    return pattern === undefined
      ? Result.fail({ value: text, allowed: RepositoryPattern.patternRule })
      : Result.succeed(pattern)
  }
}

/** Values that belong to one static backend, which is named by its key. */
export interface OfBackend {
  readonly key: string
  readonly url: string
  readonly values: ReadonlyArray<string>
}

/** `URL=VALUE[,VALUE]`. */
const ofBackend = (metavar: string, value: string, rule: string, read: (text: string) => string | undefined) => ({
  metavar,
  decode: (text) => {
    // No value has an equals sign, and a URL may.
    const at = text.lastIndexOf("=")
    const url = text.slice(0, Math.max(0, at)).trim()
    const parsed = Result.getOrUndefined(Backend.parse(url, "static"))
    if (at < 0 || parsed === undefined) {
      return Result.fail({
        value: Backend.withoutSecrets(text),
        allowed: `it is a backend's url, =, and ${value} separated by commas`
      })
    }
    const texts = text.slice(at + 1).split(",").map((part) => part.trim()).filter((part) => part !== "")
    const values = texts.map(read)
    const refused = texts.find((_, index) => values[index] === undefined)
    if (refused !== undefined || texts.length === 0) return Result.fail({ value: refused ?? text, allowed: rule })
    return Result.succeed({ key: parsed.key, url, values: values.filter((each) => each !== undefined) })
  }
} satisfies Kind<OfBackend>)

export const backendPatterns: Kind<OfBackend> = ofBackend(
  "<url=pattern>",
  "patterns",
  RepositoryPattern.patternRule,
  RepositoryPattern.parse
)

export const backendEvents: Kind<OfBackend> = ofBackend(
  "<url=event>",
  "events",
  eventRule,
  (text) => isEvent(text) ? text : undefined
)

/** The place where deliveries are stored. A refused one is shown without what may be a password. */
export const store: Kind<StoreLocation.StoreLocation> = {
  metavar: "<url>",
  decode: (text) =>
    Result.mapError(StoreLocation.parse(text), (allowed) => ({ value: Backend.withoutSecrets(text), allowed }))
}

/** The base URL of GitHub's API, without a slash at its end. A refused one is shown without what may be a token. */
export const githubApiUrl: Kind<string> = {
  metavar: "<url>",
  decode: (text) =>
    Result.mapError(GitHubUrl.parse(text), (allowed) => ({ value: Backend.withoutSecrets(text), allowed }))
}
