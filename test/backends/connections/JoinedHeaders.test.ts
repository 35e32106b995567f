import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as net from "node:net"
import * as Undici from "undici"
import { JoinedHeaders } from "../../../src/backends/connections/JoinedHeaders.ts"
import type { OutgoingRequest } from "../../../src/backends/connections/Sender.ts"
import { listen } from "../../support/Backend.ts"

/** Keeps the bytes that it gets, and answers each request, whose body ends in `end`. */
const startServer = Effect.gen(function*() {
  const requests: Array<string> = []
  let read = ""
  const server = net.createServer((socket) => {
    socket.on("error", () => {}).on("data", (chunk) => {
      read += chunk.toString("latin1")
      if (!read.endsWith("end")) return
      requests.push(read)
      read = ""
      socket.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    })
  })
  const port = yield* listen(server)
  return { origin: `http://127.0.0.1:${port}`, requests }
})

type Dispatch = (request: OutgoingRequest, handler: Undici.Dispatcher.DispatchHandler) => unknown

const answered = (dispatch: Dispatch, request: OutgoingRequest) =>
  Effect.callback<number, Error>((resume) => {
    let status = 0
    dispatch(request, {
      onRequestStart: () => {},
      onResponseStart: (_controller, code) => void (status = code),
      onResponseData: () => {},
      onResponseEnd: () => resume(Effect.succeed(status)),
      onResponseError: (_controller, error) => resume(Effect.fail(error))
    })
  })

const start = Effect.gen(function*() {
  const { origin, requests } = yield* startServer
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new Undici.Client(origin)),
    (open) => Effect.promise(() => open.destroy())
  )
  const joined = yield* subscribed
  return {
    requests,
    byUndici: (headers: Array<string>, body = whole) =>
      answered((request, handler) => client.dispatch(request, handler), requestOf(origin, headers, body)),
    joined: (headers: Array<string>, body = whole) =>
      answered((request, handler) => joined.dispatch(client, request, handler), requestOf(origin, headers, body))
  }
})

const subscribed = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const headers = new JoinedHeaders()
      return { headers, end: headers.subscribe() }
    }),
    ({ end }) => Effect.sync(end)
  ),
  ({ headers }) => headers
)

const failing: Undici.Dispatcher.DispatchHandler = {
  onResponseError: () => {
    throw new Error("a defect")
  }
}

const whole: Buffer = Buffer.from("the body's end")

const requestOf = (origin: string, headers: Array<string>, body: Buffer): OutgoingRequest => ({
  origin,
  path: "/hook?x=1",
  method: "POST",
  headers,
  body
})

const delivery = [
  "User-Agent",
  "GitHub-Hookshot/044aadd",
  "Accept",
  "*/*",
  "x-GitHub-EVENT",
  "push",
  "Content-Type",
  "application/json",
  "Content-Length",
  String(whole.length),
  "Via",
  "1.1 sprayproxy-a"
]

