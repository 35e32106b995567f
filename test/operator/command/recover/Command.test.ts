import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as http from "node:http"
import { execute } from "../../../../src/operator/command/recover/Command.ts"
import type { RecoverRequest } from "../../../../src/operator/command/recover/Flags.ts"
import { GitHubUnavailable } from "../../../../src/recovery/GitHubLog.ts"
import type { Environment } from "../../../../src/settings/Variables.ts"
import { StoreUnavailable } from "../../../../src/store/contract/Unavailable.ts"
import { listen } from "../../../support/Backend.ts"
import { OperatorServer, port } from "../../../support/OperatorServer.ts"
import { printing, type Terminal } from "../../../support/Printed.ts"
import { failedAt, found, RecoveryContents, RecoveryServer, report, status } from "../../../support/RecoveryServer.ts"

const plain: RecoverRequest = {
  since: "2026-01-02T00:00:00Z",
  event: undefined,
  dryRun: false,
  server: undefined,
  tokenFile: undefined,
  json: false
}
const dry = { ...plain, dryRun: true }

const environment = Effect.map(port, (to): Environment => ({ SPRAYPROXY_URL: `http://127.0.0.1:${to}` }))

/** A second after a second passes, as fast as they can, until the command has ended. */
const whileTimePasses = <A, E, R>(command: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(
    command,
    Effect.forever(Effect.andThen(
      TestClock.adjust("1 second"),
      Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 1)))
    ))
  )

const prints = (request: RecoverRequest, terminal?: Terminal) =>
  Effect.flatMap(environment, (env) => whileTimePasses(printing(execute(request, env), terminal)))

const fails = Effect.fnUntraced(function*(request: RecoverRequest, env: Environment, reason: string) {
  const printed = { out: "", err: "" }
  const failure = yield* Effect.flip(whileTimePasses(printing(execute(request, env), {}, printed)))
  assert.strictEqual(failure.message, reason)
  return printed
})

/** Two are missing, and one may be under way. */
const some = Effect.map(RecoveryContents, (contents) => {
  contents.look = (question) =>
    Stream.make(
      { kind: "progress" as const, attempts: 100, at: failedAt },
      {
        kind: "found" as const,
        deliveries: [
          found(1, { guid: "72d3162e-cc78-11e3-81ab-4c9367dc0958", event: "pull_request", action: "opened" }),
          found(2, { statusCode: 0 })
        ]
      },
      { kind: "progress" as const, attempts: 120, at: failedAt },
      { kind: "found" as const, deliveries: [found(3, { finding: "early", statusCode: 503 })] },
      report(question, { attempts: 120, failed: 8, held: 2, answered: 1, recovered: 2, missing: 2, early: 1 })
    )
  return contents
})

const table = [
  "FAILED (UTC)         EVENT                        GUID                                  GITHUB GOT",
  "2026-01-02 03:04:05  pull_request opened          72d3162e-cc78-11e3-81ab-4c9367dc0958  answered 502",
  "2026-01-02 03:04:05  push                         guid-2                                no answer",
  "2026-01-02 03:04:05  push                         guid-3                                answered 503; may still be under way",
  "8 deliveries failed at GitHub since 2026-01-02 00:00:00 UTC: 2 missing, 2 on disk here, 1 answered without the store, " +
  "2 recovered before, 1 maybe still under way",
  ""
].join("\n")

