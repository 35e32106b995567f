import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { forwardedTarget, parse } from "../../src/domain/Backend.ts"

const parsed = (url: string) => Result.getOrThrow(parse(url, "dynamic"))

/** Segments of a path, as they may come in. None of them is ours to interpret. */
const segment = Schema.Literals([
  "a",
  "proxy",
  "%2F",
  "%2e%2e",
  "..",
  ".",
  "a%20b",
  "%zz",
  "a;b=c",
  "+",
  "@:",
  "%E2%82%AC"
])
const segments = Arbitrary.array(Arbitrary.schema(segment), { maxLength: 4 })
const query = Schema.Literals(["", "?", "?x=1", "?a=%20b&&c", "?//", "?u=http://h/proxy?x#", "?%zz"])
const slashes = Schema.Literals(["/", "//", "///"])
const base = Schema.Literals(["", "/", "/base", "/base/", "/base///", "/a/b%20c/"])

describe("parse", () => {
  it.prop(
    "URLs that mean the same are one backend",
    {
      scheme: Schema.Literals(["http", "https"]),
      path: Schema.Literals(["", "/base"]),
      ends: Schema.Literals(["", "/", "///"]),
      space: Schema.Literals(["", " ", "\n", "\t "])
    },
    ({ ends, path, scheme, space }) => {
      const port = scheme === "http" ? 80 : 443
      const plain = parsed(`${scheme}://pac.example.com${path}`)
      for (
        const host of ["pac.example.com", "PAC.Example.COM", `pac.example.com:${port}`, `pac.example.com:0${port}`]
      ) {
        const url = `${scheme.toUpperCase()}://${host}${path}${ends}`
        const backend = parsed(`${space}${url}${space}`)
        assert.strictEqual(backend.key, plain.key)
        assert.strictEqual(backend.origin, plain.origin)
        assert.strictEqual(backend.basePath, path)
        assert.strictEqual(backend.url, url)
      }
    }
  )

  it("scheme, host, port and path make different backends", () => {
    const urls = [
      "http://pac.example.com",
      "https://pac.example.com",
      "http://pac2.example.com",
      "http://pac.example.com:8080",
      "http://pac.example.com/base",
      "http://pac.example.com/BASE"
    ]
    assert.strictEqual(new Set(urls.map((url) => parsed(url).key)).size, urls.length)
  })

  it("its name is the host as it was written, port included, in lower case, and the base path", () => {
    assert.strictEqual(parsed("http://PAC.example.com").name, "pac.example.com")
    assert.strictEqual(parsed("http://PAC.example.com/").name, "pac.example.com")
    assert.strictEqual(parsed("http://PAC.example.com//Base/").name, "pac.example.com/Base")
    assert.strictEqual(parsed("https://pac.example.com:443").name, "pac.example.com:443")
    assert.strictEqual(parsed("http://[FD12::1]:8080/x").name, "[fd12::1]:8080/x")
  })

  it.each([
    "a",
    "pac.example.com.",
    "a_b.example.com",
    "_pac.example.com",
    "a--b.example.com",
    "1.example.com",
    "bücher.example",
    "xn--bcher-kva.example",
    "pac%2Eexample.com",
    `${"a".repeat(63)}.example.com`,
    "10.0.0.1",
    "0x7f.1",
    "[fd12::1]"
  ])("takes the host %s", (host) => assert.isTrue(Result.isSuccess(parse(`http://${host}:65535/x`, "static"))))

  it.each([
    "a.test,",
    "a.test;",
    "$(HOST)",
    "${HOST}",
    "*.test",
    "*",
    "a..b",
    ".a",
    ".",
    "a.test..",
    "-a.test",
    "a!b.test",
    "a'b.test",
    "a\"b.test",
    "a%2Cb.test",
    "a=b",
    "`a`",
    `${"a".repeat(64)}.test`,
    `${"a.".repeat(127)}bc`
  ])("refuses the host %s and says what a host is", (host) => {
    for (const source of ["static", "dynamic"] as const) {
      assert.strictEqual(
        Result.getOrThrow(Result.flip(parse(`https://${host}/x`, source))).reason,
        "a host is a name of letters, digits, - and _ between dots, or an IP address"
      )
    }
  })

  it.each([
    ["", "starts with http:// or https://"],
    ["pac.example.com", "starts with http:// or https://"],
    ["ftp://pac.example.com", "starts with http:// or https://"],
    ["javascript:alert(1)", "starts with http:// or https://"],
    ["http:pac.example.com", "starts with http:// or https://"],
    ["http://", "absolute"],
    ["http://pac.example.com:99999", "absolute"],
    ["http://pac.example.com:0", "a port is a whole number from 1 to 65535"],
    ["http://pac.example.com:00/x", "a port is a whole number from 1 to 65535"],
    ["http://[::1]:0", "a port is a whole number from 1 to 65535"],
    ["http://[::1", "absolute"],
    ["http://1.2.3.4.5", "absolute"],
    ["http://[fe80::1%25eth0]", "absolute"],
    ["http://me@pac.example.com", "credentials"],
    ["http://me:secret@pac.example.com", "credentials"],
    ["http://:secret@pac.example.com", "credentials"],
    ["http://pac.example.com#", "fragment"],
    ["http://pac.example.com/#a", "fragment"],
    ["http://pac.example.com?", "query"],
    ["http://pac.example.com/?a=b", "query"]
  ])("refuses %j and says why", (url, reason) => {
    const refused = Result.getOrThrow(Result.flip(parse(url, "dynamic")))
    assert.strictEqual(refused.url, url)
    assert.include(refused.reason, reason)
    assert.notInclude(refused.reason, "secret")
  })
})

