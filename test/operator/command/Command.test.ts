import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { execute } from "../../../src/operator/command/Command.ts"
import type { DeliveriesRequest, GivenFilter } from "../../../src/operator/command/Flags.ts"
import type { Environment } from "../../../src/settings/Variables.ts"
import type { RecoveryView } from "../../../src/store/contract/Recovery.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"
import { listen } from "../../support/Backend.ts"
import {
  keep,
  lastId,
  OperatorServer,
  port,
  received,
  registeredKeys,
  row,
  StoreContents
} from "../../support/OperatorServer.ts"
import { printing, type Terminal } from "../../support/Printed.ts"

const noFilter: GivenFilter = { state: undefined, backend: undefined, event: undefined, since: undefined }
const common = { server: undefined, tokenFile: undefined, json: false }
const list = { kind: "list", filter: noFilter, limit: undefined, all: false, ...common } as const
const show = { kind: "show", guid: "guid-1", body: false, ...common } as const
const redeliver = {
  kind: "redeliver",
  guid: undefined,
  filter: noFilter,
  limit: undefined,
  all: false,
  ...common
} as const

const printed = (request: DeliveriesRequest, env: Environment, terminal?: Terminal) =>
  printing(execute(request, env), terminal)

const environment = Effect.map(port, (to): Environment => ({ SPRAYPROXY_URL: `http://127.0.0.1:${to}/` }))

const prints = (request: DeliveriesRequest, terminal: Terminal = {}) =>
  Effect.flatMap(environment, (env) => printed(request, env, terminal))

const fails = Effect.fnUntraced(function*(request: DeliveriesRequest, env: Environment, reason: string) {
  const failure = yield* Effect.flip(printed(request, env))
  assert.strictEqual(failure.message, reason)
})

const long = `https://pipelines-as-code-controller-openshift-pipelines.apps.cluster-b.${"x".repeat(60)}.example.com`

const some = [
  keep(1, {
    event: "pull_request_review_comment",
    guid: "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    bodyLength: 7_123,
    rows: [
      row("https://a.example.com"),
      row(long, {
        state: "pending",
        tries: 12,
        dueAt: received + 300_000,
        lastOutcome: "unreachable",
        settledAt: undefined
      }),
      row("https://c.example.com", {
        state: "pending",
        tries: 0,
        underWay: true,
        lastOutcome: undefined,
        settledAt: undefined
      })
    ]
  }),
  keep(2, { guid: undefined, event: undefined, bodyLength: 2_500_000, rows: [] })
]

const guids = (text: string) => text.match(/guid-\d/g)

