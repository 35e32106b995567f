/** The result of a scenario: figures for each contender, beside those of the contenders that it is compared with. */
import type { Ratio } from "./Statistics.ts"

/** One figure for each contender. */
export interface Measure {
  /** The name, with the unit. */
  readonly name: string
  readonly contenders: Readonly<Record<string, Figure>>
  readonly target?: Target | undefined
}

/** The target of the servers: a figure itself, or its ratio to that of another contender. */
export type Target =
  | { readonly on: "value"; readonly atMost: number }
  | { readonly on: "ratio"; readonly to: string; readonly atMost: number }

export interface Figure {
  /** The median of the slots or rounds. */
  readonly value: number
  /** The ratios to other contenders in the same turns, by their names. */
  readonly ratios?: Readonly<Record<string, Ratio>> | undefined
}

export interface ScenarioResult {
  readonly group: string
  readonly name: string
  /** How the scenario was measured. */
  readonly setting: string
  readonly measures: ReadonlyArray<Measure>
  /** The names of the measures that the docs show. */
  readonly headlines: ReadonlyArray<string>
  readonly notes: ReadonlyArray<string>
  /** Problems, which must not be: something was lost, or answered with another status. */
  readonly problems: ReadonlyArray<string>
}

export const cpuPerDelivery = "CPU per delivery (µs)"
/**
 * The share of the time in which a contender could have run. Its own threads wait for each other a little. A large
 * share comes from other programs.
 */
export const waitedForCore = "waited for its core (%)"
export const peakMemory = "peak RSS (MiB)"

export const floorName = "floor"
/** The floor with the logs and metrics that the server has. */
export const loggedFloorName = "logged floor"
export const nginxName = "nginx"
export const serverName = "sprayproxy"

const notOurs: ReadonlySet<string> = new Set([floorName, loggedFloorName, nginxName])

/** By how much a figure misses its target, as a share. 0: the target is reached. Undefined: there is no target. */
export const missedBy = ({ contenders, target }: Measure, contender: string): number | undefined => {
  const figure = contenders[contender]
  if (target === undefined || figure === undefined || notOurs.has(contender)) return undefined
  const reached = target.on === "value" ? figure.value : figure.ratios?.[target.to]?.median
  return reached === undefined ? undefined : Math.max(0, reached / target.atMost - 1)
}
