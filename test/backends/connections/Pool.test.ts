/* oxlint-disable no-await-in-loop -- which connection the next request takes is what these tests are about */
import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as http from "node:http"
import type { Socket } from "node:net"
import * as Undici from "undici"
import { JoinedHeaders } from "../../../src/backends/connections/JoinedHeaders.ts"
import { BackendPool } from "../../../src/backends/connections/Pool.ts"
import type { OutgoingRequest } from "../../../src/backends/connections/Sender.ts"
import { listen } from "../../support/Backend.ts"
import { closedPort } from "../../support/edges.ts"
import { eventually } from "../../support/eventually.ts"

/** A request as it came to the server, which answers when the test says so. */
interface Asked {
  readonly connection: Socket
  readonly response: http.ServerResponse
}

interface Answer {
  readonly status: number
  /** The server's end of the connection that it came on. */
  readonly connection: number
}

interface TestPool {
  readonly open: ReadonlySet<Undici.Client>
  /** Every client ever made. */
  readonly clients: ReadonlyArray<Undici.Client>
  readonly send: (path?: string, headers?: ReadonlyArray<string>) => Promise<Answer>
  /** Runs `f`, and waits until `count` connections have been freed since. */
  readonly freeing: <A>(count: number, f: () => A | Promise<A>) => Promise<A>
}

const poolTo = (port: number): Effect.Effect<TestPool, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const open = new Set<Undici.Client>()
      const clients: Array<Undici.Client> = []
      let freed = 0
      const origin = `http://127.0.0.1:${port}`
      const headers = new JoinedHeaders()
      const end = headers.subscribe()
      const pool = new BackendPool(
        () => {
          const client = new Undici.Client(origin, {
            keepAliveTimeout: 600_000,
            headersTimeout: 0,
            bodyTimeout: 0
          })
          client.on("drain", () => freed += 1)
          clients.push(client)
          return client
        },
        open,
        headers
      )
      const send = (path = "/", added: ReadonlyArray<string> = []) =>
        new Promise<Answer>((resolve, reject) => {
          let status = 0
          let body = ""
          const request: OutgoingRequest = {
            origin,
            path,
            method: "POST",
            headers: [...added, "Content-Length", "7"],
            body: Buffer.from("payload")
          }
          pool.dispatch(request, {
            onRequestStart: () => {},
            onResponseStart: (_controller, code) => void (status = code),
            onResponseData: (_controller, chunk) => void (body += chunk.toString()),
            onResponseEnd: () => resolve({ status, connection: Number(body) }),
            onResponseError: (_controller, error) => reject(error)
          })
        })
      const freeing = async <A>(count: number, f: () => A | Promise<A>) => {
        const before = freed
        const result = await f()
        await eventually(() => freed >= before + count, "that a connection is free")
        return result
      }
      return { open, clients, send, freeing, end }
    }),
    ({ clients, end }) => {
      end()
      return Effect.promise(() => Promise.all(clients.map((client) => client.destroy())))
    }
  )

/** Answers with the connection's number, at once unless the path is `/held`. Resets the connection at `/reset`. */
const startServer = Effect.gen(function*() {
  const numbers = new Map<Socket, number>()
  const held: Array<Asked> = []
  const server = http.createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    request.resume()
    if (request.url === "/reset") return request.socket.resetAndDestroy()
    if (request.url === "/held") return held.push({ connection: request.socket, response })
    return response.end(String(numbers.get(request.socket)))
  })
  server.on("connection", (socket: Socket) => numbers.set(socket, numbers.size))
  const port = yield* listen(server)
  const numberOf = ({ connection }: Asked) => numbers.get(connection)!
  return {
    port,
    numberOf,
    /** By their numbers. */
    sockets: () => Array.from(numbers.keys()),
    held: async (count: number) => {
      await eventually(() => held.length >= count, `that ${count} requests have come`)
      return held.splice(0).toSorted((one, other) => numberOf(one) - numberOf(other))
    },
    answer: (asked: Asked) => void asked.response.end(String(numberOf(asked)))
  }
})

