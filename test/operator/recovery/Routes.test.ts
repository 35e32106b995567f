import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { Readiness } from "../../../src/http/Readiness.ts"
import { LogEntries } from "../../../src/observability/logs/Logging.ts"
import { LookLine, StatusAnswer } from "../../../src/operator/recovery/Answers.ts"
import { GitHubUnavailable } from "../../../src/recovery/GitHubLog.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"
import { send } from "../../support/GitHub.ts"
import { port } from "../../support/OperatorServer.ts"
import { openConnection } from "../../support/RawConnection.ts"
import { failedAt, found, RecoveryContents, RecoveryServer, report, status } from "../../support/RecoveryServer.ts"
import { eventually } from "../../support/eventually.ts"

const ask = Effect.fnUntraced(function*(method: string, path: string, body?: string) {
  const to = yield* port
  return yield* Effect.promise(() => send(to, { method, path, ...(body === undefined ? {} : { body }) }))
})

/** The lines of a look, each as the document has it, and no member more. */
const look = Effect.fnUntraced(function*(body?: string) {
  const reply = yield* ask("POST", "/recovery", body)
  assert.deepStrictEqual([reply.status, reply.headers["content-type"]], [200, "application/x-ndjson"], reply.text)
  const lines = reply.text.trim().split("\n").map((line) => JSON.parse(line) as unknown)
  const decoded = yield* Schema.decodeUnknownEffect(Schema.Array(LookLine), { onExcessProperty: "error" })(lines)
  assert.deepStrictEqual(decoded, lines as typeof decoded)
  return decoded
})

const refused = Effect.fnUntraced(
  function*(code: number, text: string, ...[method, path, body]: Parameters<typeof ask>) {
    const reply = yield* ask(method, path, body)
    assert.deepStrictEqual([reply.status, reply.text], [code, text])
    assert.strictEqual(reply.headers["content-type"], "text/plain; charset=utf-8")
  }
)

/** Five seconds after five seconds pass, as fast as they can. */
const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(
    effect,
    Effect.forever(Effect.andThen(
      TestClock.adjust("5 seconds"),
      Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 1)))
    ))
  )

