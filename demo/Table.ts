/** A row as a line of text, for a terminal of 80 columns or more. */
import { styleText } from "node:util"
import type { Arrival, Row } from "./Row.ts"

/** Text stays plain if stdout is no terminal, and with `NO_COLOR`. */
export const paint = (style: "bold" | "dim" | "green" | "red" | "yellow", text: string): string =>
  styleText(style, text, { stream: process.stdout })

const columns = [
  { name: "pac-1", width: 8 },
  { name: "pac-2", width: 9 },
  { name: "pac-3", width: 15 }
] as const

const labelWidth = 22
const bytesWidth = 7
const cellsWidth = columns.reduce((sum, column) => sum + 2 + column.width, -2)
const replyAt = 2 + labelWidth + 2 + bytesWidth + 2 + cellsWidth + 2

/** The width without the words of a reply. */
export const tableWidth = replyAt + "200".length

/** The heading, with a note on each backend. */
export const header = (...notes: readonly [string, string, string]): string =>
  [
    line("", "", columns.map((column) => column.name.padEnd(column.width)).join("  "), "GitHub"),
    line("delivery", "size", columns.map((column, at) => notes[at]!.padEnd(column.width)).join("  "), "got")
  ].map((text) => paint("dim", text)).join("\n")

export const rowLine = (row: Row, terminalColumns: number): string =>
  line(
    printable(row.label),
    row.bytes === undefined ? "" : size(row.bytes),
    row.refusal !== undefined && row.arrivals.length === 0
      ? paint("yellow", `refused: ${row.refusal}`.padEnd(cellsWidth))
      : columns.map((column) => cell(row, column.name, column.width)).join("  "),
    replyText(row, terminalColumns - replyAt)
  )

const line = (label: string, bytes: string, cells: string, reply: string): string =>
  `  ${label.padEnd(labelWidth)}  ${bytes.padStart(bytesWidth)}  ${cells}  ${reply}`.trimEnd()

/** Every answer that one backend gave: `503 503 ✓ 1.2 s`. */
const cell = (row: Row, backend: string, width: number): string => {
  const arrivals = row.arrivals.filter((arrival) => arrival.backend === backend)
  const text = arrivals.map((arrival) => arrivalText(row, arrival)).join(" ") || "·"
  const isHere = arrivals.some(({ status }) => status < 300)
  const style = text.includes("✗") ? "red" : isHere ? "green" : arrivals.length > 0 ? "yellow" : "dim"
  return paint(style, text.padEnd(width))
}

const arrivalText = ({ sent }: Row, arrival: Arrival): string => {
  if (arrival.status >= 300) return String(arrival.status)
  if (!arrival.verified || (sent !== undefined && sent.digest !== arrival.digest)) return "✗ altered"
  return sent === undefined ? "✓" : `✓ ${time(arrival.at - sent.at)}`
}

const replyText = ({ reply }: Row, room: number): string => {
  if (reply === undefined) return ""
  const text = `${reply.status} ${reply.text}`.trim()
  return paint(reply.status < 300 ? "green" : "yellow", text.length <= room ? text : String(reply.status))
}

const time = (millis: number): string =>
  millis < 1_000 ? `${Math.round(millis)} ms` : `${(millis / 1_000).toFixed(1)} s`

const size = (bytes: number): string =>
  bytes < 1_000
    ? `${bytes} B`
    : bytes < 1_000_000
    ? `${(bytes / 1_000).toFixed(1)} kB`
    : `${(bytes / 1_000_000).toFixed(1)} MB`

/** Only printable characters, because anybody may send an event of any name to a running demo. */
const printable = (text: string): string => text.replace(/[^\u0020-\u007e]/g, "?").slice(0, labelWidth)
