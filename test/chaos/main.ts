/**
 * Chaos at length: `npm run test:chaos -- --store postgres --minutes 30 --seed 1`. Exits with 1 unless all went as promised.
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { chaos, type ChaosProgress } from "./Chaos.ts"
import { postgresStore, sqliteStore } from "./Stores.ts"

const { values } = parseArgs({
  options: { minutes: { type: "string" }, seed: { type: "string" }, store: { type: "string" } }
})
const minutes = Number(values.minutes ?? 30)
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
/** More would tell nothing new. */
const mostTold = 20
const kind = values.store ?? "sqlite"
if (!(minutes > 0) || !Number.isInteger(seed)) throw new Error("--minutes and --seed are numbers")
if (kind !== "sqlite" && kind !== "postgres") throw new Error("--store is sqlite or postgres")

const list = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(", ") || "none"

let told = 0
const progress = ({ accepted, outstanding, troubles, wrongs }: ChaosProgress) => {
  for (; told < Math.min(wrongs.length, mostTold); told += 1) console.error(`\n${wrongs[told]}`)
  const text = `${accepted} deliveries answered 202, ${outstanding} arrivals to come; ${list(troubles)}`
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[K${text.slice(0, process.stdout.columns - 1)}`)
  else console.log(text)
}

console.log(`${minutes} minutes on ${kind}, seed ${seed}`)
const report = await Effect.runPromise(Effect.scoped(chaos({
  store: kind === "sqlite" ? sqliteStore : postgresStore,
  duration: minutes * 60_000,
  seed,
  patience: 60_000,
  progress
})))
if (process.stdout.isTTY) console.log()

console.log(`
troubles                 ${list(report.troubles)}
deliveries sent          ${report.sent}
answered 202             ${report.accepted}
answered otherwise       ${list(report.otherReplies)} (0: the reply was cut off)
attempts received        ${report.attempts}
lost                     ${report.lost.length}
duplicates               ${list(report.duplicates)}
without explanation      ${report.wrongs.length}
peak memory of a server  ${report.peakMemory} MiB
seconds                  ${Math.round(report.seconds)}`)
const failures = [...report.lost.map((lost) => `lost: ${lost}`), ...report.wrongs]
for (const failure of failures.slice(0, mostTold)) console.error(failure)
process.exitCode = failures.length === 0 ? 0 : 1
