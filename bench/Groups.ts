/** The groups of scenarios, by name. */
import * as Effect from "effect/Effect"
import { cpuPerDelivery, peakMemory } from "./figures/Scenario.ts"
import type { BackendSpec } from "./load/Messages.ts"
import { backendCount } from "./scenarios/BackendCount.ts"
import { type FanOut, measure } from "./scenarios/FanOut.ts"
import { memory } from "./scenarios/Memory.ts"
import { overload } from "./scenarios/Overload.ts"
import { slowloris } from "./scenarios/Slowloris.ts"
import { soak } from "./scenarios/Soak.ts"
import { startTime } from "./scenarios/StartTime.ts"
import { storeMemory } from "./scenarios/StoreMemory.ts"
import { stores } from "./scenarios/Stores.ts"

const plain = (count: number): ReadonlyArray<BackendSpec> => Array.from({ length: count }, () => ({}))
const tls = (count: number): ReadonlyArray<BackendSpec> => Array.from({ length: count }, () => ({ tls: true }))

const payloads: ReadonlyArray<FanOut> = [
  {
    group: "payloads",
    name: "push (6.9 kB), 3 backends",
    payload: "push",
    backends: plain(3),
    status: 200,
    targets: { [cpuPerDelivery]: { on: "ratio", atMost: 1.4 } }
  },
  { group: "payloads", name: "ping (2.4 kB), 3 backends", payload: "ping", backends: plain(3), status: 200 },
  {
    group: "payloads",
    name: "pull_request (21 kB), 3 backends",
    payload: "pull_request",
    backends: plain(3),
    status: 200
  },
  { group: "payloads", name: "1 MB, 3 backends", payload: 1_000_000, backends: plain(3), status: 200, weight: 25 }
]

const overTls: FanOut = {
  group: "tls",
  name: "push (6.9 kB), 3 TLS backends",
  payload: "push",
  backends: tls(3),
  status: 200,
  targets: { [cpuPerDelivery]: { on: "ratio", atMost: 1.4 } }
}

const forged: FanOut = {
  group: "forged",
  name: "push with a wrong signature",
  payload: "push",
  backends: plain(3),
  forged: true,
  status: 400,
  weight: 0.5,
  withoutNginx: true,
  targets: { [cpuPerDelivery]: { on: "ratio", atMost: 2 } }
}

const troubled = {
  group: "trouble",
  payload: "push",
  rate: 200,
  connections: 2_000,
  reached: [0, 1],
  withoutNginx: true
} as const

const trouble: ReadonlyArray<FanOut> = [
  {
    ...troubled,
    name: "push, one of 3 backends slow (300 ms)",
    backends: [{}, {}, { delay: 300 }],
    status: 200
  },
  {
    ...troubled,
    name: "push, one of 3 backends dead",
    backends: [{}, {}, { dead: true }],
    status: 502,
    notes: ["The server tries a refused connection three times in all before it replies; the floor gives up at once."]
  }
]

const latency = { group: "latency", payload: "push", backends: plain(3), connections: 1_000, status: 200 } as const

const latencies: ReadonlyArray<FanOut> = [
  {
    ...latency,
    name: "push at 200/s, 3 backends that answer at once",
    rate: 200,
    targets: { "p99 (ms)": { on: "value", atMost: 5 } }
  },
  {
    ...latency,
    name: "push at 500/s, 3 backends that answer at once",
    rate: 500,
    targets: { [peakMemory]: { on: "value", atMost: 160 } }
  }
]

export const groups = {
  payloads: Effect.forEach(payloads, measure),
  tls: Effect.map(measure(overTls), (result) => [result]),
  backends: backendCount,
  forged: Effect.map(measure(forged), (result) => [result]),
  trouble: Effect.forEach(trouble, measure),
  latency: Effect.forEach(latencies, measure),
  memory,
  soak,
  overload,
  slowloris,
  start: startTime,
  store: stores,
  "store-memory": storeMemory
}

export type GroupName = keyof typeof groups
export const groupNames = Object.keys(groups) as ReadonlyArray<GroupName>
