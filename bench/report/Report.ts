/**
 * Makes the parts of the docs that come from `docs/benchmark.json`: the table of `docs/performance.md`, and the
 * README's headline.
 */
import {
  cpuPerDelivery,
  floorName,
  loggedFloorName,
  type Measure,
  missedBy,
  type ScenarioResult,
  serverName
} from "../figures/Scenario.ts"
import type { Machine } from "../machine/Machine.ts"
import { machineLine, number, shareText, spread, targetText, times } from "./Table.ts"

export interface Report {
  readonly machine: Machine
  readonly quick: boolean
  readonly serverFlags: ReadonlyArray<string>
  readonly nodeFlags: ReadonlyArray<string>
  readonly scenarios: ReadonlyArray<ScenarioResult>
}

const table = ({ machine, quick, scenarios }: Report): string => {
  const brackets = scenarios.some(hasInterval)
    ? "In brackets is the interval that holds the true ratio with a probability of 95 %. "
    : ""
  return [
    "| scenario | floor | logged floor | sprayproxy | × floor | × logged floor | target |",
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ...scenarios.flatMap(rows),
    "",
    `${brackets}\`npm run bench -- --report\` measures it again. ${quick ? "A quick run. " : ""}${
      machineLine(machine)
    }.`
  ].join("\n")
}

const rows = ({ headlines, measures, name, problems }: ScenarioResult): ReadonlyArray<string> => [
  ...measures.filter((measure) => headlines.includes(measure.name)).map((measure) => row(name, measure)),
  ...problems.map((problem) => `| **${name}** | | | **${problem}** | | | |`)
]

/** Whether its rows show an interval. Ratios of older measurements have none. */
const hasInterval = ({ headlines, measures }: ScenarioResult): boolean =>
  measures.some(({ contenders, name }) =>
    headlines.includes(name) &&
    Object.values(contenders[serverName]?.ratios ?? {}).some(({ interval }) => interval !== undefined)
  )

const row = (scenario: string, measure: Measure): string => {
  const { [floorName]: floor, [loggedFloorName]: loggedFloor, [serverName]: ours } = measure.contenders
  const cells = [
    `${scenario}: ${measure.name}`,
    ...[floor, loggedFloor, ours].map((figure) => figure === undefined ? "" : number(figure.value)),
    ...[floorName, loggedFloorName].map((reference) => {
      const ratio = ours?.ratios?.[reference]
      return ratio === undefined ? "" : `${times(ratio.median)}${spread(ratio)}`
    }),
    verdict(measure)
  ]
  return `| ${cells.join(" | ")} |`
}

const verdict = (measure: Measure): string => {
  const missed = missedBy(measure, serverName)
  if (missed === undefined) return ""
  return `${targetText(measure)}: ${missed === 0 ? "met" : `**missed by ${shareText(missed)}**`}`
}

/** The page with its table renewed. Unchanged if it has no place for one. */
export const withTable = (page: string, report: Report): string =>
  page.replace(
    /<!-- benchmark -->[^]*<!-- \/benchmark -->/,
    () => `<!-- benchmark -->\n\n${table(report)}\n\n<!-- /benchmark -->`
  )

/** The README with its headline renewed. Unchanged if one of the headline's scenarios was left out. */
export const withHeadline = (page: string, report: Report): string => {
  const ratios = headlineScenarios.map((name) =>
    report.scenarios.find((scenario) => scenario.name === name)
      ?.measures.find((measure) => measure.name === cpuPerDelivery)?.contenders[serverName]?.ratios?.[floorName]
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
