/** The README's table, made of what `docs/benchmark.json` holds. */
import type { Machine } from "./Machine.ts"
import { floorName, type Measure, missedBy, type ScenarioResult } from "./Scenario.ts"
import { machineLine, number, spread, targetText, times } from "./Table.ts"

export interface Report {
  readonly machine: Machine
  readonly quick: boolean
  readonly serverFlags: ReadonlyArray<string>
  readonly nodeFlags: ReadonlyArray<string>
  readonly scenarios: ReadonlyArray<ScenarioResult>
}

const sprayproxy = "sprayproxy"

const readmeTable = ({ machine, quick, scenarios }: Report): string =>
  [
    "| scenario | floor | sprayproxy | ratio | target |",
    "| --- | ---: | ---: | ---: | --- |",
    ...scenarios.flatMap(rows),
    "",
    `\`npm run bench -- --report\` measures it again. ${quick ? "A quick run. " : ""}${machineLine(machine)}.`
  ].join("\n")

const rows = ({ headlines, measures, name, problems }: ScenarioResult): ReadonlyArray<string> => [
  ...measures.filter((measure) => headlines.includes(measure.name)).map((measure) => row(name, measure)),
  ...problems.map((problem) => `| **${name}** | | **${problem}** | | |`)
]

const row = (scenario: string, measure: Measure): string => {
  const { [floorName]: floor, [sprayproxy]: ours } = measure.contenders
  const ratio = ours?.ratio
  const cells = [
    `${scenario}: ${measure.name}`,
    floor === undefined ? "" : number(floor.value),
    ours === undefined ? "" : number(ours.value),
    ratio === undefined
      ? ""
      : `${times(ratio.median)}${spread(ratio)}`,
    verdict(measure)
  ]
  return `| ${cells.join(" | ")} |`
}

const verdict = (measure: Measure): string => {
  const missed = missedBy(measure, sprayproxy)
  if (missed === undefined) return ""
  return `${targetText(measure)}: ${
    missed === 0 ? "met" : `**missed by ${(missed * 100).toFixed(missed < 0.1 ? 1 : 0)} %**`
  }`
}

/** The README with its table renewed; unchanged where it has no place for one. */
export const withTable = (readme: string, report: Report): string =>
  readme.replace(
    /<!-- benchmark -->[^]*<!-- \/benchmark -->/,
    () => `<!-- benchmark -->\n\n${readmeTable(report)}\n\n<!-- /benchmark -->`
  )
