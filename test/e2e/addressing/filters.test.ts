/** No byte of a foreign repository reaches a filtered backend, and nothing that it should get is missing. */
/* oxlint-disable no-await-in-loop -- all at once would be more than the memory for bodies takes */
import { assert, describe, it } from "@effect/vitest"
import { sign } from "@octokit/webhooks-methods"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { createRequire } from "node:module"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, secret, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { newStore } from "../durable/DurableProgram.ts"

interface Payload {
  readonly repository?: { readonly full_name: string }
  readonly organization?: { readonly login: string }
  readonly installation?: { readonly account?: { readonly login: string } }
}

const examples = createRequire(import.meta.url)("@octokit/webhooks-examples") as ReadonlyArray<{
  readonly name: string
  readonly examples: ReadonlyArray<Payload>
}>

interface Sent {
  readonly guid: string
  readonly event: string
  readonly body: string
  readonly payload: Payload
}

/** Who should get it: by what the example says, and not by the code that is tested. */
const ownerOf = ({ installation, organization, repository }: Payload) =>
  (repository?.full_name.split("/")[0] ?? organization?.login ?? installation?.account?.login)?.toLowerCase()
const rules = {
  all: () => true,
  hello: ({ payload }: Sent) => payload.repository?.full_name === "Codertocat/Hello-World",
  octocoders: ({ payload }: Sent) => ownerOf(payload) === "octocoders",
  pushes: ({ event, payload }: Sent) => event === "push" && ownerOf(payload) === "codertocat",
  pings: ({ event }: Sent) => event === "ping",
  registered: ({ payload }: Sent) => ownerOf(payload) === "codertocat",
  narrow: ({ payload }: Sent) => payload.repository?.full_name === "Codertocat/Hello-World"
}
type Name = keyof typeof rules
const names = Object.keys(rules) as ReadonlyArray<Name>

const start = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const backends = Object.fromEntries(
    yield* Effect.forEach(names, (name) => Effect.map(startBackend(), (backend) => [name, backend] as const))
  ) as Record<Name, TestBackend>
  const { all, hello, narrow, octocoders, pings, pushes, registered } = backends
  const program = yield* startProgram([
    ...[all, hello, octocoders, pushes, pings].flatMap(({ url }) => ["--backend", url]),
    "--backend-repositories",
    `${hello.url}=codertocat/hello-world`,
    "--backend-repositories",
    `${octocoders.url}=x/y,Octocoders/*`,
    "--backend-repositories",
    `${pushes.url}=Codertocat/*`,
    "--backend-events",
    `${pushes.url}=push`,
    "--backend-events",
    `${pings.url}=ping`,
    "--enable-dynamic-backends",
    "--dynamic-backend-repositories",
    "CODERTOCAT/*",
    ...args
  ])
  yield* Effect.promise(async () => {
    assert.strictEqual(await register(program, { url: registered.url }), 200)
    assert.strictEqual(await register(program, { url: narrow.url, repositories: ["Codertocat/hello-WORLD"] }), 200)
  })
  return { backends, program }
})

const register = async ({ port }: Program, body: unknown) =>
  (await send(port, { path: "/backends", body: JSON.stringify(body) })).status

const deliverAs = async ({ port }: Program, { body, event, guid }: Sent, isForm = false) => {
  const text = isForm ? new URLSearchParams({ payload: body }).toString() : body
  const type = isForm ? "application/x-www-form-urlencoded" : "application/json"
  const { status } = await deliver(port, text, { event, headers: { "x-github-delivery": guid, "content-type": type } })
  assert.oneOf(status, [200, 202])
  return text
}

const guidsAt = ({ received }: TestBackend) =>
  received.map(({ headers }) => String(headers["x-github-delivery"])).toSorted()