const start = Effect.gen(function*() {
  const server = yield* startServer
  return { server, ...yield* poolTo(server.port) }
})

type Started = Effect.Success<typeof start>

/** Runs `test` with a pool and its server. */
const withPool = (test: (started: Started) => Promise<void>) => () =>
  Effect.scoped(Effect.flatMap(start, (started) => Effect.promise(() => test(started))))

const failureOf = (answer: Promise<Answer>): Promise<unknown> =>
  answer.then(({ status }) => assert.fail(`answered ${status}`), (error: unknown) => error)

/** As many requests at once, each on a connection of its own, until the server answers them. */
const sendHeld = async ({ send, server }: Started, count: number) => {
  const answers = Array.from({ length: count }, () => send("/held"))
  return { answers, held: await server.held(count) }
}

/** Sends a request that is not answered, and names the connection that it came on. */
const connectionTaken = async ({ send, server }: Started) => {
  send("/held").catch(() => {})
  const [asked] = await server.held(1)
  return server.numberOf(asked!)
}

/** Opens as many connections, and frees them in this order. */
const openFree = async (started: Started, order: ReadonlyArray<number>) => {
  const { answers, held } = await sendHeld(started, order.length)
  for (const number of order) {
    await started.freeing(1, () => started.server.answer(held[number]!))
  }
  return Promise.all(answers)
}

describe("connections", () => {
  it.live(
    "are one for requests that come one after the other",
    withPool(async ({ clients, freeing, open, send }) => {
      for (let count = 0; count < 5; count++) {
        assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 0 })
      }
      assert.lengthOf(clients, 1)
      assert.deepStrictEqual(Array.from(open), clients)
    })
  )

  it.live(
    "are as many as there are requests at once, and one again afterwards",
    withPool(async (started) => {
      const { clients, freeing, open, send, server } = started
      const { answers, held } = await sendHeld(started, 8)
      assert.deepStrictEqual(held.map(server.numberOf), [0, 1, 2, 3, 4, 5, 6, 7])
      assert.strictEqual(open.size, 8)
      await freeing(8, () => held.forEach(server.answer))
      assert.sameMembers((await Promise.all(answers)).map(({ connection }) => connection), held.map(server.numberOf))
      const first = await freeing(1, () => send())
      for (let count = 0; count < 5; count++) {
        assert.deepStrictEqual(await freeing(1, () => send()), first)
      }
      assert.lengthOf(clients, 8)
    })
  )

  it.live(
    "are used in turn, the one that was freed last before the others",
    withPool(async (started) => {
      await openFree(started, [2, 0, 3, 1])
      const used: Array<number> = []
      for (let count = 0; count < 4; count++) {
        used.push(await connectionTaken(started))
      }
      assert.deepStrictEqual(used, [1, 3, 0, 2])
      assert.lengthOf(started.clients, 4)
    })
  )

  describe("after five minutes", () => {
    afterEach(() => void vi.useRealTimers())

    it.live(
      "take no new request, and end when there is one",
      withPool(async ({ clients, freeing, open, send }) => {
        vi.useFakeTimers({ toFake: ["Date"] })
        await freeing(1, () => send())
        vi.setSystemTime(Date.now() + 299_999)
        assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 0 })
        vi.setSystemTime(Date.now() + 1)
        assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 1 })
        assert.isTrue(clients[0]!.destroyed)
        assert.deepStrictEqual(Array.from(open), [clients[1]!])
        // Its own age counts, not that of the one before.
        vi.setSystemTime(Date.now() + 299_999)
        assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 1 })
      })
    )

    it.live(
      "are passed over for one that is younger",
      withPool(async (started) => {
        const { clients, freeing, open, send, server } = started
        vi.useFakeTimers({ toFake: ["Date"] })
        const old = await sendHeld(started, 1)
        vi.setSystemTime(Date.now() + 200_000)
        const young = await sendHeld(started, 1)
        await freeing(1, () => young.held.forEach(server.answer))
        await freeing(1, () => old.held.forEach(server.answer))
        vi.setSystemTime(Date.now() + 100_000)
        assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 1 })
        assert.lengthOf(clients, 2)
        assert.deepStrictEqual(Array.from(open), [clients[1]!])
      })
    )
  })
})

