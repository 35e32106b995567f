/** Dynamic backends that are gone for good leave by themselves. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { list } from "../../crash/Operator.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"

const usual = ["--enable-dynamic-backends", "--dynamic-backend-dead-after", "2s", "--forwarding-retries", "0"]

const backendsOf = async ({ port }: Program) => (await send(port, { method: "GET", path: "/backends" })).text

const register = async ({ port }: Program, url: string) =>
  (await send(port, { path: "/backends", body: JSON.stringify({ url }) })).status

/** Sends deliveries to each program in turn until the condition holds. */
const deliverUntil = async (
  programs: ReadonlyArray<Program>,
  condition: () => boolean | Promise<boolean>
): Promise<ReadonlyArray<string>> => {
  const guids: Array<string> = []
  await eventually(async () => {
    for (const { port } of programs) {
      const guid = randomUUID()
      guids.push(guid)
      await deliver(port, "{}", { headers: { "x-github-delivery": guid } })
    }
    return await condition()
  })
  return guids
}

describe("a dynamic backend where nothing arrives for --dynamic-backend-dead-after", () => {
  it.live("is gone, with the reason in the log, and one that takes deliveries stays", () =>
    Effect.gen(function*() {
      const well = yield* startBackend()
      const ill = yield* startBackend((_, response) => response.writeHead(503).end())
      const program = yield* startProgram(usual)
      yield* Effect.promise(async () => {
        for (const { url } of [well, ill]) assert.strictEqual(await register(program, url), 200)
        await deliverUntil([program], async () => !(await backendsOf(program)).includes(ill.url))
        const line = await program.logged(({ msg }) => msg === "server unregistered")
        assert.deepInclude(line, { backend: ill.url, reason: "no delivery has arrived there for too long" })
        assert.strictEqual(await backendsOf(program), `Backend urls: ${well.url}`)
        const seen = ill.received.length
        await deliverUntil([program], () => true)
        assert.strictEqual(ill.received.length, seen)
        assert.strictEqual(await register(program, ill.url), 200)
        await deliverUntil([program], () => ill.received.length > seen)
        assert.include(await backendsOf(program), ill.url)
      })
    }))

  it.live.skipIf(postgresUnavailable() !== undefined)(
    "is gone from both replicas, its backlog is cancelled, and a registration starts afresh",
    () =>
      Effect.gen(function*() {
        const { createDatabase } = yield* sharedPostgres
        const well = yield* startBackend()
        const ill = yield* startBackend((_, response) => response.writeHead(503).end())
        const store = yield* createDatabase
        const replicas = yield* Effect.all([
          startProgram([...usual, "--store", store]),
          startProgram([...usual, "--store", store])
        ], { concurrency: 2 })
        const [one, other] = replicas
        yield* Effect.promise(async () => {
          for (const { url } of [well, ill]) assert.strictEqual(await register(one, url), 200)
          await eventually(async () => (await backendsOf(other)).includes(ill.url))
          const guids = await deliverUntil(replicas, async () => !(await backendsOf(one)).includes(ill.url))
          await eventually(async () => !(await backendsOf(other)).includes(ill.url))
          assert.strictEqual(await backendsOf(other), `Backend urls: ${well.url}`)
          await eventually(async () => (await list(other.port, { state: "pending", backend: ill.url })).length === 0)
          const cancelled = await list(other.port, { state: "cancelled", backend: ill.url })
          assert.isAbove(cancelled.length, 0)
          for (const { guid } of cancelled) assert.include(guids, guid)
          assert.strictEqual(await register(other, ill.url), 200)
          await eventually(async () => (await backendsOf(one)).includes(ill.url))
          const before = ill.received.length
          await deliverUntil(replicas, () => ill.received.length > before)
          assert.include(await backendsOf(one), ill.url)
        })
      }),
    90_000
  )
})
