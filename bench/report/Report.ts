/** What the docs show of `docs/benchmark.json`: the table of `docs/performance.md`, and the README's headline. */
import { cpuPerDelivery, floorName, type Measure, missedBy, type ScenarioResult } from "../figures/Scenario.ts"
import type { Machine } from "../machine/Machine.ts"
import { machineLine, number, spread, targetText, times } from "./Table.ts"

export interface Report {
  readonly machine: Machine
  readonly quick: boolean
  readonly serverFlags: ReadonlyArray<string>
  readonly nodeFlags: ReadonlyArray<string>
  readonly scenarios: ReadonlyArray<ScenarioResult>
}

const sprayproxy = "sprayproxy"

const table = ({ machine, quick, scenarios }: Report): string =>
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

/** The page with its table renewed; unchanged where it has no place for one. */
export const withTable = (page: string, report: Report): string =>
  page.replace(
    /<!-- benchmark -->[^]*<!-- \/benchmark -->/,
    () => `<!-- benchmark -->\n\n${table(report)}\n\n<!-- /benchmark -->`
  )

/** The README with its headline renewed; unchanged where a scenario of it was left out. */
export const withHeadline = (page: string, report: Report): string => {
  const ratios = headlineScenarios.map((name) =>
    report.scenarios.find((scenario) => scenario.name === name)
      ?.measures.find((measure) => measure.name === cpuPerDelivery)?.contenders[sprayproxy]?.ratio
  )
  const [plain, tls, forged] = ratios.map((ratio) => ratio === undefined ? undefined : `${times(ratio.median)} ×`)
  if (plain === undefined || tls === undefined || forged === undefined) return page
  return page.replace(
    /<!-- speed -->[^]*<!-- \/speed -->/,
    () =>
      `<!-- speed -->\n\nA push to three backends takes ${plain} the floor's CPU, ${tls} over TLS. ` +
      `Refusing a forged signature takes ${forged}.\n\n<!-- /speed -->`
  )
}

const headlineScenarios = [
  "push (6.9 kB), 3 backends",
  "push (6.9 kB), 3 TLS backends",
  "push with a wrong signature"
]
