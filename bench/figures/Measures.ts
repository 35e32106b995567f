/** Turns the results of slots and rounds into figures. */
import { type Figure, floorName, loggedFloorName, type Measure, type Target } from "./Scenario.ts"
import { median, type Ratio, ratioOf } from "./Statistics.ts"

/** The results of one contender in one slot or round, by the measure's name. */
export type Round = Readonly<Record<string, number>>

/** The results of all contenders in one turn, by their names. */
export type Turn = Readonly<Record<string, Round>>

/** The contenders with which a contender is compared. */
export type References = (contender: string) => ReadonlyArray<string>

export type Targets = Readonly<Record<string, Target>>

export const toFloors: References = (contender) =>
  contender === floorName ? [] : contender === loggedFloorName ? [floorName] : [floorName, loggedFloorName]

/** `starts` has, for each start of the contenders, the turns after it. */
export const measuresOf = (
  starts: ReadonlyArray<ReadonlyArray<Turn>>,
  targets: Targets = {},
  references: References = toFloors
): Array<Measure> => {
  const first = starts[0]?.[0] ?? {}
  const contenders = Object.keys(first)
  return namesOf(first).map((name) => ({
    name,
    target: targets[name],
    contenders: Object.fromEntries(contenders.flatMap((contender) => {
      const figure = figureOf(starts, contender, name, references)
      return figure === undefined ? [] : [[contender, figure]]
    }))
  }))
}

/** Measures without ratios, which would say nothing, or for which there is nothing to compare with. */
export const valuesOf = (figures: Turn, targets: Targets = {}): Array<Measure> =>
  measuresOf([[figures]], targets, () => [])

const namesOf = (turn: Turn) => [...new Set(Object.values(turn).flatMap((round) => Object.keys(round)))]

const figureOf = (
  starts: ReadonlyArray<ReadonlyArray<Turn>>,
  contender: string,
  name: string,
  references: References
): Figure | undefined => {
  const values = starts.flatMap((turns) => turns.flatMap((turn) => turn[contender]?.[name] ?? []))
  if (values.length === 0) return undefined
  const ratios = Object.fromEntries(
    references(contender).flatMap((reference): Array<[string, Ratio]> => {
      const pairs = starts.map((turns) => pairsOf(turns, contender, reference, name)).filter(({ length }) => length > 0)
      return pairs.length === 0 ? [] : [[reference, ratioOf(pairs)]]
    })
  )
  return Object.keys(ratios).length === 0 ? { value: median(values) } : { value: median(values), ratios }
}

const pairsOf = (turns: ReadonlyArray<Turn>, of: string, to: string, name: string): ReadonlyArray<number> =>
  turns.flatMap((turn) => {
    const [mine, theirs] = [turn[of]?.[name], turn[to]?.[name]]
    return mine === undefined || theirs === undefined || theirs === 0 ? [] : [mine / theirs]
  })
