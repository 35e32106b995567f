import { describe, expect, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { InvalidProxy, proxyFor, unusedFaults } from "../../../src/backends/connections/ProxyRules.ts"
import type { Environment } from "../../../src/settings/Variables.ts"

const hrefFor = (origin: string, env: Environment): string => {
  const proxy = Result.getOrThrow(proxyFor(new URL(origin), env))
  return proxy === undefined ? "direct" : proxy.href
}

const failure = (origin: string, env: Environment): InvalidProxy =>
  Result.getOrThrow(Result.flip(proxyFor(new URL(origin), env)))

describe("the proxy's address", () => {
  it.each([
    ["127.0.0.1:8080", "http://127.0.0.1:8080/"],
    ["cache.corp.example.com:1234", "http://cache.corp.example.com:1234/"],
    ["cache.corp.example.com", "http://cache.corp.example.com/"],
    ["localhost", "http://localhost/"],
    ["user:pass@cache.example.com:3128", "http://user:pass@cache.example.com:3128/"],
    ["https://cache.corp.example.com", "https://cache.corp.example.com/"],
    ["HTTPS://cache.corp.example.com", "https://cache.corp.example.com/"],
    ["http://127.0.0.1:8080\n", "http://127.0.0.1:8080/"],
    ["socks5://127.0.0.1", "socks5://127.0.0.1"],
    ["socks5h://u:p@127.0.0.1:1081", "socks5://u:p@127.0.0.1:1081"]
  ])("%j is %s", (HTTP_PROXY, expected) => {
    expect(hrefFor("http://example.com", { HTTP_PROXY })).toBe(expected)
  })

  it.each([
    "ftp://user:hunter2@proxy",
    "http://",
    "socks5://",
    "http://user:hunter2@proxy:port",
    "http://user:hunter2%@proxy",
    "user:hunter2@exa mple"
  ])("refuses %j and does not repeat it", (value) => {
    const error = failure("http://example.com", { http_proxy: value })
    expect(error).toBeInstanceOf(InvalidProxy)
    expect(error.variable).toBe("http_proxy")
    expect(`${error.message} ${JSON.stringify(error)} ${String(error.stack)}`).not.toContain("hunter2")
    expect(error.message).toContain("socks5://")
  })
})

describe("the variables", () => {
  const env = { HTTP_PROXY: "http.proxy.tld", HTTPS_PROXY: "https://secure.proxy.tld" }

  it("has one for each scheme", () => {
    expect(hrefFor("http://insecure.tld", env)).toBe("http://http.proxy.tld/")
    expect(hrefFor("https://secure.tld", env)).toBe("https://secure.proxy.tld/")
  })

  it("never uses HTTP_PROXY for https, nor HTTPS_PROXY for http", () => {
    expect(hrefFor("https://secure.tld", { HTTP_PROXY: "proxy" })).toBe("direct")
    expect(hrefFor("http://insecure.tld", { HTTPS_PROXY: "proxy" })).toBe("direct")
    expect(hrefFor("http://insecure.tld", {})).toBe("direct")
  })

  it("takes upper case first, and an empty variable for an unset one", () => {
    expect(hrefFor("http://a.tld", { http_proxy: "lower", HTTP_PROXY: "upper" })).toBe("http://upper/")
    expect(hrefFor("https://a.tld", { https_proxy: "lower", HTTPS_PROXY: "" })).toBe("http://lower/")
    expect(hrefFor("http://a.tld", { HTTP_PROXY: "p", NO_PROXY: "", no_proxy: "a.tld" })).toBe("direct")
    expect(hrefFor("http://a.tld", { HTTP_PROXY: "p", NO_PROXY: "b.tld", no_proxy: "a.tld" })).toBe("http://p/")
  })

  it("does not use HTTP_PROXY in a CGI process", () => {
    const cgi = { ...env, REQUEST_METHOD: "POST" }
    expect(failure("http://insecure.tld", cgi).message).toMatch(/^HTTP_PROXY .*REQUEST_METHOD/)
    expect(hrefFor("https://secure.tld", cgi)).toBe("https://secure.proxy.tld/")
    expect(hrefFor("http://insecure.tld", { ...env, REQUEST_METHOD: "" })).toBe("http://http.proxy.tld/")
  })
})

describe("NO_PROXY", () => {
  const NO_PROXY =
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, " +
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64"

  it.each([
    ["localhost", "direct"],
    ["127.0.0.1", "direct"],
    ["127.0.0.2", "direct"],
    ["[::1]", "direct"],
    ["[::ffff:127.0.0.1]", "direct"],
    ["[::2]", "proxied"],
    ["192.168.1.1", "direct"],
    ["192.168.1.2", "proxied"],
    ["192.168.1.2:81", "direct"],
    ["192.168.1.3", "direct"],
    ["192.168.1.4", "proxied"],
    ["10.0.0.2", "direct"],
    ["10.0.0.4", "proxied"],
    ["[2001:db8::52:0:1]", "direct"],
    ["[2001:db8::52:0:2]", "proxied"],
    ["[2001:db8::52:0:3]", "direct"],
    ["[2002:db8:a::123]", "direct"],
    ["[fe80::424b:c8be:1643:a1b6]", "proxied"],
    ["barbaz.net", "proxied"],
    ["www.barbaz.net", "direct"],
    ["foobar.com", "direct"],
    ["foobar.com:8080", "direct"],
    ["www.foobar.com", "direct"],
    ["foofoobar.com", "proxied"],
    ["baz.com", "proxied"],
    ["localhost.net", "proxied"],
    ["local.localhost", "proxied"],
    ["barbarbaz.net", "proxied"],
    ["wildcard.io", "proxied"],
    ["nested.wildcard.io", "direct"],
    ["awildcard.io", "proxied"]
  ])("%s is %s", (host, expected) => {
    expect(hrefFor(`http://${host}`, { HTTP_PROXY: "proxy", NO_PROXY })).toBe(
      expected === "direct" ? "direct" : "http://proxy/"
    )
  })

  it.each([
    ["*", "http://example.com", "direct"],
    ["a.tld, * ", "http://[2001:db8::1]", "direct"],
    ["*:80", "http://example.com", "proxied"],
    ["*ample.com", "http://example.com", "proxied"],
    ["ample.com", "http://example.com", "proxied"],
    ["Example.COM", "http://example.com", "direct"],
    ["example.com:443", "https://example.com", "direct"],
    ["example.com:443", "https://www.example.com:443", "direct"],
    ["example.com:443", "https://example.com:8443", "proxied"],
    [".example.com:443", "https://www.example.com", "direct"],
    ["example.com:", "https://example.com:8443", "direct"],
    [":443", "https://example.com", "proxied"],
    [",,", "https://example.com", "proxied"],
    [".示例.com", "https://www.示例.com", "direct"],
    ["xn--fsq092h.com", "https://www.示例.com", "direct"],
    ["示例.com", "https://www.xn--fsq092h.com", "direct"],
    ["10.0.0.0/33", "https://10.0.0.0", "proxied"],
    ["10.0.0.0/x", "https://10.0.0.0", "proxied"],
    ["10.0.0.0/", "https://10.0.0.0", "proxied"],
    ["10.0.0.0/8:443", "https://10.0.0.1", "proxied"],
    ["0.0.0.0/0", "https://[2001:db8::1]", "proxied"],
    ["::/0", "https://10.0.0.1", "proxied"],
    ["::/0", "https://[2001:db8::1]", "direct"],
    ["10.0.0.0/8", "https://[::ffff:10.0.0.1]", "direct"],
    ["10.0.0.1", "https://[::ffff:10.0.0.1]", "direct"],
    ["[2001:db8::1]", "https://[2001:db8::1]", "proxied"],
    ["10.0.0.0/8", "https://ten.example.com", "proxied"]
  ])("%j makes %s %s", (noProxy, origin, expected) => {
    const env = { HTTP_PROXY: "proxy", HTTPS_PROXY: "proxy", NO_PROXY: noProxy }
    expect(hrefFor(origin, env)).toBe(expected === "direct" ? "direct" : "http://proxy/")
  })
})

const faults = (origins: ReadonlyArray<string>, env: Environment) =>
  unusedFaults(origins.map((origin) => new URL(origin)), env).map(({ variable }) => variable)

describe("a variable that can't be used", () => {
  const bad = { HTTP_PROXY: "ftp://user:hunter2@proxy", https_proxy: "http://user:hunter2@proxy:port" }

  it("is no fault of a backend that NO_PROXY reaches directly", () => {
    expect(hrefFor("http://a.tld", { ...bad, NO_PROXY: "a.tld" })).toBe("direct")
    expect(hrefFor("https://127.0.0.1", bad)).toBe("direct")
  })

  it("is told where no backend uses it, and an error where one does", () => {
    expect(faults([], bad)).toEqual(["https_proxy", "HTTP_PROXY"])
    expect(faults(["http://a.tld"], bad)).toEqual(["https_proxy"])
    expect(faults(["http://a.tld", "https://b.tld"], { ...bad, NO_PROXY: "a.tld" })).toEqual(["HTTP_PROXY"])
    expect(faults(["https://a.tld"], { HTTP_PROXY: "proxy", HTTPS_PROXY: "proxy" })).toEqual([])
    expect(faults([], {})).toEqual([])
  })
})