describe("a dry run", () => {
  it.effect("prints what is missing and why, and asks for nothing", () =>
    Effect.gen(function*() {
      const contents = yield* some
      assert.deepStrictEqual(yield* prints(dry), {
        out: table,
        err: "attempts looked at: 100\nattempts looked at: 120\n"
      })
      assert.deepInclude(contents.questions[0], { dryRun: true, since: Date.UTC(2026, 0, 2), events: undefined })
      assert.deepStrictEqual(contents.runs, [undefined], "nobody waits for anything")
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("fits the terminal, in colours, and grows a bar there", () =>
    Effect.gen(function*() {
      yield* some
      const { err, out } = yield* prints(dry, { columns: 80, hasColours: true, canOverwrite: true })
      assert.strictEqual(err, "\rattempts looked at 100\u001b[K\rattempts looked at 120\u001b[K\n")
      assert.include(out, "\u001b[33m2026-01-02 03:04:05  push  ")
      assert.include(out, "\u001b[90m2026-01-02 03:04:05  push  ")
      assert.include(out, "72d3162e-cc78-11e3-81ab-4c936…")
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("prints JSON", () =>
    Effect.gen(function*() {
      yield* some
      const { found: rows, ...counts } = JSON.parse((yield* prints({ ...dry, json: true })).out)
      assert.deepStrictEqual(counts, {
        run: null,
        since: "2026-01-02T00:00:00.000Z",
        attempts: 120,
        failed: 8,
        held: 2,
        answered: 1,
        recovered: 2,
        missing: 2,
        early: 1,
        ended: null
      })
      assert.deepStrictEqual(rows.map(({ guid }: { guid: string }) => guid), [
        "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "guid-2",
        "guid-3"
      ])
      assert.deepStrictEqual(rows[1], {
        guid: "guid-2",
        event: "push",
        action: null,
        failedAt: "2026-01-02T03:04:05.680Z",
        status: 0,
        isMissing: true,
        why: "no answer",
        requests: 0
      })
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("says that nothing is missing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* prints(dry), {
        out: "0 deliveries failed at GitHub since 2026-01-02 00:00:00 UTC: 0 missing\n",
        err: ""
      })
    }).pipe(Effect.provide(RecoveryServer)))
})

const bar = (done: number, cells: string, percent: number) =>
  `\rrecovering ${cells} ${done} of 2 (${percent} %)\u001b[K`

const waiting = [
  status({ wanted: 1, asked: 1 }),
  status({ wanted: 0, asked: 1, recovered: 1 }),
  status({ wanted: 0, asked: 0, recovered: 2 })
]

describe("a real run", () => {
  it.effect("waits until all that was missing is recovered", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.statuses = [status(), ...waiting]
      const { err, out } = yield* prints(plain, { canOverwrite: true })
      assert.strictEqual(out, `${table}recovered 2\n`)
      assert.strictEqual(
        err.slice(err.indexOf("\n") + 1),
        `${bar(0, "░".repeat(30), 0)}${bar(1, "█".repeat(15) + "░".repeat(15), 50)}${bar(2, "█".repeat(30), 100)}\n`
      )
      const run = contents.questions[0]!.run
      assert.deepStrictEqual(contents.runs, [undefined, run, run, run])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("writes few lines into a pipe", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.look = (question) => Stream.make(report(question, { missing: 40 }))
      contents.statuses = [
        status(),
        ...Array.from({ length: 40 }, (_, at) => status({ wanted: 40 - at, recovered: at })),
        status({ recovered: 40 })
      ]
      const { err } = yield* prints(plain)
      assert.deepStrictEqual(err.trim().split("\n"), [0, 10, 20, 30, 40].map((done) => `recovering: ${done} of 40`))
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("prints JSON at the end, with what has become of them", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.statuses = [status(), ...waiting]
      const { ended, run } = JSON.parse((yield* prints({ ...plain, json: true })).out)
      assert.deepStrictEqual([run, ended], [contents.questions[0]!.run, { recovered: 2, givenUp: 0 }])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("has nothing to wait for if nothing is missing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* prints(plain), {
        out: "0 deliveries failed at GitHub since 2026-01-02 00:00:00 UTC: 0 missing\n",
        err: ""
      })
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("fails if any is given up", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.statuses = [status(), status({ recovered: 1, givenUp: 1 })]
      const { out } = yield* fails(plain, yield* environment, "1 of 2 deliveries could not be recovered")
      assert.strictEqual(out, `${table}recovered 1, given up 1\n`)
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("says once why nothing moves", () =>
    Effect.gen(function*() {
      const contents = yield* some
      const failing = { since: failedAt, reason: "GitHub answered 403: the App is suspended" }
      const stuck = status({ wanted: 2, failing })
      contents.statuses = [
        status(),
        stuck,
        status({ wanted: 2, heldBack: undefined }),
        stuck,
        status({ asked: 2, heldBack: true }),
        status({ recovered: 2 })
      ]
      const { err } = yield* prints(plain, { canOverwrite: true })
      const said = err.split("\n").map((line) => line.split("\r\u001b[K").at(-1)).slice(1, 3)
      assert.deepStrictEqual(said, [
        "failing since 2026-01-02 03:04:05 UTC: GitHub answered 403: the App is suspended",
        "requests are held back: nothing that was asked for arrives"
      ])
      assert.lengthOf(err.match(/suspended/g) ?? [], 1)
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("outlives a server that is replaced meanwhile", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.statuses = [status(), status({ wanted: 2 }), status({ recovered: 2 })]
      let asked = 0
      Object.defineProperty(contents, "failure", {
        get: () => [3, 4].includes(++asked) ? new StoreUnavailable({ reason: "gone" }) : undefined
      })
      assert.include((yield* prints(plain)).out, "recovered 2\n")
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("says that the server goes on if it can't be watched any more", () =>
    Effect.gen(function*() {
      yield* some
      const env = yield* environment
      const contents = yield* RecoveryContents
      contents.look = (question) => {
        contents.failure = new StoreUnavailable({ reason: "gone" })
        return Stream.make(report(question, { missing: 2 }))
      }
      yield* fails(
        plain,
        env,
        `2 of 2 are still missing; that can't be watched any more: ${
          env["SPRAYPROXY_URL"]
        } answered 503: store unavailable`
      )
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("says at Ctrl-C that the server goes on", () =>
    Effect.gen(function*() {
      const contents = yield* some
      contents.statuses = [status({ wanted: 2 })]
      const printed = { out: "", err: "" }
      const watching = yield* Effect.forkChild(printing(execute(plain, yield* environment), {}, printed))
      yield* whileTimePasses(Effect.gen(function*() {
        while (!printed.err.includes("recovering")) yield* Effect.sleep("1 second")
      }))
      yield* Fiber.interrupt(watching)
      assert.strictEqual(
        printed.err.trim().split("\n").at(-1),
        "2 of 2 are still missing; the server goes on asking for them"
      )
    }).pipe(Effect.provide(RecoveryServer)))
})

/** The reason why a server on this port can't be asked. */
const said = (to: number) =>
  Effect.map(
    Effect.flip(printing(execute({ ...plain, server: `http://127.0.0.1:${to}` }, {}))),
    ({ message }) => message.replace(`http://127.0.0.1:${to}`, "it")
  )

describe("a failure", () => {
  it.effect("is GitHub's, in the server's words", () =>
    Effect.gen(function*() {
      const reason = "GitHub answered 401: is --github-private-key-file a key of the App 12 (--github-app-id)?"
      ;(yield* RecoveryContents).look = () => Stream.fail(new GitHubUnavailable({ kind: "unauthorized", reason }))
      assert.deepStrictEqual(yield* fails(plain, yield* environment, reason), { out: "", err: "" })
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("is the store's, before the look or during it", () =>
    Effect.gen(function*() {
      const env = yield* environment
      const contents = yield* RecoveryContents
      const gone = new StoreUnavailable({ reason: "gone" })
      contents.look = () => Stream.fail(gone)
      yield* fails(plain, env, "store unavailable")
      contents.failure = gone
      yield* fails(plain, env, `${env["SPRAYPROXY_URL"]} answered 503: store unavailable`)
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("names what the server runs without: recovery", () =>
    Effect.gen(function*() {
      const env = yield* environment
      yield* fails(
        plain,
        env,
        `${
          env["SPRAYPROXY_URL"]
        } does not recover deliveries: it runs without --github-app-id and --github-private-key-file`
      )
    }).pipe(Effect.provide(OperatorServer())))

  it.live("names what the server runs without: a store", () =>
    Effect.scoped(Effect.gen(function*() {
      const to = yield* listen(http.createServer((_, response) => void response.writeHead(404).end("not found")))
      const server = `http://127.0.0.1:${to}`
      const failure = yield* Effect.flip(printing(execute({ ...plain, server }, {})))
      assert.strictEqual(failure.message, `${server} keeps no deliveries: it runs without a store`)
    })))

  it.live.each([
    ["ends its answer", (response: http.ServerResponse) => response.end()],
    ["breaks off within a line", (response: http.ServerResponse) => {
      response.write(`{"type":"prog`)
      setImmediate(() => response.destroy())
    }]
  ])("is a server that %s before the report", ([, breakOff]) =>
    Effect.scoped(Effect.gen(function*() {
      const to = yield* listen(http.createServer((request, response) => {
        request.resume()
        response.writeHead(200, { "content-type": "application/x-ndjson" })
        response.write(`{"type":"progress","attempts":100,"reached":null}\n`, () =>
          (breakOff as (response: http.ServerResponse) => void)(response))
      }))
      const server = `http://127.0.0.1:${to}`
      const failure = yield* Effect.flip(printing(execute({ ...plain, server }, {})))
      assert.strictEqual(failure.message, `${server} broke off before it had looked through all`)
    })))

  it.live("is a server that is not there, that is another one, or that wants a token", () =>
    Effect.scoped(Effect.gen(function*() {
      const closed = yield* Effect.scoped(listen(http.createServer()))
      const page = yield* listen(http.createServer((_, response) => void response.end("<html>")))
      const guarded = yield* listen(
        http.createServer((_, response) => void response.writeHead(401).end("Unauthorized"))
      )
      assert.deepStrictEqual(yield* Effect.forEach([closed, page, guarded], said), [
        `can't reach it: connect ECONNREFUSED 127.0.0.1:${closed}`,
        "it does not answer as this version of sprayproxy does",
        "it wants a token (401): give --token-file or SPRAYPROXY_TOKEN"
      ])
    })))

  it.effect("is a server that falls silent", () =>
    Effect.scoped(Effect.gen(function*() {
      const to = yield* listen(http.createServer((_, response) => {
        response.writeHead(200, { "content-type": "application/x-ndjson" }).flushHeaders()
      }))
      const server = `http://127.0.0.1:${to}`
      yield* fails({ ...plain, server }, {}, `${server} does not answer`)
    })))

  it.effect.each([
    [
      { since: "yesterday" },
      `invalid --since "yesterday": since is a time like 2026-01-02T03:04:05Z, or a duration back from now like 24h`
    ],
    [{ event: "" }, `invalid --event "": an event is a name like push`]
  ])("names the flag as it is written: %j", ([given, reason]) =>
    Effect.gen(function*() {
      yield* fails({ ...plain, ...given as object }, yield* environment, reason as string)
      assert.deepStrictEqual((yield* RecoveryContents).questions, [])
    }).pipe(Effect.provide(RecoveryServer)))
})