describe.each([["without a store", false], ["with a store", true]] as const)("filters %s", (_, isDurable) => {
  it.live("let through just what they say, of all of GitHub's payloads, in JSON and in forms", () =>
    Effect.gen(function*() {
      const { backends, program } = yield* start(...isDurable ? ["--store", yield* newStore] : [])
      yield* Effect.promise(async () => {
        const sent: Array<Sent> = []
        const texts = new Map<string, string>()
        for (const { examples: payloads, name } of examples) {
          await Promise.all(payloads.flatMap((payload) =>
            [false, true].map(async (isForm) => {
              const one = { guid: randomUUID(), event: name, body: JSON.stringify(payload), payload }
              sent.push(one)
              texts.set(one.guid, await deliverAs(program, one, isForm))
            })
          ))
        }
        assert.isAtLeast(sent.length, 2 * 329)
        for (const name of names) {
          const expected = sent.filter((one) => rules[name](one)).map(({ guid }) => guid).toSorted()
          assert.isAbove(expected.length, 0, name)
          await eventually(() => backends[name].received.length >= expected.length)
          assert.deepStrictEqual(guidsAt(backends[name]), expected, name)
          for (const { body, headers } of backends[name].received) {
            assert.strictEqual(body.toString(), texts.get(String(headers["x-github-delivery"])), name)
          }
        }
      })
    }))

  it.live("read a payload of some MiB, and keep one that can't be read from whoever has a filter of repositories", () =>
    Effect.gen(function*() {
      const { backends, program } = yield* start(...isDurable ? ["--store", yield* newStore] : [])
      yield* Effect.promise(async () => {
        const large = {
          commits: Array.from({ length: 20_000 }, (_value, n) => ({ id: n, message: "x".repeat(100) })),
          repository: { full_name: "Codertocat/Hello-World" }
        }
        const whole = { guid: "whole", event: "push", body: JSON.stringify(large), payload: large }
        const torn = { guid: "torn", event: "push", body: `${whole.body.slice(0, -1)},`, payload: {} }
        await deliverAs(program, whole)
        await deliverAs(program, torn)
        await deliverAs(program, { ...whole, guid: "form" }, true)
        await eventually(() => backends.all.received.length === 3)
        for (const name of ["hello", "pushes", "registered", "narrow"] as const) {
          await eventually(() => backends[name].received.length === 2)
          assert.deepStrictEqual(guidsAt(backends[name]), ["form", "whole"], name)
        }
        assert.deepStrictEqual(guidsAt(backends.octocoders), [])
        assert.deepStrictEqual(guidsAt(backends.pings), [])
      })
    }))
})

describe("a delivery that nobody wants", () => {
  it.live.each([["without a store", false], ["with a store", true]] as const)(
    "is answered as one that was taken, logged and counted as unmatched, %s",
    ([, isDurable]) =>
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const program = yield* startProgram([
          "--backend",
          backend.url,
          "--backend-repositories",
          `${backend.url}=org/*`,
          ...isDurable ? ["--store", yield* newStore] : []
        ])
        yield* Effect.promise(async () => {
          const body = `{"repository":{"full_name":"other/repo"}}`
          const { status, text } = await deliver(program.port, body)
          assert.deepStrictEqual([status, text], [200, "proxied"])
          const { port } = await program.logged(({ msg }) => msg === "metrics listening")
          const { text: metrics } = await send(Number(port), { method: "GET", path: "/metrics" })
          assert.include(metrics, `sprayproxy_deliveries_total{answer="unmatched",reason="none"} 1`)
          await program.logged(({ outcome }) => outcome === "unmatched")
          const forged = await send(program.port, {
            body,
            headers: { "x-github-event": "push", "x-hub-signature-256": await sign(`not ${secret}`, body) }
          })
          assert.strictEqual(forged.status, 400)
        })
        assert.deepStrictEqual(backend.received, [])
      })
  )
})

const repositoriesAt = async (program: Program) => (await list(program)).map(({ repositories }) => repositories)

/** To each replica one delivery of each of three repositories. */
const deliverAll = async (replicas: ReadonlyArray<Program>, name: string) => {
  for (const [at, program] of replicas.entries()) {
    for (const fullName of ["team/a", "team/b", "x/y"]) {
      const payload = { repository: { full_name: fullName } }
      const guid = `${name} ${fullName} ${at}`
      await deliverAs(program, { guid, event: "push", body: JSON.stringify(payload), payload })
    }
  }
}

