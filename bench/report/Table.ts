/** The results as text for a terminal of 120 columns. */
import { styleText } from "node:util"
import {
  cpuPerDelivery,
  type Figure,
  floorName,
  type Measure,
  missedBy,
  type ScenarioResult
} from "../figures/Scenario.ts"
import type { Ratio } from "../figures/Statistics.ts"
import type { Machine } from "../machine/Machine.ts"

const paint = (style: "bold" | "dim" | "red", text: string): string =>
  styleText(style, text, { stream: process.stdout })

const labelWidth = 26
const floorWidth = 13
const serverWidth = 23

export const scenarioTable = (
  { group, headlines, measures, name, notes, problems, setting }: ScenarioResult
): string => {
  const contenders = [...new Set(measures.flatMap((measure) => Object.keys(measure.contenders)))]
  const columns = contenders.map((contender) => ({
    contender,
    width: Math.max(contender.length + 2, contender === floorName ? floorWidth : serverWidth)
  }))
  return [
    "",
    `${paint("bold", `${group}: ${name}`)}  ${paint("dim", setting)}`,
    ...measures.length === 0
      ? []
      : [paint("dim", `  ${"".padEnd(labelWidth)}${columns.map((one) => one.contender.padStart(one.width)).join("")}`)],
    ...measures.flatMap((measure) => [
      row(measure.name, columns, (contender) => valueText(measure.contenders[contender])),
      ...measure.name === cpuPerDelivery || headlines.includes(measure.name) ? ratioRows(measure, columns) : []
    ]),
    ...notes.map((note) => paint("dim", `  ${note}`)),
    ...problems.map((problem) => paint("red", `  ✗ ${problem}`))
  ].join("\n")
}

interface Column {
  readonly contender: string
  readonly width: number
}

const row = (label: string, columns: ReadonlyArray<Column>, cell: (contender: string) => string): string =>
  `  ${label.padEnd(labelWidth)}${columns.map((one) => cell(one.contender).padStart(one.width)).join("")}`.trimEnd()

/** A row for each contender that others are compared with, and one for the target. */
const ratioRows = (measure: Measure, columns: ReadonlyArray<Column>): ReadonlyArray<string> => {
  const references = new Set(Object.values(measure.contenders).flatMap(({ ratios = {} }) => Object.keys(ratios)))
  const missed = columns.filter(({ contender }) => missedBy(measure, contender) !== undefined)
  return [
    ...[...references].map((reference) =>
      row(`  × ${reference}`, columns, (contender) => {
        const ratio = measure.contenders[contender]?.ratios?.[reference]
        return ratio === undefined ? "" : `${times(ratio.median, 3)}${spread(ratio, 3)}`
      })
    ),
    ...missed.length === 0 ? [] : [
      row(`  ${targetText(measure)}`, columns, (contender) => {
        const by = missedBy(measure, contender)
        return by === undefined ? "" : by === 0 ? "met" : `missed by ${shareText(by)}`
      })
    ]
  ]
}

const valueText = (figure: Figure | undefined): string => figure === undefined ? "" : number(figure.value)

/** The interval, if there is one. */
export const spread = ({ interval }: Ratio, decimals = 2): string =>
  interval === undefined ? "" : ` [${times(interval[0], decimals)}–${times(interval[1], decimals)}]`

export const shareText = (share: number): string => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`

/** A ratio, with `decimals` decimals if it is near 1. */
export const times = (ratio: number, decimals = 2): string => ratio.toFixed(ratio < 10 ? decimals : ratio < 100 ? 1 : 0)

/** A number in at least three figures. */
export const number = (value: number): string =>
  Number.isNaN(value)
    ? "?"
    : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 })

export const targetText = ({ target }: Measure): string =>
  target === undefined
    ? ""
    : target.on === "ratio"
    ? `≤ ${target.atMost} × ${target.to}`
    : `≤ ${number(target.atMost)}`

export const machineLine = ({ commit, cores, cpu, cpuClock, date, linux, node, pinned }: Machine): string =>
  [
    cpu,
    `${cores} ${cores === 1 ? "core" : "cores"}`,
    `Linux ${linux}`,
    `Node ${node}`,
    pinned ? "one core each for contender and load" : "not pinned to cores",
    ...cpuClock === "ticks" ? ["CPU time in ticks of 10 ms"] : [],
    date,
    ...commit === undefined ? [] : [`commit ${commit}`]
  ].join(" · ")
