/**
 * One log entry as one line of text.
 *
 * Values come from senders and backends. No value may break the line, steer a terminal or grow the line without bound.
 * So strings are cut. Lone surrogates become U+FFFD, because several log shippers refuse a line with `\ud800` in it.
 * Control characters, line separators and bidirectional overrides are escaped.
 */
import type { LogFields, LogLevel, SharedFields } from "../../domain/LogEntry.ts"
import { unprintable } from "../../domain/Text.ts"

/**
 * Renders an entry as a line that ends in a newline. `millis` is Unix time. `json` may be given beside `fields` and is
 * then taken for `membersJson(fields)`: a writer can put it together from parts that it has rendered before. No value
 * in it may need an escape or a cut, and all of it is ASCII.
 */
export type RenderLine = (
  millis: number,
  level: LogLevel,
  message: string,
  fields?: LogFields,
  shared?: SharedFields,
  json?: string
) => string

const MESSAGE_CHARACTERS = 1024
const VALUE_CHARACTERS = 256

/** Fields that may be longer: the answer of a backend, and a cause with its stack. */
const LONGER_FIELDS: ReadonlyMap<string, number> = new Map([["answer", 1024], ["error", 2048]])

/** Our own messages are few and constant, but Effect's own logger brings others. */
const CACHED_MESSAGES = 256

/** The first `limit` characters (code points) of a text. */
export const cut = (text: string, limit: number): string => {
  if (text.length <= limit) return text
  let end = 0
  for (let count = 0; count < limit && end < text.length; count++) end += text.codePointAt(end)! > 0xffff ? 2 : 1
  return end < text.length ? text.slice(0, end) : text
}

/**
 * `{"ts":"2026-11-23T18:40:05.123Z","level":"info","msg":"proxied request","service":"sprayproxy","audit":"true",…}`
 *
 * This is on the path of each delivery. Measured with seven fields (352 bytes), the encoding to UTF-8 included, a line
 * takes 1,000 ns. One `JSON.stringify` of everything neither cuts nor escapes enough, and takes 1,140 ns with the
 * timestamp given and 1,950 without. Quoting each value by hand takes 1,200. A line with a value that isn't ASCII takes
 * 4,700.
 */
export const makeJson = (): RenderLine => {
  const timestamp = makeTimestamp()
  const heads: Record<LogLevel, Map<string, string>> = {
    debug: new Map(),
    info: new Map(),
    warn: new Map(),
    error: new Map()
  }
  const head = (level: LogLevel, message: string): string => {
    const cached = heads[level].get(message)
    if (cached !== undefined) return cached
    const text = `","level":"${level}","msg":${
      quote(cut(message, MESSAGE_CHARACTERS))
    },"service":"sprayproxy","audit":"true"`
    if (heads[level].size < CACHED_MESSAGES) heads[level].set(message, text)
    return text
  }
  return (millis, level, message, fields, shared, json) => {
    let line = `{"ts":"${timestamp(millis)}${head(level, message)}`
    if (shared !== undefined) line += shared.json ?? renderOnce(shared)
    if (json !== undefined) line += json
    else if (fields !== undefined) line += membersJson(fields)
    return `${line}}\n`
  }
}

/** `18:40:05.123 INFO  proxied request  backend=https://… status=202`, for a terminal; times are UTC. */
export const makePretty = (options: { readonly colors: boolean }): RenderLine => {
  const timestamp = makeTimestamp()
  const paint = (code: number, text: string) => options.colors ? `\u001b[${code}m${text}\u001b[0m` : text
  return (millis, level, message, fields, shared) => {
    let line = `${paint(DIM, timestamp(millis).slice(11, -1))} ${paint(COLORS[level], level.toUpperCase().padEnd(5))} ${
      visible(cut(message, MESSAGE_CHARACTERS))
    }`
    let gap = "  "
    for (const [key, value] of Object.entries({ ...shared?.fields, ...fields })) {
      if (value === undefined) continue
      line += `${gap}${paint(DIM, `${visible(key)}=`)}${prettyValue(key, value)}`
      gap = " "
    }
    return `${line}\n`
  }
}

const DIM = 2
const COLORS: Record<LogLevel, number> = { debug: 90, info: 32, warn: 33, error: 31 }

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const visible = (text: string): string =>
  text.toWellFormed().replace(
    unprintable,
    (character) => SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

const quote = (text: string): string => visible(JSON.stringify(text.toWellFormed()))

const limitOf = (key: string): number => LONGER_FIELDS.get(key) ?? VALUE_CHARACTERS

const prettyValue = (key: string, value: string | number | boolean): string => {
  if (typeof value !== "string") return String(value)
  const text = cut(value, limitOf(key))
  return text === "" || /[\s"=]/.test(text) ? quote(text) : visible(text)
}

/** The fields as members of a JSON object that has others before them: `,"status":202`. */
export const membersJson = (fields: LogFields): string => {
  const json = fieldsJson(fields)
  return json === "{}" ? "" : `,${json.slice(1, -1)}`
}

const renderOnce = (shared: SharedFields): string => {
  const json = membersJson(shared.fields)
  shared.isAscii = Buffer.byteLength(json) === json.length
  return shared.json = json
}

const fieldsJson = (fields: LogFields): string => {
  if (hasLongValue(fields)) return safeFieldsJson(fields)
  const json = JSON.stringify(fields)
  // JSON leaves DEL and all that is not ASCII as it is, and writes a lone surrogate as a `\ud…` escape. All three tests
  // are native scans and take 150 ns together; a regular expression over the line takes 380.
  return Buffer.byteLength(json) === json.length && !json.includes("\u007f") && !json.includes("\\ud")
    ? json
    : safeFieldsJson(fields)
}

const hasLongValue = (fields: LogFields): boolean => {
  for (const key in fields) {
    const value = fields[key]
    if (typeof value === "string" && value.length > VALUE_CHARACTERS) return true
  }
  return false
}

const safeFieldsJson = (fields: LogFields): string =>
  visible(JSON.stringify(Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key.toWellFormed(),
      typeof value === "string" ? cut(value, limitOf(key)).toWellFormed() : value
    ])
  )))

/** Most lines share their millisecond with the line before, and nearly all share their second. */
const makeTimestamp = () => {
  let lastMillis = Number.NaN
  let lastSecond = Number.NaN
  let toSecond = ""
  let text = ""
  return (millis: number): string => {
    if (millis === lastMillis) return text
    const second = Math.floor(millis / 1000)
    if (second !== lastSecond) {
      toSecond = new Date(second * 1000).toISOString().slice(0, -4)
      lastSecond = second
    }
    lastMillis = millis
    text = `${toSecond}${String(Math.floor(millis - second * 1000)).padStart(3, "0")}Z`
    return text
  }
}
