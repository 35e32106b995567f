/**
 * The program's log. Its own lines and those of Effect's logger go to one stream, in the format that the settings say.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import type * as EffectLogLevel from "effect/LogLevel"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import type { LogEntry, LogFields, LogLevel, SharedFields } from "../../domain/LogEntry.ts"
import { oneLine } from "../../domain/Text.ts"
import { Settings } from "../../settings/Settings.ts"
import * as Names from "../metrics/Names.ts"
import { observableCounter } from "../metrics/Series.ts"
import { makeJson, makePretty } from "./LogLine.ts"
import { type LogSink, makeLogWriter } from "./LogWriter.ts"

/**
 * Writes the program's log lines. It is synchronous, because attempts end in callbacks and a line must not cost a
 * fiber.
 */
export class Log extends Context.Service<Log, {
  /** `json`: see `RenderLine`. */
  readonly write: (
    level: LogLevel,
    message: string,
    fields?: LogFields,
    shared?: SharedFields,
    json?: string
  ) => void
}>()("sprayproxy/observability/logs/Logging/Log") {
  /**
   * Writes to stdout, together with the lines of Effect's own logger. Closing it waits until everything is written, 2 s
   * at most.
   */
  static readonly layer: Layer.Layer<Log, never, Settings> = Layer.suspend(() => Log.layerSink(process.stdout))

  /** The same, to any stream. */
  static readonly layerSink = (sink: LogSink): Layer.Layer<Log, never, Settings> =>
    layerEffectLogger.pipe(
      Layer.provideMerge(Layer.effect(Log, makeLog(sink))),
      Layer.merge(Layer.effect(
        References.MinimumLogLevel,
        Effect.map(Settings, (settings) => EFFECT_LEVELS[settings.logLevel])
      ))
    )

  /** Collects the entries of all levels in `LogEntries` and prints nothing. */
  static readonly layerTest: Layer.Layer<Log | LogEntries> = Layer.suspend(() => {
    const entries: Array<LogEntry> = []
    return layerEffectLogger.pipe(
      Layer.provideMerge(Layer.succeed(Log, {
        write: (level, message, fields, shared) =>
          void entries.push({ level, message, fields: { ...shared?.fields, ...fields } })
      })),
      Layer.merge(Layer.succeed(LogEntries, { entries }))
    )
  })
}

/** The entries that were written under `Log.layerTest`, oldest first. */
export class LogEntries extends Context.Service<LogEntries, {
  readonly entries: ReadonlyArray<LogEntry>
}>()("sprayproxy/observability/logs/Logging/LogEntries") {}

const RANKS: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 }

/** Whether lines of `level` are written where `minimum` is the log level. */
export const isLogged = (level: LogLevel, minimum: LogLevel): boolean => RANKS[level] >= RANKS[minimum]

const EFFECT_LEVELS: Record<LogLevel, EffectLogLevel.LogLevel> = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error"
}

const makeLog = Effect.fnUntraced(function*(sink: LogSink) {
  const settings = yield* Settings
  const clock = yield* Clock.Clock
  // https://no-color.org: any value but an empty one turns colours off.
  const noColor = yield* Config.String("NO_COLOR").pipe(Config.withDefault(""), Effect.orDie)
  const render = settings.logFormat === "json"
    ? makeJson()
    : makePretty({ colors: sink.isTTY === true && noColor === "" })
  const minimum = RANKS[settings.logLevel]
  let dropped = 0
  yield* observableCounter(Names.logLinesDropped, () => dropped)
  const writer = makeLogWriter(
    sink,
    (count) => {
      dropped += count
      return render(clock.currentTimeMillisUnsafe(), "warn", "log lines dropped", { count })
    }
  )
  yield* Effect.addFinalizer(() => writer.close)
  return Log.of({
    write: (level, message, fields, shared, json) => {
      if (RANKS[level] < minimum) return
      const line = render(clock.currentTimeMillisUnsafe(), level, message, fields, shared, json)
      writer.write(line, json !== undefined && shared?.isAscii === true)
    }
  })
})

const LEVELS: Record<EffectLogLevel.LogLevel, LogLevel> = {
  All: "debug",
  Trace: "debug",
  Debug: "debug",
  Info: "info",
  Warn: "warn",
  Error: "error",
  Fatal: "error",
  None: "debug"
}

/**
 * Members that each line has already. An annotation of the same name would be a second one, so it gets a `_` at its
 * end.
 */
const RESERVED: ReadonlySet<string> = new Set(["ts", "level", "msg", "service", "audit"])

const layerEffectLogger: Layer.Layer<never, never, Log> = Logger.layer([
  Effect.map(Log, (log) =>
    Logger.make<unknown, void>(({ cause, fiber, logLevel, message }) => {
      const fields: Record<string, string | number | boolean> = {}
      for (const [key, value] of Object.entries(fiber.getRef(References.CurrentLogAnnotations))) {
        fields[RESERVED.has(key) ? `${key}_` : key] = typeof value === "number" || typeof value === "boolean"
          ? value
          : textOf(value)
      }
      if (cause.reasons.length > 0) fields["error"] = oneLine(Cause.pretty(cause))
      const text = Array.isArray(message) ? message.map(textOf).join(" ") : textOf(message)
      log.write(LEVELS[logLevel], text, fields)
    }))
])

const textOf = (value: unknown): string => typeof value === "string" ? value : Formatter.format(value)
