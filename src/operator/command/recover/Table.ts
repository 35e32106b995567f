/** The deliveries that a look has found, as text for people: cut and coloured as the list of deliveries is. */
import type { FoundLine } from "../../recovery/Answers.ts"
import { bold, coloured, cut, utc, type Width } from "../Text.ts"

/** One line for a delivery. */
export const found = ({ action, event, failedAt, guid, isMissing, why }: FoundLine, width: Width): string => {
  const name = action === null ? event : `${event} ${action}`
  const line = cut(width.columns, row(utc(failedAt), name, guid, why))
  return `${coloured(width.hasColours, isMissing ? "yellow" : "gray", line)}\n`
}

/** The line above the first delivery. */
export const heading = ({ columns, hasColours }: Width): string =>
  `${bold(hasColours, cut(columns, row("FAILED (UTC)", "EVENT", "GUID", "GITHUB GOT")))}\n`

const row = (failed: string, event: string, guid: string, why: string): string =>
  `${failed.padEnd(19)}  ${event.padEnd(27)}  ${guid.padEnd(36)}  ${why}`
