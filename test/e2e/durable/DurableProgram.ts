/** The built program with a store on SQLite, and short words for what is done with it. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { list } from "../../crash/Operator.ts"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-durable-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
)

export const newStore = Effect.map(temporaryDirectory, (directory) => `sqlite:${join(directory, "deliveries.db")}`)

export const startDurable = (store: string, backends: ReadonlyArray<TestBackend>, ...args: ReadonlyArray<string>) =>
  startProgram([
    ...backends.flatMap(({ url }) => ["--backend", url]),
    "--store",
    store,
    "--enable-dynamic-backends",
    ...args
  ])

/** Answers 500 until it is told that it is well. */
export const startIllBackend = Effect.gen(function*() {
  const health = { isWell: false }
  const taken: Array<string> = []
  const backend = yield* startBackend(({ headers }, response) => {
    if (health.isWell) taken.push(String(headers["x-github-delivery"]))
    response.writeHead(health.isWell ? 202 : 500).end()
  })
  return { ...backend, taken, getWell: () => health.isWell = true }
})

export const guidsOf = ({ received }: TestBackend) =>
  received.map(({ headers }) => String(headers["x-github-delivery"]))

export const newGuids = (count: number) => Array.from({ length: count }, () => randomUUID())

/** Delivers under these GUIDs, one after the other; the answers' statuses. */
export const deliverAs = async (program: Program, guids: ReadonlyArray<string>, body = "{}") => {
  const statuses: Array<number> = []
  for (const guid of guids) {
    const { status } = await deliver(program.port, body, { headers: { "x-github-delivery": guid } })
    statuses.push(status)
  }
  return statuses
}

export const changeBackend = async (program: Program, method: "POST" | "DELETE", url: string, ttl?: string) => {
  const { status } = await send(program.port, { method, path: "/backends", body: JSON.stringify({ url, ttl }) })
  assert.strictEqual(status, 200)
}

export const killAndWait = async (program: Program) => {
  program.process.kill("SIGKILL")
  await program.exit
}

export const isInState = async (program: Program, state: string, { url }: TestBackend, guid: string) =>
  (await list(program.port, { state, backend: url })).some((delivery) => delivery.guid === guid)
