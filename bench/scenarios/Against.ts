/** This build beside others, kind of delivery by kind: what a delivery costs of the CPU, as a ratio with its interval. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { postgresUnavailable, startPostgres } from "../../test/support/postgres/Postgres.ts"
import { Setup } from "../command/Setup.ts"
import { startServer } from "../contenders/Contenders.ts"
import { median, ratioOf } from "../figures/Statistics.ts"
import type { BackendSpec, Payload } from "../load/Messages.ts"
import { race, type Starts } from "../measuring/Slots.ts"
import { number } from "../report/Table.ts"

interface Kind {
  readonly title: string
  readonly payload: Payload
  readonly forged?: true
  readonly backends: ReadonlyArray<BackendSpec>
  readonly store?: "sqlite" | "postgres"
}

const plain = [{}, {}, {}]

const kinds = {
  push: { title: "push (6.9 kB), 3 backends", payload: "push", backends: plain },
  tls: { title: "push (6.9 kB), 3 TLS backends", payload: "push", backends: plain.map(() => ({ tls: true })) },
  forged: { title: "push with a wrong signature", payload: "push", forged: true, backends: plain },
  "1mb": { title: "1 MB, 3 backends", payload: 1_000_000, backends: plain },
  sqlite: { title: "push (6.9 kB), 3 backends, SQLite", payload: "push", backends: plain, store: "sqlite" },
  postgres: { title: "push (6.9 kB), 3 backends, PostgreSQL", payload: "push", backends: plain, store: "postgres" }
} as const satisfies Record<string, Kind>

type KindName = keyof typeof kinds
export const kindNames = Object.keys(kinds) as ReadonlyArray<KindName>

/** A folder with a build in it, or its program. */
export const programOf = (build: string): string =>
  existsSync(build) && statSync(build).isDirectory() ? join(build, "sprayproxy.js") : build

export const against = Effect.gen(function*() {
  const { options } = yield* Setup
  const problems: Array<string> = []
  for (const name of kindNames.filter((kind) => options.only.length === 0 || options.only.includes(kind))) {
    problems.push(...yield* compare(name, kinds[name]))
  }
  return problems
})

let databases = 0

const compare = Effect.fnUntraced(function*(name: string, kind: Kind) {
  const { directory, options } = yield* Setup
  const unavailable = kind.store === "postgres" ? postgresUnavailable() : undefined
  if (unavailable !== undefined) {
    yield* Console.log(`\n${name}: left out: ${unavailable}`)
    return []
  }
  const builds = [...options.servers, ...options.against.map(programOf)]
  const postgres = kind.store === "postgres" ? yield* startPostgres : undefined

  const startBuild = Effect.fnUntraced(
    function*(build: string, store: string | undefined, backends: ReadonlyArray<string>) {
      const serverFlags = store === undefined ? [] : ["--store", store]
      const contender = yield* startServer(build)({ backends, serverFlags })
      const status = kind.forged === true ? 400 : store === undefined ? 200 : 202
      return { ...contender, status, name: labelOf(build, store) }
    }
  )
  const storeUrl = postgres === undefined
    ? Effect.sync(() => `sqlite:${join(directory, `against-${databases++}.db`)}`)
    : postgres.createDatabase

  const { problems, starts } = yield* race({
    label: name,
    payload: kind.payload,
    forged: kind.forged === true,
    backends: kind.backends,
    start: (backends) =>
      Effect.map(
        Effect.forEach(builds, (build) =>
          Effect.gen(function*() {
            const direct = yield* startBuild(build, undefined, backends)
            return kind.store === undefined ? [direct] : [direct, yield* startBuild(build, yield* storeUrl, backends)]
          })),
        (runners) => runners.flat()
      ),
    starts: options.quick ? 3 : 5,
    turns: options.quick ? 10 : 20,
    slot: kind.store === undefined ? 150 : 300,
    warmUp: 2_000
  })
  const [ours, ...others] = builds
  const lines = [`\n${name}: ${kind.title}`]
  for (const store of kind.store === undefined ? [undefined] : [undefined, kind.store]) {
    const [mine, mode] = [labelOf(ours!, store), store === undefined ? "" : `, ${store}`]
    lines.push(`  ${ours}${mode}: ${number(cpu(starts, mine))} µs`)
    for (const other of others) {
      const theirs = labelOf(other, store)
      lines.push(`  ${other}${mode}: ${number(cpu(starts, theirs))} µs, ours is ${ratio(starts, mine, theirs)} of it`)
    }
  }
  if (kind.store !== undefined) {
    for (const build of builds) {
      const toDirect = ratio(starts, labelOf(build, kind.store), labelOf(build, undefined))
      lines.push(`  ${build}: ${kind.store} is ${toDirect} of direct`)
    }
  }
  lines.push(...problems.map((problem) => `  ✗ ${problem}`))
  yield* Console.log(lines.join("\n"))
  return problems
}, Effect.scoped)

const labelOf = (build: string, store: string | undefined) => `${build}${store === undefined ? "" : " stored"}`

const cpu = (starts: Starts, name: string): number => median(starts.flat().map((slots) => slots[name]!))

const ratio = (starts: Starts, of: string, to: string): string => {
  const found = ratioOf(starts.map((turns) => turns.map((slots) => slots[of]! / slots[to]!)))
  return `× ${found.median.toFixed(3)} [${found.low.toFixed(3)}–${found.high.toFixed(3)}]`
}