describe("a url that is made to take long", () => {
  it("is refused for its length", () => {
    const refused = parse(`http://h/${"/".repeat(2_048)}x`, "dynamic")
    assert.deepInclude(Result.getOrThrow(Result.flip(refused)), { reason: "a backend url has at most 2048 characters" })
  })

  it("is refused for its length when it is encoded: databases index no longer keys", () => {
    const refused = parse(`http://h/${"字".repeat(1_800)}`, "dynamic")
    assert.deepInclude(Result.getOrThrow(Result.flip(refused)), {
      reason: "a backend url has at most 2048 characters when it is encoded"
    })
    assert.lengthOf(parsed(`http://h/${"字".repeat(226)}${"x".repeat(5)}`).key, 2_048)
    assert.isTrue(Result.isFailure(parse(`http://h/${"字".repeat(226)}${"x".repeat(6)}`, "static")))
  })

  it("has its slashes collapsed", () => {
    assert.strictEqual(Result.getOrThrow(parse(`http://h/${"/".repeat(2_000)}x//`, "dynamic")).basePath, "/x")
  })
})

describe("forwardedTarget", () => {
  it.prop(
    "joins base and target with one slash and leaves the rest as it came",
    { base, start: slashes, segments, query, proxied: Schema.Boolean },
    (some) => {
      const path = some.segments.join("/")
      // Without `/proxy` before it, a leading "proxy" segment would be the prefix.
      const target = `${some.proxied || some.segments[0] === "proxy" ? "/proxy" : ""}${some.start}${path}${some.query}`
      const joined = parsed(`http://pac.example.com${some.base}`).basePath + forwardedTarget(target)
      assert.strictEqual(joined, `${some.base.replace(/\/+$/, "")}/${path}${some.query}`)
    },
    { arbitrary: { runs: 500 } }
  )

  it.each([
    ["/proxy", "/"],
    ["/proxy/", "/"],
    ["/proxy?x=1", "/?x=1"],
    ["/", "/"],
    ["/?x=/proxy", "/?x=/proxy"],
    ["/proxy/proxy", "/proxy"],
    ["/proxyfoo", "/proxyfoo"],
    ["/Proxy", "/Proxy"],
    ["//evil.example.com/x", "/evil.example.com/x"],
    ["/proxy//evil.example.com/x", "/evil.example.com/x"]
  ])("%s goes out as %s", (target, expected) => assert.strictEqual(forwardedTarget(target), expected))
})
