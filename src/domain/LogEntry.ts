/** A log line before it is written: plain values, which a delivery may carry with it. */

/** The least severe first. */
export const logLevels = ["debug", "info", "warn", "error"] as const

export type LogLevel = typeof logLevels[number]

/** Fields of a line, in the order they are printed. `undefined` ones are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields that several lines have in common. They come first, and are rendered once. */
export class SharedFields {
  readonly fields: LogFields
  /** The renderer's own. */
  rendered: string | undefined

  constructor(fields: LogFields) {
    this.fields = fields
  }
}

export interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}