describe("a connection that the server closes while it is idle", () => {
  it.live(
    "is forgotten, and the next request has another",
    withPool(async ({ clients, freeing, open, send, server }) => {
      await freeing(1, () => send())
      server.sockets()[0]!.end()
      await eventually(() => open.size === 0, "that the connection is forgotten")
      assert.isTrue(clients[0]!.destroyed)
      assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 1 })
      assert.deepStrictEqual(Array.from(open), [clients[1]!])
    })
  )

  it.live.each([0, 1, 2])("leaves the others to be used: %i", (closed) =>
    withPool(async (started) => {
      const { clients, open, server } = started
      await openFree(started, [0, 1, 2])
      server.sockets()[closed]!.end()
      await eventually(() => open.size === 2, "that the connection is forgotten")
      const others = [0, 1, 2].filter((number) => number !== closed)
      for (const expected of others.toReversed()) {
        assert.strictEqual(await connectionTaken(started), expected)
      }
      assert.lengthOf(clients, 3)
    })())
})

describe("a request that fails", () => {
  it.live(
    "because undici refuses it leaves nothing open",
    withPool(async ({ open, send, server }) => {
      const failure = failureOf(send("/", ["X-Bad", "a\nb"]))
      assert.strictEqual(open.size, 0)
      assert.include(await failure, { code: "UND_ERR_INVALID_ARG" })
      assert.deepInclude(await send(), { status: 200 })
      assert.lengthOf(server.sockets(), 1)
    })
  )

  it.live(
    "because undici refuses it leaves the connection that it would have had to the next",
    withPool(async ({ clients, freeing, open, send }) => {
      await freeing(1, () => send())
      assert.include(await failureOf(send("/", ["X-Bad", "a\nb"])), { code: "UND_ERR_INVALID_ARG" })
      assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 0 })
      assert.deepStrictEqual(Array.from(open), clients)
    })
  )

  it.live("because nobody listens leaves nothing open", () =>
    Effect.gen(function*() {
      const { clients, open, send } = yield* poolTo(yield* closedPort)
      yield* Effect.promise(async () => {
        const failures = await Promise.all([failureOf(send()), failureOf(send())])
        for (const failure of failures) assert.include(failure, { code: "ECONNREFUSED" })
        await eventually(() => open.size === 0, "that the connections are forgotten")
        assert.include(await failureOf(send()), { code: "ECONNREFUSED" })
        await eventually(() => open.size === 0, "that the connection is forgotten")
      })
      assert.lengthOf(clients, 3)
      for (const client of clients) assert.isTrue(client.destroyed)
    }))

  it.live(
    "because the server resets its connection is the only one, and takes the connection with it",
    withPool(async (started) => {
      const { clients, freeing, open, send, server } = started
      const { answers, held } = await sendHeld(started, 2)
      assert.instanceOf(await failureOf(send("/reset")), Error)
      await eventually(() => open.size === 2, "that the connection is forgotten")
      assert.isTrue(clients[2]!.destroyed)
      await freeing(2, () => held.forEach(server.answer))
      assert.deepStrictEqual((await Promise.all(answers)).map(({ status }) => status), [200, 200])
      assert.oneOf((await freeing(1, () => send())).connection, [0, 1])
      assert.lengthOf(clients, 3)
    })
  )

  it.live(
    "on a connection that had been used before leaves nothing open",
    withPool(async ({ clients, freeing, open, send, server }) => {
      await freeing(1, () => send())
      assert.instanceOf(await failureOf(send("/reset")), Error)
      await eventually(() => open.size === 0, "that the connection is forgotten")
      assert.lengthOf(clients, 1)
      assert.deepStrictEqual(await freeing(1, () => send()), { status: 200, connection: 1 })
      assert.lengthOf(server.sockets(), 2)
    })
  )
})
