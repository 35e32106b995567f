/** The scenarios, by group. */
import * as Effect from "effect/Effect"
import { cpuPerDelivery, floorName, peakMemory, type Target } from "./figures/Scenario.ts"
import type { BackendSpec } from "./load/Messages.ts"
import { backendCount } from "./scenarios/BackendCount.ts"
import { type FanOut, measure } from "./scenarios/FanOut.ts"
import { memory } from "./scenarios/Memory.ts"
import { overload } from "./scenarios/Overload.ts"
import { slowloris } from "./scenarios/Slowloris.ts"
import { soak } from "./scenarios/Soak.ts"
import { startTime } from "./scenarios/StartTime.ts"
import { storeMemory } from "./scenarios/StoreMemory.ts"
import { store } from "./scenarios/Stores.ts"

const plain: ReadonlyArray<BackendSpec> = [{}, {}, {}]

const cpuTarget = (atMost: number): Readonly<Record<string, Target>> => ({
  [cpuPerDelivery]: { on: "ratio", to: floorName, atMost }
})

const fanOut = (scenario: FanOut) => Effect.map(measure(scenario), (result) => [result])

const troubled = {
  group: "trouble",
  payload: "push",
  rate: 200,
  connections: 2_000,
  reached: [0, 1]
} as const

const latency = { group: "latency", payload: "push", backends: plain, connections: 1_000, status: 200 } as const

const payload = { group: "payloads", backends: plain, status: 200, withNginx: true } as const

const groups = {
  payloads: {
    push: fanOut({ ...payload, name: "push (6.9 kB), 3 backends", payload: "push", targets: cpuTarget(1.3) }),
    ping: fanOut({ ...payload, name: "ping (2.4 kB), 3 backends", payload: "ping" }),
    pull_request: fanOut({ ...payload, name: "pull_request (21 kB), 3 backends", payload: "pull_request" }),
    "1mb": fanOut({ ...payload, name: "1 MB, 3 backends", payload: 1_000_000, targets: cpuTarget(1.25) })
  },
  tls: {
    tls: fanOut({
      ...payload,
      group: "tls",
      name: "push (6.9 kB), 3 TLS backends",
      payload: "push",
      backends: plain.map(() => ({ tls: true })),
      targets: cpuTarget(1.3)
    })
  },
  backends: { backends: backendCount },
  forged: {
    forged: fanOut({
      group: "forged",
      name: "push with a wrong signature",
      payload: "push",
      backends: plain,
      forged: true,
      status: 400,
      targets: cpuTarget(1.5)
    })
  },
  trouble: {
    slow: fanOut({
      ...troubled,
      name: "push, one of 3 backends slow (300 ms)",
      backends: [{}, {}, { delay: 300 }],
      status: 200
    }),
    dead: fanOut({
      ...troubled,
      name: "push, one of 3 backends unreachable",
      backends: [{}, {}, { dead: true }],
      status: 502,
      notes: ["The server tries a refused connection three times in all before it replies; the floor gives up at once."]
    })
  },
  latency: {
    "200-a-second": fanOut({
      ...latency,
      name: "push at 200/s, 3 backends that answer at once",
      rate: 200,
      targets: { "p99 (ms)": { on: "value", atMost: 5 } }
    }),
    "500-a-second": fanOut({
      ...latency,
      name: "push at 500/s, 3 backends that answer at once",
      rate: 500,
      targets: { [peakMemory]: { on: "value", atMost: 160 } }
    })
  },
  memory: { memory },
  soak: { soak },
  overload: { overload },
  slowloris: { slowloris },
  start: { start: startTime },
  store: { sqlite: store("SQLite", 1.4), postgres: store("PostgreSQL", 1.3) },
  "store-memory": { "store-memory": storeMemory }
}

type Scenario = UnionOf<{ [G in keyof typeof groups]: UnionOf<typeof groups[G]> }>
type UnionOf<A> = A[keyof A]

const all = Object.entries(groups).flatMap(([group, scenarios]) =>
  Object.entries<Scenario>(scenarios).map(([name, run]) => ({ group, name, run }))
)

/** The scenarios that are run when builds are compared with each other. */
const comparing: ReadonlyArray<string> = ["push", "tls", "forged", "1mb", "sqlite", "postgres"]

/** The names that `--only` takes: groups, before the scenarios in them. */
export const scenarioNames: ReadonlyArray<string> = [...new Set(all.flatMap(({ group, name }) => [group, name]))]

/**
 * The scenarios to run. `only` has names of scenarios and groups. If it is empty, all are run, or those that compare
 * builds.
 */
export const chosen = (only: ReadonlyArray<string>, isComparison: boolean) => {
  const names = only.length === 0 && isComparison ? comparing : only
  return all.filter(({ group, name }) => names.length === 0 || names.includes(group) || names.includes(name))
}

export const list = Object.entries(groups).map(([group, scenarios]) => {
  const names = Object.keys(scenarios)
  return names.length === 1 && names[0] === group ? group : `${group}: ${names.join(" ")}`
}).join("\n")
