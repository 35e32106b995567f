/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startBackend } from "../../support/Backend.ts"
import { githubHeaders, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const oldSecret = "the-old-secret"
const newSecret = "the-new-secret"

/** A mounted secret as kubelet writes it: `name` → `..data/name`, and `..data` → a directory that is swapped. */
const mount = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sprayproxy-rotation-"))),
    (path) => Effect.sync(() => fs.rmSync(path, { recursive: true }))
  ),
  (path) => {
    let revision = 0
    return {
      path: (name: string) => join(path, name),
      update: (secrets: Readonly<Record<string, string>>) => {
        const before = revision === 0 ? undefined : join(path, `..${revision}`)
        revision += 1
        fs.mkdirSync(join(path, `..${revision}`))
        for (const [name, value] of Object.entries(secrets)) {
          fs.writeFileSync(join(path, `..${revision}`, name), value)
          if (!fs.existsSync(join(path, name))) {
            fs.rmSync(join(path, name), { force: true })
            fs.symlinkSync(join("..data", name), join(path, name))
          }
        }
        fs.symlinkSync(`..${revision}`, join(path, "..data_tmp"))
        fs.renameSync(join(path, "..data_tmp"), join(path, "..data"))
        if (before !== undefined) fs.rmSync(before, { recursive: true })
      }
    }
  }
)

const post = async (program: Program, key: string) =>
  (await send(program.port, { body: "{}", headers: await githubHeaders("{}", "push", key) })).status

const isAccepted = async (program: Program, key: string) => await post(program, key) === 200

const readyz = async (program: Program) => {
  const { status, text } = await send(program.port, { method: "GET", path: "/readyz" })
  return `${status} ${text}`
}

/** Sends deliveries signed with `key`, four at a time, until it is stopped; how many and the replies that were not 200. */
const load = (program: Program, key: string) => {
  const stopping = new AbortController()
  let sent = 0
  const refused: Array<number> = []
  const senders = Array.from({ length: 4 }, async () => {
    while (!stopping.signal.aborted) {
      const status = await post(program, key)
      sent += 1
      if (status !== 200) refused.push(status)
    }
  })
  return {
    sent: () => sent,
    stop: async () => {
      stopping.abort()
      await Promise.all(senders)
      return refused
    }
  }
}

/** Twice what is promised: the machine may be busy. What is promised itself is tested with the `TestClock`. */
const within = (millis: number, since: number) => assert.isBelow(performance.now() - since, millis * 2)

// At the same time: they wait for the program to look at its files.
describe.concurrent("a secret that is rotated in its mounted files", () => {
  it.live("is refused never while it is listed, and within five seconds when it is not", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const secrets = yield* mount
      secrets.update({ first: oldSecret, second: oldSecret })
      const files = ["--webhook-secret-file", secrets.path("first"), "--webhook-secret-file", secrets.path("second")]
      const program = yield* startProgram(["--backend", backend.url, ...files])
      yield* Effect.promise(async () => {
        assert.isTrue(await isAccepted(program, oldSecret))
        assert.isFalse(await isAccepted(program, newSecret))

        const oldLoad = load(program, oldSecret)
        await eventually(() => oldLoad.sent() > 20)
        let swapped = performance.now()
        secrets.update({ first: oldSecret, second: newSecret })
        await eventually(() => isAccepted(program, newSecret), "the new secret")
        within(5_000, swapped)

        // Both are listed: neither is refused, whatever is swapped around them.
        const newLoad = load(program, newSecret)
        const atSwap = [oldLoad.sent(), newLoad.sent()]
        secrets.update({ first: newSecret, second: oldSecret })
        await program.logged(({ msg, path }) => msg === "webhook secret changed" && path === secrets.path("first"))
        await eventually(() => oldLoad.sent() > atSwap[0]! + 20 && newLoad.sent() > atSwap[1]! + 20)
        assert.deepStrictEqual(await oldLoad.stop(), [])

        swapped = performance.now()
        secrets.update({ first: newSecret, second: newSecret })
        await eventually(async () => !await isAccepted(program, oldSecret), "the end of the old secret")
        within(5_000, swapped)
        assert.strictEqual(await post(program, oldSecret), 400)
        assert.deepStrictEqual(await newLoad.stop(), [])
        assert.notInclude(JSON.stringify(program.logs), oldSecret)
        assert.notInclude(JSON.stringify(program.logs), newSecret)
      })
    }))

  it.live("keeps its last value while its file is empty", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const secrets = yield* mount
      secrets.update({ secret: `${oldSecret}\n` })
      const program = yield* startProgram(["--backend", backend.url, "--webhook-secret-file", secrets.path("secret")])
      yield* Effect.promise(async () => {
        assert.isTrue(await isAccepted(program, oldSecret))
        secrets.update({ secret: "" })
        const { error, level } = await program.logged(({ msg }) => msg.startsWith("webhook secret file unreadable"))
        assert.deepStrictEqual([level, error], ["warn", "empty"])
        assert.isTrue(await isAccepted(program, oldSecret))
        // The key of nothing, and of a newline.
        for (const key of [" ", "\n"]) assert.strictEqual(await post(program, key), 400)
        assert.strictEqual(await readyz(program), "200 ready")
        secrets.update({ secret: newSecret })
        await eventually(() => isAccepted(program, newSecret), "the new secret")
        assert.strictEqual(await post(program, oldSecret), 400)
      })
    }))

  it.live("is withdrawn with its file: without any the answer is 503, until there is one again", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const secrets = yield* mount
      secrets.update({ secret: oldSecret })
      const program = yield* startProgram(["--backend", backend.url, "--webhook-secret-file", secrets.path("secret")], {
        GH_APP_WEBHOOK_SECRET: ""
      })
      yield* Effect.promise(async () => {
        assert.isTrue(await isAccepted(program, oldSecret))
        secrets.update({})
        await eventually(async () => await readyz(program) === "503 no secret", "the end of the secret")
        const refused = await send(program.port, { body: "{}", headers: await githubHeaders("{}", "push", oldSecret) })
        assert.deepInclude(refused, { status: 503, text: "no secret" })
        assert.match(refused.headers["retry-after"] ?? "", /^\d+$/)
        assert.strictEqual(await post(program, " "), 503)
        assert.strictEqual((await send(program.port, { method: "GET", path: "/healthz" })).status, 200)
        secrets.update({ secret: newSecret })
        await eventually(async () => await readyz(program) === "200 ready", "the new secret")
        assert.isTrue(await isAccepted(program, newSecret))
        assert.strictEqual(await post(program, oldSecret), 400)
        assert.strictEqual(backend.received.length, 2)
      })
    }))

  it.live("replaces the variable's, which counts again only when every file is gone", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const secrets = yield* mount
      secrets.update({ secret: newSecret })
      const program = yield* startProgram(["--backend", backend.url], {
        GH_APP_WEBHOOK_SECRET: oldSecret,
        GH_APP_WEBHOOK_SECRET_FILE: secrets.path("secret")
      })
      yield* Effect.promise(async () => {
        assert.isTrue(await isAccepted(program, newSecret))
        assert.strictEqual(await post(program, oldSecret), 400)
        secrets.update({})
        await eventually(() => isAccepted(program, oldSecret), "the variable's secret")
        assert.strictEqual(await post(program, newSecret), 400)
      })
    }))
})
