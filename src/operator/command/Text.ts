/** How a command's tables are written: times, widths, colours. */
import { styleText } from "node:util"
import { printable } from "../../domain/Text.ts"
import type { Output } from "./Output.ts"

export type Width = Pick<Output["Service"], "columns" | "hasColours">

/** `2026-01-02T03:04:05.678Z` as `2026-01-02 03:04:05`. */
export const utc = (time: string): string => time.slice(0, 19).replace("T", " ")

/** A line that can't move the cursor. On a terminal that has too few columns for it, it loses its end. */
export const cut = (columns: number | undefined, line: string): string => {
  const text = printable(line)
  return columns === undefined || text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`
}

export const coloured = (hasColours: boolean, colour: "red" | "yellow" | "green" | "gray" | "reset", line: string) =>
  hasColours ? styleText(colour, line, { validateStream: false }) : line

export const bold = (hasColours: boolean, text: string): string =>
  hasColours ? styleText("bold", text, { validateStream: false }) : text
