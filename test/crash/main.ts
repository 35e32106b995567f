/** The crash test at length: `npm run test:crash -- --kills 300 --seed 1`. Exits with 1 unless all went as promised. */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { crash, type CrashProgress } from "./Crash.ts"

const { values } = parseArgs({ options: { kills: { type: "string" }, seed: { type: "string" } } })
const kills = Number(values.kills ?? 300)
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) throw new Error("--kills and --seed are numbers")

const progress = (soFar: CrashProgress) => {
  const text =
    `${soFar.kills} of ${kills} kills, ${soFar.accepted} deliveries answered 202, ${soFar.outstanding} arrivals to come`
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[K${text}`)
  else if (soFar.kills % 10 === 0) console.log(text)
}

console.log(`${kills} kills, seed ${seed}`)
const report = await Effect.runPromise(crash({ kills, seed, patience: 60_000, progress }))
if (process.stdout.isTTY) console.log()

const list = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(", ")

console.log(`
kills                    ${report.kills}
deliveries sent          ${report.sent}
answered 202             ${report.accepted}
answered otherwise       ${list(report.otherReplies)} (0: the reply was cut off)
attempts received        ${report.attempts}
lost                     ${report.lost.length}
duplicates               ${list(report.duplicates)}
seconds                  ${Math.round(report.seconds)}`)
for (const wrong of [...report.lost.map((lost) => `lost: ${lost}`), ...report.wrongs].slice(0, 20)) console.error(wrong)
process.exitCode = report.lost.length + report.wrongs.length === 0 ? 0 : 1
