/** A log line before it is written. Its fields are plain values, so a delivery may carry them with it. */

/** The least severe first. */
export const logLevels = ["debug", "info", "warn", "error"] as const

export type LogLevel = typeof logLevels[number]

/** The fields of a line, in the order in which they are printed. Those that are `undefined` are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields that several lines have in common. They are rendered once, and come first in each line. */
export class SharedFields {
  readonly fields: LogFields
  /** The rendered fields. Only the renderer writes it. */
  rendered: string | undefined

  constructor(fields: LogFields) {
    this.fields = fields
  }
}

/** One log line, before it is rendered. */
export interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}
