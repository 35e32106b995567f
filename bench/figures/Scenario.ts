/** What a scenario comes to: figures for each contender, beside those of the floor. */

/** A figure of each contender; medians over the rounds. */
export interface Measure {
  /** With its unit. */
  readonly name: string
  readonly contenders: Readonly<Record<string, Figure>>
  /** What the servers are to reach. `on` says which of a figure's two values. */
  readonly target?: Target | undefined
}

export interface Target {
  readonly on: "ratio" | "value"
  readonly atMost: number
}

export interface Figure {
  readonly value: number
  /** To the floor in the same round: the median of the rounds, and their range. */
  readonly ratio?: { readonly median: number; readonly min: number; readonly max: number } | undefined
}

export interface ScenarioResult {
  readonly group: string
  readonly name: string
  /** How it was measured. */
  readonly setting: string
  readonly measures: ReadonlyArray<Measure>
  /** The names of the measures that the table of `docs/performance.md` shows. */
  readonly headlines: ReadonlyArray<string>
  readonly notes: ReadonlyArray<string>
  /** What must not be: something lost, or answered with another status. */
  readonly problems: ReadonlyArray<string>
}

/** What one contender showed in one round, by the measure's name. */
export type Round = Readonly<Record<string, number>>

export const cpuPerDelivery = "CPU per delivery (µs)"
export const peakMemory = "peak RSS (MiB)"

export const floorName = "floor"
export const nginxName = "nginx"

/** Of rounds in which the contenders took turns. */
export const measuresOf = (
  rounds: ReadonlyArray<Readonly<Record<string, Round>>>,
  targets: Readonly<Record<string, Target>> = {}
): Array<Measure> => {
  const contenders = Object.keys(rounds[0] ?? {})
  const names = [...new Set(contenders.flatMap((contender) => Object.keys(rounds[0]![contender]!)))]
  return names.map((name) => ({
    name,
    target: targets[name],
    contenders: Object.fromEntries(contenders.flatMap((contender) => {
      const figure = figureOf(rounds, contender, name)
      return figure === undefined ? [] : [[contender, figure]]
    }))
  }))
}

/** Without ratios: they would say nothing, or there is no floor. */
export const valuesOf = (
  figures: Readonly<Record<string, Round>>,
  targets: Readonly<Record<string, Target>> = {}
): Array<Measure> => {
  const contenders = Object.entries(figures)
  return [...new Set(contenders.flatMap(([, round]) => Object.keys(round)))].map((name) => ({
    name,
    target: targets[name],
    contenders: Object.fromEntries(
      contenders.flatMap(([contender, { [name]: value }]) => value === undefined ? [] : [[contender, { value }]])
    )
  }))
}

const figureOf = (
  rounds: ReadonlyArray<Readonly<Record<string, Round>>>,
  contender: string,
  name: string
): Figure | undefined => {
  const values = rounds.flatMap((round) => round[contender]?.[name] ?? [])
  if (values.length === 0) return undefined
  if (contender === floorName) return { value: median(values) }
  const ratios = rounds.flatMap((round) => {
    const [mine, floors] = [round[contender]?.[name], round[floorName]?.[name]]
    return mine === undefined || floors === undefined || floors === 0 ? [] : [mine / floors]
  })
  if (ratios.length === 0) return { value: median(values) }
  return {
    value: median(values),
    ratio: { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) }
  }
}

const median = (values: ReadonlyArray<number>): number => quantile(values.toSorted((a, b) => a - b), 0.5)

/** Of values in ascending order. */
export const quantile = (sorted: ArrayLike<number>, q: number): number => {
  const at = (sorted.length - 1) * q
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}

/** Undefined where the figure has nothing to reach; otherwise by how much it is missed, as a share, 0 if it is reached. */
export const missedBy = ({ contenders, target }: Measure, contender: string): number | undefined => {
  const figure = contenders[contender]
  if (target === undefined || figure === undefined || contender === floorName || contender === nginxName) {
    return undefined
  }
  const reached = target.on === "value" ? figure.value : figure.ratio?.median
  return reached === undefined ? undefined : Math.max(0, reached / target.atMost - 1)
}