describe("list", () => {
  it.effect("prints a table that fits the terminal", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(...some)
      const { err, out } = yield* prints(list, { columns: 120 })
      assert.strictEqual(
        out,
        [
          "RECEIVED (UTC)       EVENT                             SIZE  GUID",
          "2026-01-02 03:04:05  pull_request_review_comment     7.1 kB  72d3162e-cc78-11e3-81ab-4c9367dc0958",
          "  delivered      1 try  delivered    01-02 03:04:06        https://a.example.com",
          "  pending     12 tries  unreachable  due 01-02 03:09:05    https://pipelines-as-code-controller-openshift-pipelines.app…",
          "  pending      0 tries  -            under way             https://c.example.com",
          "2026-01-02 03:04:05  -                               2.5 MB  0198a2b4-0000-7000-8000-000000000002",
          ""
        ].join("\n")
      )
      assert.isAtMost(Math.max(...out.split("\n").map((line) => line.length)), 120)
      assert.strictEqual(err, "")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("cuts nothing in a pipe, and colours only where they are wanted", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(...some)
      const { out } = yield* prints(list)
      assert.include(out, long)
      assert.notInclude(out, "\u001b")
      assert.include((yield* prints(list, { hasColours: true })).out, "\u001b[33m  pending")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("lets nothing from outside move the cursor", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1, { event: "\u001b[2J\r\nx", rows: [] }))
      assert.include((yield* prints(list)).out, "\\u001b[2J\\u000d\\u000ax")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("says that there are more, and goes through all pages with --all", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(...Array.from({ length: 5 }, (_, n) => keep(n)))
      const first = yield* prints({ ...list, limit: "2" })
      assert.deepStrictEqual(guids(first.out), ["guid-0", "guid-1"])
      assert.strictEqual(first.err, "there are more: --all shows them\n")
      const all = yield* prints({ ...list, limit: "2", all: true })
      assert.deepStrictEqual(guids(all.out), ["guid-0", "guid-1", "guid-2", "guid-3", "guid-4"])
      assert.lengthOf(all.out.match(/RECEIVED/g) ?? [], 1)
      assert.strictEqual(all.err, "")
      const json = yield* prints({ ...list, limit: "3", all: true, json: true })
      const pages = json.out.trim().split("\n").map((line) => JSON.parse(line))
      assert.deepStrictEqual(pages.map(({ deliveries }) => deliveries.length), [3, 2])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("asks the server for what is asked for", () =>
    Effect.gen(function*() {
      const filter = {
        state: "dead",
        backend: "https://a.example.com/x",
        event: "push",
        since: "2026-01-02T03:04:05+01:00"
      }
      assert.deepStrictEqual(yield* prints({ ...list, filter }), { out: "", err: "no deliveries\n" })
      assert.deepStrictEqual((yield* StoreContents).lists[0]?.[0], {
        state: "dead",
        backend: "https://a.example.com/x",
        event: "push",
        guid: undefined,
        since: Date.UTC(2026, 0, 2, 2, 4, 5)
      })
    }).pipe(Effect.provide(OperatorServer())))
})

describe("show", () => {
  const delivery = keep(1, {
    rows: [row("https://a.example.com", { state: "dead", tries: 2, lastOutcome: "failed" })],
    attempts: [
      {
        key: "https://a.example.com",
        at: received,
        outcome: "unreachable",
        status: undefined,
        latency: 1.5,
        error: "connect ECONNREFUSED",
        answer: undefined
      },
      {
        key: "https://a.example.com",
        at: received + 2_000,
        outcome: "failed",
        status: 500,
        latency: 2_000,
        error: undefined,
        answer: "no\n\u001b[2J"
      }
    ],
    body: Buffer.from(`{"ref":"refs/heads/main"}`)
  }, "the one before")

  it.effect("prints all that is known", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(delivery)
      assert.strictEqual(
        (yield* prints({ ...show, body: true })).out,
        `delivery    guid-1
id          0198a2b4-0000-7000-8000-000000000001
event       push
received    2026-01-02 03:04:05 UTC
request id  req
hook id     292430182
size        25 B
request     POST /proxy?***
signature   no longer valid: the secret has changed, and a backend would take the delivery and drop it
headers, as they go out
  Content-Type: application/json
  X-Hub-Signature-256: ***
dead, 2 tries, 01-02 03:04:06: https://a.example.com
  2026-01-02 03:04:05  unreachable    -    0.002 s  connect ECONNREFUSED
  2026-01-02 03:04:07  failed       500    2.000 s  "no\\n\\u001b[2J"
body
{
  "ref": "refs/heads/main"
}
`
      )
      assert.notInclude((yield* prints(show)).out, "refs/heads/main")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("prints JSON as the server says it", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(delivery)
      const { deliveries: [shown] } = JSON.parse((yield* prints({ ...show, json: true })).out)
      assert.deepInclude(shown, { guid: "guid-1", signature: "no longer valid" })
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each([
    [
      { state: "recovered", asks: 1, askedAt: received - 2_000, recoveredAt: received },
      "failed at GitHub 2026-01-02 01:00:00 UTC; asked for once 2026-01-02 03:04:03 UTC; recovered 2h4m6s late"
    ],
    [
      { state: "recovered", asks: 3, askedAt: received - 2_000, recoveredAt: received },
      "failed at GitHub 2026-01-02 01:00:00 UTC; asked for 3 times, the last time 2026-01-02 03:04:03 UTC; recovered 2h4m6s late"
    ],
    [{ state: "wanted", asks: 0 }, "failed at GitHub 2026-01-02 01:00:00 UTC; not asked for; wanted"],
    [
      { state: "given up", asks: 5, askedAt: received, reason: "it did not arrive\n" },
      "failed at GitHub 2026-01-02 01:00:00 UTC; asked for 5 times, the last time 2026-01-02 03:04:05 UTC; given up: it did not arrive\\u000a"
    ]
  ])("tells how it was recovered: %j", ([over, text]) =>
    Effect.gen(function*() {
      const recovery = {
        failedAt: Date.UTC(2026, 0, 2, 1),
        askedAt: undefined,
        recoveredAt: undefined,
        reason: undefined,
        ...over as Pick<RecoveryView, "state" | "asks">
      }
      ;(yield* StoreContents).kept.push(keep(1, { recovery }))
      const { out } = yield* prints(show)
      assert.include(out, `received    2026-01-02 03:04:05 UTC\nrecovery    ${text as string}\nrequest id`)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("prints what is left of one whose body is gone", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1, { hasBody: false }))
      assert.include(
        (yield* prints({ ...show, body: true })).out,
        "request     no longer kept\nsignature   unchecked\n"
      )
    }).pipe(Effect.provide(OperatorServer())))
})

const none = (state: string) => `nothing to redeliver: no row that can be sent again is ${state} and matches\n`

describe("redeliver", () => {
  it.effect("sends one delivery again, to all or to one backend", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(keep(1))
      contents.matching = 2
      const one = { ...redeliver, guid: "guid-1" }
      assert.strictEqual((yield* prints(one)).out, "redelivering 2 rows\n")
      yield* prints({ ...one, filter: { ...noFilter, backend: "https://a.example.com" } })
      assert.deepStrictEqual(contents.redeliveries.map(([filter]) => filter), [
        { guid: "guid-1", among: registeredKeys },
        { guid: "guid-1", among: ["https://a.example.com"] }
      ])
    }).pipe(Effect.provide(OperatorServer())))

  const dead = { ...redeliver, filter: { ...noFilter, state: "dead", backend: "https://a.example.com" } }

  it.effect("sends one batch again without --all", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.matching = 1_200
      assert.deepStrictEqual(yield* prints({ ...dead, limit: "10" }), {
        out: "redelivering 10 rows, 1190 remaining\n",
        err: ""
      })
      assert.deepStrictEqual(contents.redeliveries, [[
        { state: "dead", event: undefined, since: undefined, age: undefined, among: ["https://a.example.com"] },
        10
      ]])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("sends batch after batch again with --all, and says how far it is", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.matching = 1_200
      assert.deepStrictEqual(yield* prints({ ...dead, all: true }), {
        out: "redelivering 1200 rows\n",
        err: "redelivering: 500 of 1200\nredelivering: 1000 of 1200\nredelivering: 1200 of 1200\n"
      })
      const goesOn = { id: lastId, key: "https://z.example.com" }
      assert.deepStrictEqual(contents.redeliveries.map(([, , after]) => after), [undefined, goesOn, goesOn])
      contents.matching = 1_000
      const { err } = yield* prints({ ...dead, all: true }, { canOverwrite: true })
      assert.strictEqual(
        err,
        `\rredelivering ${"█".repeat(15)}${"░".repeat(15)} 500 of 1000 (50 %)\u001b[K` +
          `\rredelivering ${"█".repeat(30)} 1000 of 1000 (100 %)\u001b[K\n`
      )
      assert.strictEqual((yield* prints({ ...dead, all: true, json: true })).out, `{"redelivered":0,"remaining":0}\n`)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("goes on to the end where the server does not know how many there are", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      Object.assign(contents, { matching: 1_200, isCounted: false })
      assert.deepStrictEqual(yield* prints(dead), { out: "redelivering 500 rows, more remaining\n", err: "" })
      assert.deepStrictEqual(yield* prints({ ...dead, all: true }), {
        out: "redelivering 700 rows\n",
        err: "redelivering: 500\nredelivering: 700\n"
      })
    }).pipe(Effect.provide(OperatorServer())))

  it.live("ends when the server has no end", () =>
    Effect.scoped(Effect.gen(function*() {
      let asked = 0
      const to = yield* listen(http.createServer((request, response) => {
        asked += 1
        request.resume()
        response.end(`{"redelivered":5,"remaining":10,"next":"${asked}"}`)
      }))
      const env = { SPRAYPROXY_URL: `http://127.0.0.1:${to}` }
      assert.strictEqual((yield* printed({ ...dead, all: true }, env)).out, "redelivering 15 rows\n")
      assert.strictEqual(asked, 3)
    })))

  it.effect("counts rows, of which one is no rows", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).matching = 4
      assert.strictEqual((yield* prints({ ...dead, limit: "1" })).out, "redelivering 1 row, 3 remaining\n")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("says which state it looked for where nothing matches", () =>
    Effect.gen(function*() {
      const push = { ...redeliver, filter: { ...noFilter, event: "push" } }
      assert.strictEqual((yield* prints(push)).out, none("dead"))
      assert.strictEqual((yield* prints({ ...push, all: true })).out, none("dead"))
      assert.strictEqual((yield* prints({ ...push, filter: { ...noFilter, state: "rejected" } })).out, none("rejected"))
      ;(yield* StoreContents).kept.push(keep(1))
      assert.strictEqual((yield* prints({ ...redeliver, guid: "guid-1" })).out, "nothing to redeliver\n")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("does not guess what is meant", () =>
    Effect.gen(function*() {
      const many = "name a delivery by its GUID, or several with --state, --backend, --event or --since"
      yield* fails({ ...redeliver, all: true }, {}, many)
      const one = { ...redeliver, guid: "guid-1" }
      const alone = "beside a delivery's GUID only --backend can be given"
      yield* fails({ ...one, all: true }, {}, alone)
      yield* fails({ ...one, limit: "1" }, {}, alone)
      yield* fails({ ...one, filter: { ...noFilter, since: "1h" } }, {}, alone)
    }))
})

describe("a failure", () => {
  it.effect("is what the server says", () =>
    Effect.gen(function*() {
      const env = yield* environment
      const contents = yield* StoreContents
      yield* fails(show, env, "no delivery with this GUID or id is kept")
      yield* fails(
        { ...list, limit: "0" },
        env,
        `invalid --limit "0": a limit is a whole number from 1 to 500`
      )
      contents.failure = new StoreUnavailable({ reason: "gone" })
      yield* fails(list, env, `${env["SPRAYPROXY_URL"]!.slice(0, -1)} answered 503: store unavailable`)
      const elsewhere = env["SPRAYPROXY_URL"] + "nowhere"
      yield* fails({ ...list, server: elsewhere }, env, `${elsewhere} keeps no deliveries: it runs without a store`)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each([
    ["limit", { limit: "x", filter: { ...noFilter, state: "dead" } }],
    ["since", { filter: { ...noFilter, since: "yesterday" } }],
    ["backend", { filter: { ...noFilter, backend: "a.example.com" } }],
    ["event", { filter: { ...noFilter, event: "" } }],
    ["state", { filter: { ...noFilter, state: "pending" } }]
  ])("names the flag as it is written: --%s", ([name, given]) =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(printed({ ...redeliver, ...given as object }, yield* environment))
      assert.match(failure.message, new RegExp(`^invalid --${name as string} "`))
    }).pipe(Effect.provide(OperatorServer())))

  it.live("names the server that is not there", () =>
    Effect.gen(function*() {
      const closed = yield* Effect.scoped(listen(http.createServer()))
      const server = `http://127.0.0.1:${closed}`
      yield* fails({ ...list, server }, {}, `can't reach ${server}: connect ECONNREFUSED 127.0.0.1:${closed}`)
    }))

  it.live("tells another server from ours", () =>
    Effect.scoped(Effect.gen(function*() {
      const to = yield* listen(http.createServer((_, response) => void response.end("<html>")))
      const server = `http://127.0.0.1:${to}`
      yield* fails({ ...list, server }, {}, `${server} does not answer as this version of sprayproxy does`)
    })))

  it.effect.each([
    [{ server: "127.0.0.1:8080" }, {}, `invalid --server "127.0.0.1:8080"`],
    [{ server: "http://me:hunter2@x" }, {}, `invalid --server "http://***@x"`],
    [{ server: "http://x?token=hunter2" }, {}, `invalid --server "http://x?***"`],
    [{}, { SPRAYPROXY_URL: "ftp://x" }, `invalid SPRAYPROXY_URL "ftp://x"`]
  ])("refuses a server that is none: %j %j", ([given, env, named]) =>
    fails(
      { ...list, ...given as object },
      env as Environment,
      `${named as string}: a server is an http or https url without credentials`
    ))
})

describe("a token", () => {
  const guarded = Effect.gen(function*() {
    const seen: Array<string | undefined> = []
    const to = yield* listen(http.createServer(({ headers }, response) => {
      seen.push(headers.authorization)
      if (headers.authorization === "Bearer t0ken.x") response.end(`{"deliveries":[],"next":null}`)
      else response.writeHead(headers.authorization === undefined ? 401 : 403).end("Unauthorized")
    }))
    return { seen, server: `http://127.0.0.1:${to}` }
  })

  it.live("comes from a file before the variable", () =>
    Effect.scoped(Effect.gen(function*() {
      const { seen, server } = yield* guarded
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-token-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const tokenFile = join(folder, "token")
      writeFileSync(tokenFile, "t0ken.x\n")
      yield* printed({ ...list, server, tokenFile }, { SPRAYPROXY_TOKEN: "other" })
      yield* printed({ ...list, server }, { SPRAYPROXY_TOKEN: "t0ken.x" })
      assert.deepStrictEqual(seen, ["Bearer t0ken.x", "Bearer t0ken.x"])
      yield* fails({ ...list, server }, { SPRAYPROXY_TOKEN: "other" }, `${server} refuses the token (403)`)
      yield* fails({ ...list, server }, {}, `${server} wants a token (401): give --token-file or SPRAYPROXY_TOKEN`)
      writeFileSync(tokenFile, "hunter2\nhunter3")
      yield* fails({ ...list, server, tokenFile }, {}, `--token-file ${JSON.stringify(tokenFile)} holds no token`)
      writeFileSync(tokenFile, "")
      yield* fails({ ...list, server, tokenFile }, {}, `--token-file ${JSON.stringify(tokenFile)} holds no token`)
      const missing = join(folder, "none")
      yield* fails(
        { ...list, server, tokenFile: missing },
        {},
        `can't read --token-file ${JSON.stringify(missing)}: ENOENT: no such file or directory, open '${missing}'`
      )
    })))

  it.effect("that is none is not repeated", () =>
    fails(list, { SPRAYPROXY_TOKEN: "hunter2 hunter3" }, "SPRAYPROXY_TOKEN holds no token"))
})