describe("POST /recovery", () => {
  it.effect("tells how far the look is, what it has found, and at the end how much it was", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      contents.look = (question) =>
        Stream.make(
          { kind: "progress" as const, attempts: 100, at: failedAt },
          {
            kind: "found" as const,
            deliveries: [
              found(1),
              found(2, { statusCode: 0, event: "pull_request", action: "opened", asks: 2 }),
              found(3, { fallback: true, statusCode: 502 }),
              found(4, { finding: "early", statusCode: 503 })
            ]
          },
          report(question, { attempts: 120, failed: 9, held: 2, answered: 2, recovered: 1, missing: 3, early: 1 })
        )
      const lines = (yield* look(`{"since":"2026-01-02T00:00:00Z","event":"push"}`)).filter(({ type }, at) =>
        type !== "progress" || at > 0
      )
      const run = contents.questions[0]!.run
      assert.match(run, /^[\da-f-]{36}$/)
      const line = {
        type: "found",
        event: "push",
        action: null,
        status: 502,
        isMissing: true,
        why: "answered 502",
        requests: 0
      } as const
      assert.deepStrictEqual(lines, [
        { type: "progress", attempts: 100, reached: "2026-01-02T03:04:05.678Z" },
        { ...line, guid: "guid-1", failedAt: "2026-01-02T03:04:05.679Z" },
        {
          ...line,
          guid: "guid-2",
          event: "pull_request",
          action: "opened",
          failedAt: "2026-01-02T03:04:05.680Z",
          status: 0,
          why: "no answer",
          requests: 2
        },
        { ...line, guid: "guid-3", failedAt: "2026-01-02T03:04:05.681Z", why: "backends lack it" },
        {
          ...line,
          guid: "guid-4",
          failedAt: "2026-01-02T03:04:05.682Z",
          status: 503,
          isMissing: false,
          why: "answered 503; may still be under way"
        },
        {
          type: "report",
          run,
          since: "2026-01-02T00:00:00.000Z",
          attempts: 120,
          failed: 9,
          held: 2,
          answered: 2,
          recovered: 1,
          missing: 3,
          early: 1
        }
      ])
      assert.deepStrictEqual(contents.questions, [
        { since: Date.UTC(2026, 0, 2), events: ["push"], dryRun: false, run }
      ])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("looks back as far as passes do, if nothing else is asked for", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      yield* TestClock.setTime(failedAt)
      contents.statuses = [status({ startedAt: failedAt - 1_000 })]
      yield* look()
      contents.statuses = [status({ startedAt: 0 })]
      yield* look("{}")
      assert.deepStrictEqual(contents.questions.map(({ dryRun, events, since }) => ({ dryRun, events, since })), [
        { since: failedAt - 1_000, events: undefined, dryRun: false },
        { since: failedAt - Duration.toMillis("72 hours"), events: undefined, dryRun: false }
      ])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("looks further back than the first start if it is told to", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      yield* TestClock.setTime(failedAt)
      contents.statuses = [status({ startedAt: failedAt })]
      yield* look(`{"since":"24h"}`)
      assert.strictEqual(contents.questions[0]?.since, failedAt - 86_400_000)
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("is logged with the run and what it was asked for", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      contents.look = (question) => Stream.succeed(report(question, { missing: 3 }))
      yield* look(`{"since":"2026-01-02T00:00:00Z","event":"push"}`)
      const [{ run } = { run: "" }] = contents.questions
      const asked = (yield* LogEntries).entries.filter(({ message }) => message === "recovery asked for")
      assert.deepStrictEqual(asked.map(({ fields }) => fields), [
        { run, since: "2026-01-02T00:00:00.000Z", event: "push", missing: 3 }
      ])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("has no run after a dry run, of which nothing is logged", () =>
    Effect.gen(function*() {
      assert.deepInclude((yield* look(`{"dryRun":true}`)).at(-1), { type: "report", run: null })
      assert.isTrue((yield* RecoveryContents).questions[0]?.dryRun)
      assert.deepStrictEqual((yield* LogEntries).entries, [])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("ends in a line that says why GitHub can't be asked", () =>
    Effect.gen(function*() {
      const reason = "GitHub answered 401: is --github-private-key-file a key of the App 12 (--github-app-id)?"
      ;(yield* RecoveryContents).look = () =>
        Stream.concat(
          Stream.make({ kind: "progress" as const, attempts: 100, at: failedAt }),
          Stream.fail(new GitHubUnavailable({ kind: "unauthorized", reason }))
        )
      assert.deepStrictEqual((yield* look()).at(-1), { type: "failure", reason })
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("ends in a line that says no more than that the store is away, and logs why", () =>
    Effect.gen(function*() {
      ;(yield* RecoveryContents).look = () => Stream.fail(new StoreUnavailable({ reason: "host 10.0.0.1 is gone" }))
      assert.deepStrictEqual((yield* look()).at(-1), { type: "failure", reason: "store unavailable" })
      assert.deepInclude((yield* LogEntries).entries.at(-1)?.fields, { error: "host 10.0.0.1 is gone" })
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("is refused before it begins if the store is away by then", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      contents.failure = new StoreUnavailable({ reason: "gone" })
      yield* refused(503, "store unavailable", "POST", "/recovery")
      assert.deepStrictEqual(contents.questions, [])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("says again how far it is while GitHub lets it wait, so that no proxy cuts it off", () =>
    Effect.gen(function*() {
      ;(yield* RecoveryContents).look = () =>
        Stream.concat(Stream.make({ kind: "progress" as const, attempts: 100, at: failedAt }), Stream.never)
      const to = yield* port
      const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${to}/recovery`, { method: "POST" }))
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
      const same = Effect.gen(function*() {
        for (let seen = 0; seen < 3;) {
          const { value = "" } = yield* Effect.promise(() => reader.read())
          seen += value.split("\n").filter((line) => line.includes(`"attempts":100`)).length
        }
      })
      yield* whileTimePasses(same)
      yield* Effect.promise(() => reader.cancel())
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("ends when the server is about to end", () =>
    Effect.gen(function*() {
      ;(yield* RecoveryContents).look = () => Stream.never
      ;(yield* Readiness).beginDraining()
      assert.deepStrictEqual((yield* whileTimePasses(look())).at(-1), {
        type: "failure",
        reason: "the server is about to end"
      })
    }).pipe(Effect.provide(RecoveryServer)))

  it.live("stops looking when nobody listens any more", () =>
    Effect.gen(function*() {
      let isLooking = false
      ;(yield* RecoveryContents).look = () =>
        Stream.fromEffect(Effect.onInterrupt(
          Effect.andThen(Effect.sync(() => isLooking = true), Effect.never),
          () => Effect.sync(() => isLooking = false)
        ))
      const connection = yield* openConnection(yield* port)
      connection.write("POST /recovery HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
      yield* Effect.promise(() => eventually(() => isLooking))
      connection.socket.destroy()
      yield* Effect.promise(() => eventually(() => !isLooking))
    }).pipe(Effect.provide(RecoveryServer)))

  const time = "since is a time like 2026-01-02T03:04:05Z, or a duration back from now like 24h"
  it.effect.each(
    [
      [422, `{"since":"yesterday"}`, `invalid since "yesterday": ${time}`],
      [422, `{"event":""}`, `invalid event "": an event is a name like push`],
      [422, `{"dryRun":"yes"}`, `invalid dryRun "yes": dryRun is true or false`],
      [422, `{"dry":true}`, `unknown parameter "dry": known are since, event, dryRun`],
      [400, "{", "please provide a valid json body"],
      [413, `"${"x".repeat(65_536)}"`, "request body too large"]
    ] as const
  )("refuses in one line: %i %s", ([code, body, reason]) =>
    Effect.gen(function*() {
      yield* refused(code, reason, "POST", "/recovery", body)
      assert.deepStrictEqual((yield* RecoveryContents).questions, [])
    }).pipe(Effect.provide(RecoveryServer)))
})

describe("GET /recovery", () => {
  const answerTo = Effect.fnUntraced(function*(path: string) {
    const reply = yield* ask("GET", path)
    assert.strictEqual(reply.status, 200, reply.text)
    const answer = JSON.parse(reply.text)
    yield* Schema.decodeUnknownEffect(StatusAnswer, { onExcessProperty: "error" })(answer)
    return answer
  })

  it.effect("tells how far recovery is", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      contents.statuses = [status({
        wanted: 4,
        asked: 3,
        recovered: 2,
        givenUp: 1,
        oldestFailedAt: failedAt,
        lastRecoveredAt: failedAt + 1_000,
        passes: { failures: { completedAt: failedAt + 2_000, scannedTo: failedAt }, full: undefined },
        failing: { since: failedAt, reason: "GitHub answered 403" },
        heldBack: true
      })]
      assert.deepStrictEqual(yield* answerTo("/recovery"), {
        wanted: 4,
        asked: 3,
        recovered: 2,
        givenUp: 1,
        oldestFailedAt: "2026-01-02T03:04:05.678Z",
        lastRecoveredAt: "2026-01-02T03:04:06.678Z",
        startedAt: "2026-01-01T03:04:05.678Z",
        failures: { completedAt: "2026-01-02T03:04:07.678Z", scannedTo: "2026-01-02T03:04:05.678Z" },
        full: null,
        reconciler: "pod-1",
        failing: { since: "2026-01-02T03:04:05.678Z", reason: "GitHub answered 403" },
        heldBack: true
      })
      assert.deepStrictEqual(contents.runs, [undefined])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("counts one run, and says null of whatever it does not know", () =>
    Effect.gen(function*() {
      const contents = yield* RecoveryContents
      contents.statuses = [status({ reconciler: undefined, heldBack: undefined })]
      const answer = yield* answerTo("/recovery?run=abc")
      assert.deepInclude(answer, { reconciler: null, failing: null, heldBack: null, oldestFailedAt: null })
      assert.deepStrictEqual(contents.runs, ["abc"])
    }).pipe(Effect.provide(RecoveryServer)))

  it.effect("refuses in one line", () =>
    Effect.gen(function*() {
      yield* refused(400, `unknown parameter "since": known are run`, "GET", "/recovery?since=1h")
      yield* refused(400, `invalid run "": a run is the run of a report`, "GET", "/recovery?run=")
      ;(yield* RecoveryContents).failure = new StoreUnavailable({ reason: "gone" })
      yield* refused(503, "store unavailable", "GET", "/recovery")
    }).pipe(Effect.provide(RecoveryServer)))
})

describe("/recovery", () => {
  it.effect("is kept from pages, other methods and other spellings", () =>
    Effect.gen(function*() {
      const to = yield* port
      for (const method of ["GET", "POST"]) {
        const reply = yield* Effect.promise(() =>
          send(to, { method, path: "/recovery", headers: { origin: "https://evil.example.org" } })
        )
        assert.deepStrictEqual([reply.status, reply.text], [403, "requests of web pages are refused"])
      }
      const other = yield* ask("DELETE", "/recovery")
      assert.deepStrictEqual([other.status, other.headers["allow"]], [405, "POST, GET"])
      for (const path of ["/recovery/", "/Recovery", "/%72ecovery", "//recovery"]) {
        assert.strictEqual((yield* ask("GET", path)).status, 404, path)
      }
      assert.deepStrictEqual((yield* RecoveryContents).questions, [])
    }).pipe(Effect.provide(RecoveryServer)))
})
