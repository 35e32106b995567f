import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { forwardedHeaders, isLoop } from "../../src/domain/ForwardedHeaders.ts"

const token = Arbitrary.schema(Schema.String.check(Schema.isPattern(/^[A-Za-z][A-Za-z0-9-]{0,12}$/)))
const value = Arbitrary.schema(Schema.String.check(Schema.isPattern(/^[!-~À-ÿ]{0,12}$/)))
const anyHeaders = Arbitrary.array(Arbitrary.all([token, value]), { maxLength: 12 })

const lower = (name: string) => name.toLowerCase()
const pairsOf = (flat: ReadonlyArray<string>) =>
  flat.flatMap((name, i) => i % 2 === 0 ? [[name, flat[i + 1]!] as const] : [])

const neverForwarded = [
  "host",
  "connection",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  "content-length"
]

const randomCase = (name: string) => [...name].map((c, i) => i % 2 === 0 ? c.toUpperCase() : c).join("")

const chain = (length: number) => Array.from({ length }, (_, i) => `1.1 sprayproxy-${i}`).join(", ")

describe("ForwardedHeaders", () => {
  it.prop(
    "end-to-end headers keep their order, case, repetitions and bytes",
    { headers: anyHeaders },
    ({ headers }) => {
      const kept = headers.filter(([name]) =>
        !neverForwarded.includes(lower(name)) && !lower(name).startsWith("proxy-")
      )
      const forwarded = pairsOf(forwardedHeaders(headers.flat(), 7, "1.1 sprayproxy-a"))
      assert.deepStrictEqual(forwarded, [...kept, ["Content-Length", "7"], ["Via", "1.1 sprayproxy-a"]])
    }
  )

  it.prop(
    "whatever Connection names is dropped, in any case and any list form",
    { headers: anyHeaders, named: Arbitrary.array(token, { minLength: 1, maxLength: 4 }) },
    ({ headers, named }) => {
      const half = Math.ceil(named.length / 2)
      const flat = [
        ...headers.flat(),
        "conNection",
        `${named.slice(0, half).map(randomCase).join(" ,")},, keep-alive`,
        ...named.flatMap((name) => [randomCase(name), "x"]),
        "CONNECTION",
        named.slice(half).join(",")
      ]
      const names = pairsOf(forwardedHeaders(flat, 0, "v")).slice(0, -2).map(([name]) => lower(name))
      for (const name of named) assert.notInclude(names, lower(name))
    }
  )

  it("hop-by-hop headers end here in any case", () => {
    for (const name of neverForwarded) {
      for (const spelled of [name, name.toUpperCase(), randomCase(name)]) {
        assert.deepStrictEqual(forwardedHeaders([spelled, "1"], 0, "v"), ["Content-Length", "0", "Via", "v"])
      }
    }
  })

  it("the signature is forwarded although Connection: close stands beside it", () => {
    const forwarded = forwardedHeaders(["Connection", "close", "X-Hub-Signature-256", "sha256=0"], 0, "v")
    assert.deepStrictEqual(forwarded.slice(0, 2), ["X-Hub-Signature-256", "sha256=0"])
  })

  it("the Via of others stays before ours", () => {
    assert.deepStrictEqual(
      pairsOf(forwardedHeaders(["Via", "1.1 router"], 0, "1.1 sprayproxy-a")).filter(([name]) => name === "Via"),
      [["Via", "1.1 router"], ["Via", "1.1 sprayproxy-a"]]
    )
  })

  it("a request that has been here before is a loop", () => {
    assert.isTrue(isLoop("1.1 router, 1.1 sprayproxy-a, 1.1 other (comment)", ["sprayproxy-a"]))
    assert.isTrue(isLoop("1.1 sprayproxy-a", ["sprayproxy-a"]))
    assert.isTrue(isLoop("HTTP/1.1 sprayproxy-a", ["sprayproxy-a"]))
    assert.isFalse(isLoop("1.1 sprayproxy-b", ["sprayproxy-a"]))
    assert.isFalse(isLoop("1.1 sprayproxy-ab", ["sprayproxy-a"]))
    assert.isTrue(isLoop("1.1 sprayproxy-b", ["sprayproxy-a", "sprayproxy-b"]))
    assert.isFalse(isLoop(undefined, ["sprayproxy-a"]))
  })

  it("a Via of commas costs no more than one pass over it", () => {
    // An expression that tries again from each comma takes minutes for this one.
    assert.isFalse(isLoop(",".repeat(1_000_000), ["sprayproxy-a"]))
  })

  it("more than four other sprayproxies are a loop", () => {
    assert.isFalse(isLoop(chain(4), ["sprayproxy-a"]))
    assert.isTrue(isLoop(chain(5), ["sprayproxy-a"]))
  })
})
