import * as Context from "effect/Context"

export type LogLevel = "debug" | "info" | "warn" | "error"

/** Fields of a line, in the order they are printed. `undefined` ones are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Writes the program's log lines. Synchronous: attempts end in callbacks, and a line must not cost a fiber. */
export class Log extends Context.Service<Log, {
  readonly write: (level: LogLevel, message: string, fields?: LogFields) => void
}>()("sprayproxy/Log") {}
