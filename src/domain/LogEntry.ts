/** A log line before it is written. Its fields are plain values, so a delivery may carry them with it. */

/** The least severe first. */
export const logLevels = ["debug", "info", "warn", "error"] as const

export type LogLevel = typeof logLevels[number]

/** The fields of a line, in the order in which they are printed. Those that are `undefined` are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields that several lines have in common. They are rendered once, and come first in each line. */
export class SharedFields {
  readonly fields: LogFields
  /** The fields as JSON. If it was not given, the renderer writes it. */
  json: string | undefined
  /** Whether the JSON is known to be ASCII alone. */
  isAscii: boolean

  /** `json` may be given if its writer has it already. No value in it may need an escape or a cut, and all of it is ASCII. */
  constructor(fields: LogFields, json?: string) {
    this.fields = fields
    this.json = json
    this.isAscii = json !== undefined
  }
}

/** One log line, before it is rendered. */
export interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}