describe("headers that are joined", () => {
  it.live.each<{ readonly what: string; readonly headers: Array<string> }>([
    { what: "those of a delivery", headers: delivery },
    { what: "none", headers: [] },
    { what: "one", headers: ["Accept", "*/*"] },
    { what: "a length alone", headers: ["Content-Length", String(whole.length)] },
    { what: "the same name again", headers: ["X-A", "1", "x-a", "2", "X-B", "3", "X-A", "1"] },
    { what: "empty values, spaces and tabs", headers: ["X-Empty", "", "X-Spaces", "  a\tb  ", "X-Last", ""] },
    {
      what: "bytes beyond ASCII",
      headers: ["X-Latin1", "caf\u00e9 \u00ff", "X-Utf8", Buffer.from("caf\u00e9").toString("latin1")]
    },
    {
      what: "what undici minds itself",
      headers: ["X-A", "1", "Host", "elsewhere.test", "Connection", "keep-alive", "X-B", "2"]
    },
    { what: "the end of the connection", headers: ["Connection", "close", "X-A", "1"] }
  ])("are the bytes that undici writes: $what", ({ headers }) =>
    Effect.scoped(Effect.gen(function*() {
      const { byUndici, joined, requests } = yield* start
      assert.strictEqual(yield* byUndici(headers), 202)
      assert.strictEqual(yield* joined(headers), 202)
      assert.strictEqual(yield* joined(headers), 202)
      assert.deepStrictEqual(requests, [requests[0]!, requests[0]!, requests[0]!])
    })))

  it.live("are those of a body in slices too, with its length", () =>
    Effect.scoped(Effect.gen(function*() {
      const { byUndici, joined, requests } = yield* start
      const slices = [whole.subarray(0, 4), whole.subarray(4)] as unknown as Buffer
      yield* byUndici(delivery, slices)
      yield* joined(delivery, slices)
      assert.include(requests[0], `content-length: ${whole.length}\r\n`)
      assert.strictEqual(requests[1], requests[0])
    })))

  it.live("are each request's own", () =>
    Effect.scoped(Effect.gen(function*() {
      const { byUndici, joined, requests } = yield* start
      yield* joined(["X-A", "1"])
      yield* joined(["X-B", "2"])
      yield* byUndici(["X-C", "3"])
      yield* joined([])
      const named = requests.map((request) => /^x-.*/im.exec(request)?.[0])
      assert.deepStrictEqual(named, ["X-A: 1", "X-B: 2", "X-C: 3", undefined])
    })))

  it.live.each<{ readonly what: string; readonly headers: Array<string> }>([
    { what: "an end of line in a value", headers: ["X-A", "1", "X-B", "2\r\nX-C: 3"] },
    { what: "a lone line feed in a value", headers: ["X-A", "1\nX-B: 2"] },
    { what: "a NUL", headers: ["X-A", "1\u0000"] },
    { what: "a character beyond latin1", headers: ["X-A", "\u0100"] },
    { what: "a colon in a name", headers: ["X-A: 1\r\nX-B", "2"] },
    { what: "an empty name", headers: ["", "1"] },
    { what: "a name without a value", headers: ["X-A", "1", "X-B"] },
    { what: "Transfer-Encoding", headers: ["Transfer-Encoding", "chunked"] },
    { what: "Expect", headers: ["Expect", "100-continue"] },
    { what: "a second Content-Length", headers: ["Content-Length", "14", "content-length", "14"] },
    { what: "another length than the body's", headers: ["Content-Length", "13"] }
  ])(
    "are refused by undici as before, and leave nothing to the next request: $what",
    ({ headers }) =>
      Effect.scoped(Effect.gen(function*() {
        const { byUndici, joined, requests } = yield* start
        const expected = yield* Effect.flip(byUndici(headers))
        const error = yield* Effect.flip(joined(headers))
        assert.deepStrictEqual([error.name, error.message], [expected.name, expected.message])
        yield* byUndici(["X-D", "4"])
        assert.lengthOf(requests, 1)
        assert.notMatch(requests[0]!, /x-[abc]/i)
      }))
  )

  it.live("go to nobody else's request when whoever is told of a refusal fails", () =>
    Effect.scoped(Effect.gen(function*() {
      const headers = yield* subscribed
      const { byUndici, requests } = yield* start
      const unused = new Undici.Client("http://127.0.0.1:1")
      const refused = { ...requestOf("http://127.0.0.1:1", ["X-A", "1"], whole), path: "/a b" }
      assert.throws(() => headers.dispatch(unused, refused, failing), "a defect")
      yield* byUndici(["X-B", "2"])
      assert.notInclude(requests[0], "X-A")
    })))

  it.live("are no more joined when that has ended", () =>
    Effect.scoped(Effect.gen(function*() {
      const first = yield* Effect.scoped(subscribed)
      const { requests, byUndici } = yield* start
      const unused = new Undici.Client("http://127.0.0.1:1")
      yield* Effect.promise(() => unused.destroy())
      // Its request is refused before it is created.
      const refused = answered(
        (request, handler) => first.dispatch(unused, request, handler),
        requestOf("http://127.0.0.1:1", ["X-A", "1"], whole)
      )
      assert.instanceOf(yield* Effect.flip(refused), Undici.errors.ClientDestroyedError)
      yield* byUndici(["X-B", "2"])
      assert.notInclude(requests[0], "X-A")
    })))
})
