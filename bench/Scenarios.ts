/** The groups of scenarios, by name. */
import * as Effect from "effect/Effect"
import { type FanOut, measure } from "./FanOut.ts"
import type { BackendSpec } from "./Messages.ts"

const plain = (count: number): ReadonlyArray<BackendSpec> => Array.from({ length: count }, () => ({}))
const tls = (count: number): ReadonlyArray<BackendSpec> => Array.from({ length: count }, () => ({ tls: true }))

const payloads: ReadonlyArray<FanOut> = [
  {
    group: "payloads",
    name: "push (6.9 kB), 3 backends",
    payload: "push",
    backends: plain(3),
    status: 200,
    targets: { "CPU per delivery": { on: "ratio", atMost: 1.4 } }
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
  targets: { "CPU per delivery": { on: "ratio", atMost: 1.4 } }
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
  targets: { "CPU per delivery": { on: "ratio", atMost: 2 } }
}

export const groups = {
  payloads: Effect.forEach(payloads, measure),
  tls: Effect.map(measure(overTls), (result) => [result]),
  forged: Effect.map(measure(forged), (result) => [result])
}

export type GroupName = keyof typeof groups
export const groupNames = Object.keys(groups) as ReadonlyArray<GroupName>
