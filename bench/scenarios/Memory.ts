/** Measures the memory that large deliveries take if they all come at once, with a fresh process for each contender. */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { contenders, startAll } from "../contenders/Contenders.ts"
import { measuresOf, type Round } from "../figures/Measures.ts"
import { peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { BackendSpec } from "../load/Messages.ts"
import { peakRss } from "../machine/ProcessUsage.ts"
import { problemsOf } from "../measuring/Answers.ts"

const deliveries = 64
const bytes = Math.floor(24.9 * 1024 * 1024)
/** The slow reader then takes about 16 s of the 60 s. */
const slowReader: BackendSpec = { bytesPerSecond: 100e6 }

const variants: ReadonlyArray<{ readonly name: string; readonly backends: ReadonlyArray<BackendSpec> }> = [
  { name: "plain", backends: [{}, {}, {}] },
  { name: "TLS", backends: [{ tls: true }, { tls: true }, { tls: true }] },
  { name: "plain, one slow reader", backends: [{}, {}, slowReader] },
  { name: "TLS, one slow reader", backends: [{ tls: true }, { tls: true }, { ...slowReader, tls: true }] }
]

const measureVariant = Effect.fnUntraced(function*({ backends, name }: typeof variants[number]) {
  const { options } = yield* Setup
  const load = yield* LoadProcess
  const { servers } = yield* contenders
  const rounds = options.quick ? 1 : 3
  const problems: Array<string> = []
  const taken: Array<Record<string, Round>> = []
  for (let i = 0; i < rounds; i++) {
    yield* Progress.step(`memory: ${name}: round ${i + 1} of ${rounds}`)
    const round: Record<string, Round> = {}
    for (const start of servers) {
      yield* Effect.scoped(Effect.gen(function*() {
        const surroundings = {
          backends: yield* load.backends(backends),
          serverFlags: ["--reply-deadline", "60s", "--forwarding-timeout", "60s"]
        }
        for (const { name: contender, pid, port } of yield* startAll([start], surroundings)) {
          const result = yield* load.run({
            port,
            payload: bytes,
            forged: false,
            count: deliveries,
            connections: deliveries,
            due: undefined,
            reached: backends.map((_, place) => place),
            limit: 90_000
          })
          problems.push(...problemsOf(contender, 200, result))
          round[contender] = { [peakMemory]: peakRss(pid), "until all are answered (s)": result.elapsed / 1_000 }
        }
        yield* load.disconnect
      }))
    }
    taken.push(round)
  }
  return {
    group: "memory",
    name: `${deliveries} × 24.9 MiB at once, 3 backends, ${name}`,
    setting: `--reply-deadline 60s --forwarding-timeout 60s, ${rounds === 1 ? "once" : `median of ${rounds}`}`,
    measures: measuresOf(taken.map((round) => [round]), { [peakMemory]: { on: "value", atMost: 384 } }),
    headlines: [peakMemory],
    notes: ["The floor is left out: it has no limits, and would hold all bodies at once."],
    problems: [...new Set(problems)]
  } satisfies ScenarioResult
})

export const memory = Effect.forEach(variants, measureVariant)
