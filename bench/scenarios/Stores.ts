/**
 * Measures the cost of writing deliveries down before they are answered: durable mode beside direct mode, alive at
 * once.
 */
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { postgresUnavailable, startPostgres } from "../../test/support/postgres/Postgres.ts"
import type { Build } from "../command/Options.ts"
import { Setup } from "../command/Setup.ts"
import { startServer } from "../contenders/Contenders.ts"
import { measuresOf, type References, valuesOf } from "../figures/Measures.ts"
import { cpuPerDelivery, peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { pace, paceText } from "../measuring/Pace.ts"
import { inSlots } from "../measuring/Slots.ts"

type Store = "SQLite" | "PostgreSQL"

/** `atMost` is the target, as a multiple of direct mode's CPU time. */
export const store = Effect.fnUntraced(function*(kind: Store, atMost: number) {
  const unavailable = kind === "PostgreSQL" ? postgresUnavailable() : undefined
  return [unavailable === undefined ? yield* measureStore(kind, atMost) : leftOut(kind, unavailable)]
})

const titleOf = (kind: Store) => `push (6.9 kB), 3 backends, written down first (${kind})`

const leftOut = (kind: Store, reason: string): ScenarioResult => ({
  group: "store",
  name: titleOf(kind),
  setting: "",
  measures: [],
  headlines: [],
  notes: [`left out: ${reason}`],
  problems: []
})

const connections = 32
let databases = 0

const measureStore = Effect.fnUntraced(function*(kind: Store, atMost: number) {
  const { directory, options } = yield* Setup
  const postgres = kind === "PostgreSQL" ? yield* startPostgres : undefined
  const emptyStore = postgres === undefined
    ? Effect.sync(() => `sqlite:${join(directory, `deliveries-${databases++}.db`)}`)
    : postgres.createDatabase
  const [measured, ...others] = options.builds
  const nameOf = (build: Build, mode: string) => build === measured ? mode : `${build.name}, ${mode}`

  const startBoth = Effect.fnUntraced(function*(build: Build, backends: ReadonlyArray<string>) {
    const direct = yield* startServer(build)({ backends })
    const durable = yield* startServer(build)({ backends, serverFlags: ["--store", yield* emptyStore] })
    return [
      { ...direct, name: nameOf(build, "direct"), status: 200 },
      { ...durable, name: nameOf(build, kind), status: 202 }
    ]
  })

  const references: References = (contender) => [
    ...options.builds.filter((build) => contender === nameOf(build, kind)).map((build) => nameOf(build, "direct")),
    ...others.filter(() => contender === kind || contender === "direct").map((build) => nameOf(build, contender))
  ]

  const own = pace(options, "store")
  const { peaks, problems, starts } = yield* inSlots({
    ...own,
    connections,
    label: `store: ${kind}`,
    payload: "push",
    forged: false,
    rate: undefined,
    backends: [{}, {}, {}],
    reached: [0, 1, 2],
    start: (backends) =>
      Effect.map(Effect.forEach(options.builds, (build) => startBoth(build, backends)), (both) => both.flat())
  })
  const peak = Object.fromEntries(Object.entries(peaks).map(([name, value]) => [name, { [peakMemory]: value }]))
  return {
    group: "store",
    name: titleOf(kind),
    setting: `closed loop of ${connections} connections, ${paceText(own)}`,
    measures: [
      ...measuresOf(starts, { [cpuPerDelivery]: { on: "ratio", to: "direct", atMost } }, references),
      ...valuesOf(peak)
    ],
    headlines: [],
    notes: kind === "PostgreSQL" ? ["CPU is the server's own: what PostgreSQL uses is not in it."] : [],
    problems: [...problems]
  } satisfies ScenarioResult
}, Effect.scoped)
