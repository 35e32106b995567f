/** The built program when the place of its SQLite file can't be used, or is taken from it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const setUp = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-disk-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true }))
  )
  const path = join(directory, "deliveries.db")
  const backend = yield* startBackend((_request, response) => void response.writeHead(202).end())
  return { path, start: startProgram(["--backend", backend.url, "--store", `sqlite:${path}`]) }
})

const isDown = ({ msg }: { readonly msg?: unknown }) => msg === "the store is down: deliveries are forwarded without it"
const isUsed = ({ msg }: { readonly msg?: unknown }) => msg === "the store is used again"

describe("a program whose store", () => {
  it.live("can't be opened at the start forwards without it, and uses it when it can be", () =>
    Effect.gen(function*() {
      const { path, start } = yield* setUp
      mkdirSync(`${path}-lock`)
      const program = yield* start
      yield* Effect.promise(async () => {
        assert.strictEqual((await deliver(program.port, "{}")).text, "proxied")
        assert.strictEqual((await program.logged(isDown))["reason"], "the file can't be opened")
        rmdirSync(`${path}-lock`)
        await program.logged(isUsed)
        assert.strictEqual((await deliver(program.port, "{}")).text, "accepted")
        assert.lengthOf(program.logs.filter(isDown), 1)
      })
    }))

  it.live("is removed while it runs promises nothing that is nowhere, and makes it anew", () =>
    Effect.gen(function*() {
      const { path, start } = yield* setUp
      const program = yield* start
      yield* Effect.promise(async () => {
        assert.strictEqual((await deliver(program.port, "{}")).text, "accepted")
        rmSync(path)
        // The first to come finds out, be it a delivery or a look at the store.
        assert.include(["proxied", "accepted"], (await deliver(program.port, "{}")).text)
        await program.logged(({ msg }) => msg === "the store was opened anew: its file was removed or replaced")
        assert.isTrue(existsSync(path))
        await eventually(async () => (await deliver(program.port, "{}")).text === "accepted")
      })
    }))
})
