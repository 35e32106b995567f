/** What was measured, as text for a terminal of 120 columns. */
import { styleText } from "node:util"
import { type Figure, floorName, type Measure, missedBy, type ScenarioResult } from "../figures/Scenario.ts"
import type { Machine } from "../machine/Machine.ts"

const paint = (style: "bold" | "dim" | "green" | "red", text: string): string =>
  styleText(style, text, { stream: process.stdout })

const labelWidth = 26
const floorWidth = 11
const figureWidth = 27

export const scenarioTable = ({ group, measures, name, notes, problems, setting }: ScenarioResult): string => {
  const contenders = [...new Set(measures.flatMap((measure) => Object.keys(measure.contenders)))]
  const columns = contenders.map((contender) =>
    contender === floorName ? contender.padStart(floorWidth) : contender.padStart(figureWidth)
  )
  return [
    "",
    `${paint("bold", `${group}: ${name}`)}  ${paint("dim", setting)}`,
    paint("dim", `  ${"".padEnd(labelWidth)}${columns.join("")}  target`),
    ...measures.map((measure) => row(measure, contenders)),
    ...notes.map((note) => paint("dim", `  ${note}`)),
    ...problems.map((problem) => paint("red", `  ✗ ${problem}`))
  ].join("\n")
}

const row = (measure: Measure, contenders: ReadonlyArray<string>): string => {
  const cells = contenders.map((contender) => {
    const width = contender === floorName ? floorWidth : figureWidth
    const figure = measure.contenders[contender]
    return figure === undefined ? "".padStart(width) : ` ${figureText(figure)}`.padStart(width)
  })
  return `  ${measure.name.padEnd(labelWidth)}${cells.join("")}  ${verdict(measure, contenders)}`.trimEnd()
}

const figureText = ({ ratio, value }: Figure): string =>
  ratio === undefined
    ? number(value)
    : `${number(value)} ${paint("bold", `×${times(ratio.median)}`)}${spread(ratio)}`

export const spread = ({ max, min }: NonNullable<Figure["ratio"]>): string =>
  min === max ? "" : ` (${times(min)}–${times(max)})`

/** A ratio. */
export const times = (ratio: number): string => ratio.toFixed(ratio < 10 ? 2 : ratio < 100 ? 1 : 0)

/** In three figures or more. */
export const number = (value: number): string =>
  Number.isNaN(value)
    ? "?"
    : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 })

export const targetText = ({ target }: Measure): string =>
  target === undefined
    ? ""
    : target.on === "ratio"
    ? `≤ ${target.atMost} ×`
    : `≤ ${number(target.atMost)}`

const verdict = (measure: Measure, contenders: ReadonlyArray<string>): string => {
  const missed = contenders.map((contender) => missedBy(measure, contender)).filter((one) => one !== undefined)
  if (missed.length === 0) return ""
  return `${targetText(measure)} ${missed.map(verdictText).join(", ")}`
}

const verdictText = (missed: number): string =>
  missed === 0 ? paint("green", "ok") : paint("red", `missed by ${(missed * 100).toFixed(missed < 0.1 ? 1 : 0)} %`)

export const machineLine = ({ commit, cores, cpu, date, linux, node, pinned }: Machine): string =>
  [
    cpu,
    `${cores} ${cores === 1 ? "core" : "cores"}`,
    `Linux ${linux}`,
    `Node ${node}`,
    pinned ? "one core each for contender and load" : "not pinned to cores",
    date,
    ...commit === undefined ? [] : [`commit ${commit}`]
  ].join(" · ")
