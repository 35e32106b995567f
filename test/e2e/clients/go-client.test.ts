/* oxlint-disable no-await-in-loop -- one thing after another is what these clients do */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startBackend } from "../../support/Backend.ts"
import type { Reply } from "../../support/GitHub.ts"
import { closedPort } from "../../support/edges.ts"
import { type GoClient, type Reader, startGoClient, trimmed } from "./GoClient.ts"
import { reach, token, ways } from "./Reaching.ts"

const said = ({ status, text }: Reply) => `${status} ${text}`

const promise = <A>(f: () => Promise<A>) => Effect.promise(f)

describe("what a Go client sends", () => {
  for (const reader of ["known", "unknown"] as const) {
    it.live(`is what net/http sends of a body of ${reader} length, with GET and DELETE too`, () =>
      Effect.gen(function*() {
        const listener = yield* startBackend()
        const client = yield* startGoClient(listener.url, token)
        yield* promise(async () => {
          for (const method of ["POST", "GET", "DELETE"]) await client.request(method, "https://10.1.1.1", reader)
          const length = reader === "known" ? ["Content-Length", "26"] : ["Transfer-Encoding", "chunked"]
          for (const { body, rawHeaders } of listener.received) {
            assert.strictEqual(body.toString(), `{"url":"https://10.1.1.1"}`)
            const [name, value] = length
            assert.strictEqual(
              rawHeaders.join("|"),
              `Host|${listener.host}|User-Agent|Go-http-client/1.1|${name}|${value}|Authorization|Bearer ${token}|` +
                "Content-Type|application/json; charset=utf-8|Accept-Encoding|gzip"
            )
          }
        })
      }))
  }
})

describe.each(ways)("a Go client, %s", (way) => {
  it.live.each<Reader>(["known", "unknown"])(
    "registers, lists and unregisters on one connection, its body's length %s",
    (reader) =>
      Effect.gen(function*() {
        const one = yield* startBackend()
        const two = yield* startBackend()
        const { endLoad, url } = yield* reach(way)
        const client = yield* startGoClient(url, token)
        yield* promise(async () => {
          const ask = async (method: string, backend?: string) =>
            said(await client.request(method, backend, backend === undefined ? undefined : reader))
          assert.strictEqual(await ask("GET"), "200 Backend urls: ")
          assert.strictEqual(await ask("POST", one.url), "200 registered the backend server")
          const again = await client.request("POST", one.url, reader)
          assert.strictEqual(said(again), "302 backend server already registered")
          // Go follows a 302 that names a location, and unpacks what says that it is packed.
          assert.notProperty(again.headers, "location")
          assert.notProperty(again.headers, "content-encoding")
          assert.strictEqual(await ask("POST", two.url), "200 registered the backend server")
          const both = `Backend urls: ${one.url}, ${two.url}`
          assert.strictEqual(await ask("GET"), `200 ${both}`)
          assert.strictEqual(await ask("GET", one.url), `200 ${both}`)
          assert.strictEqual(trimmed(await client.request("GET", one.url, reader)), ` ${one.url}, ${two.url}`)
          assert.strictEqual(await ask("DELETE", one.url), "200 backend server unregistered")
          assert.strictEqual(await ask("DELETE", one.url), "404 backend server not found in the list")
          assert.strictEqual(await ask("GET"), `200 Backend urls: ${two.url}`)
          assert.strictEqual(await ask("DELETE", two.url), "200 backend server unregistered")
          assert.strictEqual(await ask("GET"), "200 Backend urls: ")
          assert.strictEqual(client.opened(), 1)
          await endLoad()
        })
      })
  )

  it.live("is refused in words that it can read, and waits for none of them", () =>
    Effect.gen(function*() {
      const { endLoad, url } = yield* reach(way, "--dynamic-backend-limit", "1")
      const client = yield* startGoClient(url, token)
      const backend = yield* startBackend()
      const ask = (method: string, body: string) => client.request(method, body).then(said)
      yield* promise(async () => {
        assert.strictEqual(await ask("POST", ""), "422 a backend url starts with http:// or https://")
        assert.strictEqual(await ask("POST", backend.url), "200 registered the backend server")
        assert.strictEqual(await ask("POST", "http://10.1.1.1"), "409 no more than 1 dynamic backends are allowed")
        for (const method of ["POST", "DELETE"]) {
          const reply = await client.request(method, undefined)
          assert.strictEqual(said(reply), "400 please provide a valid json body")
        }
        assert.strictEqual(await ask("GET", backend.url), `200 Backend urls: ${backend.url}`)
        await endLoad()
      })
    }))

  it.live("forty of them at once, and each has its answers", () =>
    Effect.gen(function*() {
      const { endLoad, url } = yield* reach(way)
      const backend = yield* startBackend()
      const clients = yield* Effect.forEach(Array.from({ length: 40 }), () => startGoClient(url, token))
      yield* promise(async () => {
        const answers = await Promise.all(clients.map(async (client, number) => {
          const own = `${backend.url}/${number}`
          const registered = said(await client.request("POST", own))
          const again = said(await client.request("POST", own))
          const listed = await client.request("GET", own)
          const unregistered = said(await client.request("DELETE", own))
          const gone = said(await client.request("DELETE", own))
          assert.include(trimmed(listed).split(",").map((one) => one.trim()), own)
          return [registered, again, listed.status, unregistered, gone]
        }))
        for (const one of answers) {
          assert.deepStrictEqual(one, [
            "200 registered the backend server",
            "302 backend server already registered",
            200,
            "200 backend server unregistered",
            "404 backend server not found in the list"
          ])
        }
        assert.strictEqual(said(await clients[0]!.request("GET", undefined)), "200 Backend urls: ")
        await endLoad()
      })
    }))
})

