/**
 * Shows sprayproxy at work: the built program between real deliveries of GitHub's and three sample clusters.
 *
 * The demo stays up until Ctrl-C. With `--once` it ends by itself, and the exit code is 0 if everything went as it
 * should.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { join } from "node:path"
import { secret, sign } from "../test/support/github/Headers.ts"
import { absence } from "./Absence.ts"
import { type Check, checks } from "./Checks.ts"
import * as GitHub from "./GitHub.ts"
import { Journal } from "./Journal.ts"
import { outage } from "./Outage.ts"
import { isDone } from "./Row.ts"
import { startBackend } from "./SampleBackend.ts"
import { Screen } from "./Screen.ts"
import { startSprayproxy } from "./Sprayproxy.ts"
import { header, paint } from "./Table.ts"

/** The default of `--max-request-size`. */
const limit = 25 * 1024 * 1024

class PromiseBroken extends Schema.TaggedError<PromiseBroken>()("PromiseBroken", { problems: Schema.Int }) {
  override get message() {
    return `${this.problems === 1 ? "one thing" : `${this.problems} things`} did not go as it should, see above`
  }
}

const demo = Effect.fnUntraced(function*(mode: "once" | "until Ctrl-C") {
  const journal = yield* Journal
  const screen = yield* Screen
  const backends = yield* Effect.all([
    startBackend({ name: "pac-1" }),
    startBackend({ name: "pac-2", delay: 700 }),
    startBackend({ name: "pac-3", notReady: [2, 1] })
  ])
  const server = yield* startSprayproxy(backends.map(({ url }) => url))

  const send = Effect.fnUntraced(function*(url: string, delivery: GitHub.Delivery) {
    yield* journal.sent(delivery)
    const reply = yield* Effect.catch(
      GitHub.send(`${url}/proxy`, delivery),
      (error) => Effect.succeed({ status: 0, text: error.message })
    )
    yield* journal.answered(delivery, reply)
  })

  const deliver = (delivery: GitHub.Delivery) =>
    Effect.andThen(
      send(server.url, delivery),
      journal.until(delivery.guid, isDone).pipe(Effect.timeoutOption("5 seconds"))
    )

  const deliverAll = (deliveries: ReadonlyArray<GitHub.Delivery>) =>
    Stream.fromIterable(deliveries).pipe(
      Stream.schedule(Schedule.spaced("120 millis")),
      Stream.mapEffect(deliver, { concurrency: "unbounded" }),
      Stream.runDrain
    )

  /** Sends SIGTERM while a delivery is under way, to show that the program finishes what it has begun. */
  const stopServer = Effect.gen(function*() {
    const last = GitHub.whileStopping()
    const delivering = yield* Effect.forkChild(deliver(last))
    yield* journal.until(last.guid, ({ arrivals }) => arrivals.length > 0)
    const exitCode = yield* server.stop
    yield* Fiber.join(delivering)
    const row = (yield* journal.rows).find(({ guid }) => guid === last.guid)
    return {
      promise: "SIGTERM: what was under way was finished, then the server ended with exit code 0",
      problems: [
        ...row?.reply?.status === 200 && row.arrivals.length === backends.length ? [] : ["the delivery was lost"],
        ...exitCode === 0 ? [] : [`the server's exit code was ${exitCode}`]
      ]
    } satisfies Check
  }).pipe(Effect.timeout("20 seconds"))

  const tellingInterruption = Effect.onInterrupt(() => screen.print("\nInterrupted: the server is stopped."))

  yield* screen.print(introduction(server.version, server.url))
  yield* tellingInterruption(Effect.andThen(deliverAll(GitHub.genuine()), deliverAll(GitHub.unwelcome(limit))))
  const kept = checks(yield* journal.rows, backends.map(({ name }) => name))
  yield* screen.print(`\n${kept.map(verdict).join("\n")}`)
  const fileSystem = yield* FileSystem.FileSystem
  const directory = yield* fileSystem.makeTempDirectoryScoped({ prefix: "sprayproxy-demo-" })
  const store = `sqlite:${join(directory, "deliveries.db")}`
  const stored = yield* tellingInterruption(outage(backends, send, store))
  yield* screen.print(`\n${verdict(stored.check)}`)
  const recovered = yield* tellingInterruption(absence(backends, { directory, store, nobody: stored.url }))
  yield* screen.print(`\n${verdict(recovered)}`)

  const end = Effect.gen(function*() {
    const stopped = yield* stopServer
    yield* screen.print(`\n${verdict(stopped)}`)
    const broken = [...kept, stored.check, recovered, stopped].flatMap(({ problems }) => problems)
    if (broken.length > 0) return yield* new PromiseBroken({ problems: broken.length })
  })
  if (mode === "once") return yield* Effect.andThen(screen.print(""), end)

  yield* screen.print(invitation(server.url))
  return yield* Effect.onInterrupt(
    Effect.never,
    // The end has a fiber of its own. In the fiber that was interrupted, no time-out could interrupt anything.
    () => Effect.andThen(screen.print("\n"), Effect.flatMap(Effect.forkDetach(end), Fiber.join))
  )
})

const firstHeader = header("ready", "slow", "503 at first")

const introduction = (version: string, url: string) =>
  `${paint("bold", `sprayproxy ${version}`)} at ${url}/proxy, in front of three sample clusters\n\n${firstHeader}`

const verdict = ({ problems, promise }: Check): string =>
  problems.length === 0
    ? `${paint("green", "✓")} ${promise}`
    : [`${paint("red", "✗")} not true: ${promise}`, ...problems.map((problem) => `    ${problem}`)].join("\n")

/** In lines of at most 100 columns. A narrower terminal wraps them, and copies them as one line all the same. */
const curl = (url: string, signature: string, body: string) =>
  [
    `curl -i ${url}/proxy \\`,
    " -H X-GitHub-Event:push -H X-GitHub-Delivery:try-$RANDOM \\",
    ` -H X-Hub-Signature-256:${signature} \\`,
    ` -d '${body}'`
  ].join("\n")

const invitation = (url: string) => {
  const body = `{"zen":"Design for failure."}`
  const signature = sign(Buffer.from(body))
  return `
It stays up. From another terminal, a signed delivery; every backend gets it:

${curl(url, signature, body)}

The same signature for another body; it is refused:

${curl(url, signature, body.replace("failure", "success"))}

Where deliveries go, and whether it is ready for them:

curl ${url}/backends ${url}/readyz

The webhook secret is ${paint("bold", secret)}. Ctrl-C stops everything.

${firstHeader}`
}

const mode = process.argv.includes("--once") ? "once" : "until Ctrl-C"

const Surroundings = Journal.layer.pipe(Layer.provideMerge(Screen.layer), Layer.provideMerge(NodeServices.layer))

// The server is in a process group of its own. When a terminal or a pipe is closed, the server does not end by itself.
const stop = () => process.kill(process.pid, "SIGTERM")
process.once("SIGHUP", stop)
process.stdout.on("error", stop)

Effect.scoped(demo(mode)).pipe(
  mode === "once" ? Effect.timeout("60 seconds") : (self) => self,
  Effect.tapCause((cause) =>
    Cause.hasInterruptsOnly(cause)
      ? Effect.void
      : Console.error(`demo: ${Cause.prettyErrors(cause).map(({ message }) => message).join("; ")}`)
  ),
  Effect.provide(Surroundings),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
)
