/**
 * Measures the memory that large deliveries take if they are written down first: direct mode beside both stores, with a
 * fresh process for each.
 */
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { postgresUnavailable, startPostgres } from "../../test/support/postgres/Postgres.ts"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { startServer } from "../contenders/Contenders.ts"
import { measuresOf, type Round } from "../figures/Measures.ts"
import { peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import { peakRss } from "../machine/ProcessUsage.ts"
import { lossesOf } from "../measuring/Answers.ts"

const mebibyte = 1024 * 1024

const variants = [
  { name: "16 × 24 MiB, one after the other", bytes: 24 * mebibyte, count: 16, connections: 1 },
  { name: "200 × 2 MiB at once", bytes: 2 * mebibyte, count: 200, connections: 200 }
] as const

const measureVariant = Effect.fnUntraced(function*({ bytes, connections, count, name }: typeof variants[number]) {
  const { directory, options } = yield* Setup
  const load = yield* LoadProcess
  const server = options.builds[0]
  const rounds = options.quick ? 1 : 3
  const problems: Array<string> = []
  const unavailable = postgresUnavailable()

  const run = Effect.fnUntraced(function*(store: string, serverFlags: ReadonlyArray<string>) {
    const backends = yield* load.backends([{}, {}, {}])
    const flags = ["--reply-deadline", "60s", "--forwarding-timeout", "60s", ...serverFlags]
    const { pid, port } = yield* startServer(server)({ backends, serverFlags: flags })
    const result = yield* load.run({
      port,
      payload: bytes,
      forged: false,
      count,
      connections,
      due: undefined,
      reached: [0, 1, 2],
      limit: 90_000
    })
    problems.push(...lossesOf(store, result))
    yield* load.disconnect
    const written = result.status.reduce((sum, status) => status === 202 ? sum + 1 : sum, 0)
    return {
      [peakMemory]: peakRss(pid),
      ...store === "direct" ? {} : { "on disk before the answer (%)": 100 * written / count }
    } satisfies Round
  }, Effect.scoped)

  const taken: Array<Record<string, Round>> = []
  for (let round = 0; round < rounds; round += 1) {
    yield* Progress.step(`store memory: ${name}: round ${round + 1} of ${rounds}`)
    const sqlite = `sqlite:${join(directory, `memory-${bytes}-${round}.db`)}`
    const figures: Record<string, Round> = {
      direct: yield* run("direct", []),
      SQLite: yield* run("SQLite", ["--store", sqlite])
    }
    if (unavailable === undefined) {
      figures["PostgreSQL"] = yield* Effect.scoped(
        Effect.flatMap(
          startPostgres,
          (postgres) => Effect.flatMap(postgres.createDatabase, (url) => run("PostgreSQL", ["--store", url]))
        )
      )
    }
    taken.push(figures)
  }
  return {
    group: "store-memory",
    name: `${name}, 3 backends, written down first`,
    setting: `--reply-deadline 60s --forwarding-timeout 60s, ${rounds === 1 ? "once" : `median of ${rounds}`}`,
    measures: measuresOf(taken.map((round) => [round]), { [peakMemory]: { on: "value", atMost: 384 } }),
    headlines: [],
    notes: unavailable === undefined ? [] : [`without PostgreSQL: ${unavailable}`],
    problems: [...new Set(problems)]
  } satisfies ScenarioResult
})

export const storeMemory = Effect.forEach(variants, measureVariant)