describe.skipIf(postgresUnavailable() !== undefined)(
  "the filter of a backend that is registered at one replica",
  () => {
    it.live("holds at both, and so does a narrower one", () =>
      Effect.gen(function*() {
        const { createDatabase } = yield* sharedPostgres
        const store = yield* createDatabase
        const backend = yield* startBackend()
        const args = ["--enable-dynamic-backends", "--store", store]
        const replicas = yield* Effect.all([startProgram(args), startProgram(args)], { concurrency: 2 })
        const [one, other] = replicas
        yield* Effect.promise(async () => {
          assert.strictEqual(await register(one, { url: backend.url, repositories: ["team/*"] }), 200)
          await eventually(async () => (await repositoriesAt(other)).length === 1)
          await deliverAll(replicas, "wide")
          await eventually(() => backend.received.length === 4)
          assert.strictEqual(await register(other, { url: backend.url, repositories: ["Team/A"] }), 302)
          await eventually(async () => JSON.stringify(await repositoriesAt(one)) === `[["team/a"]]`)
          await deliverAll(replicas, "narrow")
          await eventually(() => backend.received.length === 6)
          assert.deepStrictEqual(guidsAt(backend), [
            "narrow team/a 0",
            "narrow team/a 1",
            "wide team/a 0",
            "wide team/a 1",
            "wide team/b 0",
            "wide team/b 1"
          ])
        })
      }), 60_000)
  }
)

const asking = async ({ port }: Program, terms: object) => {
  const body = JSON.stringify({ url: "http://10.1.2.3", ...terms })
  const { status, text } = await send(port, { path: "/backends", body })
  return `${status} ${text}`
}

const list = async ({ port }: Program) => {
  const headers = { accept: "application/json" }
  const { text } = await send(port, { method: "GET", path: "/backends", headers })
  return JSON.parse(text) as ReadonlyArray<{ readonly repositories: unknown; readonly events: unknown }>
}

describe("a registration", () => {
  it.live("that asks for more than the bound, or for nonsense, is refused with the reason", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([
        "--enable-dynamic-backends",
        "--dynamic-backend-repositories",
        "org/a,team/*"
      ])
      yield* Effect.promise(async () => {
        assert.strictEqual(
          await asking(program, { repositories: ["team/x", "ORG/*"] }),
          `422 "org/*" is more than a backend may get here: org/a, team/*`
        )
        assert.strictEqual(
          await asking(program, { repositories: "org/a" }),
          `422 repositories is "org/a"; it is a list of 1 to 1000 texts; a pattern is owner/repository, or owner/* for all of an owner's repositories`
        )
        assert.strictEqual(
          await asking(program, { repositories: ["*"] }),
          `422 an item of repositories is "*"; a pattern is owner/repository, or owner/* for all of an owner's repositories`
        )
        assert.strictEqual(
          await asking(program, { events: ["Push!"] }),
          `422 an item of events is "Push!"; an event is a word like push or pull_request`
        )
        assert.match(await asking(program, { events: [] }), /^422 events is \[\]; it is a list of 1 to 1000 texts/)
        assert.deepStrictEqual(await list(program), [])
        assert.match(await asking(program, { repositories: null, events: ["push"] }), /^200 /)
        const [bounded] = await list(program)
        assert.deepStrictEqual([bounded?.repositories, bounded?.events], [["org/a", "team/*"], ["push"]])
        assert.match(await asking(program, { repositories: ["team/x"] }), /^302 /)
        const [narrowed] = await list(program)
        assert.deepStrictEqual([narrowed?.repositories, narrowed?.events], [["team/x"], null])
        assert.deepInclude(await program.logged(({ msg }) => msg === "server registered"), {
          repositories: "org/a, team/*",
          events: "push"
        })
        const renewed = await program.logged(({ msg }) => msg === "server already registered")
        assert.strictEqual(renewed["repositories"], "team/x")
        assert.isUndefined(renewed["events"])
      })
    }))
})
