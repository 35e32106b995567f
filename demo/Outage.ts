/** A server with a store, and a backend that is down when the deliveries come. */
import * as Effect from "effect/Effect"
import { type Check, storedChecks } from "./Checks.ts"
import * as GitHub from "./GitHub.ts"
import { Journal } from "./Journal.ts"
import { isDone, type Row } from "./Row.ts"
import type { SampleBackend } from "./SampleBackend.ts"
import { Screen } from "./Screen.ts"
import { startSprayproxy } from "./Sprayproxy.ts"
import { header, paint } from "./Table.ts"

/** The first backend is the one that is down. `url` is the server's, where nobody is afterwards. */
export const outage = Effect.fnUntraced(function*(
  backends: readonly [SampleBackend, ...ReadonlyArray<SampleBackend>],
  send: (url: string, delivery: GitHub.Delivery) => Effect.Effect<void>,
  store: string
) {
  const journal = yield* Journal
  const screen = yield* Screen
  const [away, ...others] = backends
  const names = backends.map(({ name }) => name)
  const deliveries = GitHub.stored(backends.length)
  yield* screen.print(`\n${paint("bold", "With a store")}: a second server, --store ${store}`)
  const server = yield* startSprayproxy(backends.map(({ url }) => url), ["--store", store])

  yield* away.goDown
  yield* screen.print(`${away.name} goes down; deliveries are answered as soon as they are on disk\n`)
  yield* Effect.forEach(deliveries, (delivery) => send(server.url, delivery))
  const othersHave = ({ arrivals }: Row) => others.every(({ name }) => arrivals.some((one) => one.backend === name))
  yield* Effect.forEach(deliveries, ({ guid }) => journal.until(guid, othersHave)).pipe(
    Effect.timeoutOption("5 seconds")
  )
  const listed = yield* server.ask("deliveries", "list", "--state", "pending").pipe(
    Effect.repeat({ until: (text) => !text.includes("under way"), times: 10 })
  )
  yield* screen.print(`$ sprayproxy deliveries list --state pending\n${listed}`)
  yield* screen.print(`${away.name} comes up\n\n${header("was down", "slow", "ready")}`)
  yield* away.comeUp
  yield* Effect.forEach(deliveries, ({ guid }) => journal.until(guid, isDone)).pipe(Effect.timeoutOption("30 seconds"))

  const exitCode = yield* server.stop
  const { problems, promise } = storedChecks(yield* journal.rows, names, away.name)
  const check: Check = {
    promise,
    problems: exitCode === 0 ? problems : [...problems, `the server's exit code was ${exitCode}`]
  }
  return { check, url: server.url }
}, Effect.scoped)