/** Asks every backend in the list, and unregisters those that don't answer. Gives what it was told of each. */
const cleanUp = async (client: GoClient): Promise<ReadonlyArray<string>> => {
  const told: Array<string> = []
  for (const part of trimmed(await client.request("GET", undefined)).split(",")) {
    const backend = part.trim()
    const isThere = await fetch(backend).then(() => true, () => false)
    if (!isThere) told.push(`${backend} ${said(await client.request("DELETE", backend))}`)
  }
  return told
}

describe.each(ways)("a clean-up, %s", (way) => {
  it.live("unregisters the dead backends and leaves the others", () =>
    Effect.gen(function*() {
      const first = yield* startBackend()
      const last = yield* startBackend()
      const dead = yield* Effect.forEach([1, 2, 3], () => Effect.map(closedPort, (port) => `http://127.0.0.1:${port}`))
      const { endLoad, url } = yield* reach(way)
      const client = yield* startGoClient(url, token)
      yield* promise(async () => {
        // With and without a slash: the list has a URL as it was registered, and takes it back like that.
        const all = [dead[0]!, first.url, `${dead[1]}/`, `${last.url}/`, `${dead[2]}/base`]
        for (const one of all) await client.request("POST", one)
        assert.deepStrictEqual(await cleanUp(client), [
          `${dead[0]} 200 backend server unregistered`,
          `${dead[1]}/ 200 backend server unregistered`,
          `${dead[2]}/base 200 backend server unregistered`
        ])
        assert.strictEqual(trimmed(await client.request("GET", undefined)), ` ${first.url}, ${last.url}/`)
        assert.deepStrictEqual(await cleanUp(client), [])
        await endLoad("502 failed to proxy")
      })
    }))

  it.live("of an empty list unregisters nothing, and is told so", () =>
    Effect.gen(function*() {
      const { endLoad, url } = yield* reach(way)
      const client = yield* startGoClient(url, token)
      yield* promise(async () => {
        assert.deepStrictEqual(await cleanUp(client), [" 404 backend server not found in the list"])
        assert.strictEqual(said(await client.request("GET", undefined)), "200 Backend urls: ")
        await endLoad()
      })
    }))

  it.live("goes on after a dead static backend, which stays", () =>
    Effect.gen(function*() {
      const [fixed, dead] = yield* Effect.forEach([1, 2], () =>
        Effect.map(closedPort, (port) => `http://127.0.0.1:${port}`))
      const { endLoad, url } = yield* reach(way, "--backend", fixed!)
      const client = yield* startGoClient(url, token)
      yield* promise(async () => {
        await client.request("POST", dead)
        assert.deepStrictEqual(await cleanUp(client), [
          `${fixed} 403 a static backend can't be unregistered`,
          `${dead} 200 backend server unregistered`
        ])
        assert.strictEqual(trimmed(await client.request("GET", undefined)), ` ${fixed}`)
        await endLoad("502 failed to proxy")
      })
    }))
})
