import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { matches } from "../../src/backends/HostPattern.ts"

const label = Schema.Literals(["a", "pac", "apps", "example", "com", "x-1", "xn--bcher-kva", "10"])
const name = (minLength: number) =>
  Arbitrary.map(
    Arbitrary.array(Arbitrary.schema(label), { minLength, maxLength: 4 }),
    // A last label of digits would make an address of it.
    (labels) => [...labels, "example"].join(".")
  )

describe("matches", () => {
  it.prop("allows every host without patterns", { host: name(0) }, ({ host }) => assert.isTrue(matches([], host)))

  it.prop("a name allows itself and no other", { allowed: name(0), host: name(0) }, ({ allowed, host }) => {
    assert.isTrue(matches([allowed], allowed))
    assert.strictEqual(matches([allowed], host), allowed === host)
  })

  it.prop("a star is one label or more, never none", { below: name(0), domain: name(0) }, ({ below, domain }) => {
    assert.isTrue(matches([`*.${domain}`], `${below}.${domain}`))
    assert.isFalse(matches([`*.${domain}`], domain))
    assert.isFalse(matches([`*.${domain}`], `.${domain}`))
    assert.isFalse(matches([`*.${domain}`], `${below}${domain}`))
    assert.isFalse(matches([`*.${domain}`], `${domain}.${below}x`))
  })

  it.prop("case and the dot of a full name mean nothing", { below: name(0), domain: name(0) }, ({ below, domain }) => {
    for (const pattern of [`*.${domain}`, `*.${domain}.`, `*.${domain.toUpperCase()}`]) {
      for (const host of [`${below}.${domain}`, `${below}.${domain}.`, `${below}.${domain}`.toUpperCase()]) {
        assert.isTrue(matches([pattern], host), `${pattern} ${host}`)
      }
    }
  })

  it.prop("any of the patterns will do", { others: Arbitrary.array(name(0)), host: name(0) }, ({ host, others }) => {
    assert.isTrue(matches([...others, host], host))
    assert.isTrue(matches([host, ...others], host))
  })

  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["fd12::1", "[fd12::1]"],
    ["[fd12::1]", "fd12::1"],
    ["*", "pac.example.com"]
  ])("%s allows %s", (pattern, host) => assert.isTrue(matches([pattern], host)))

  it.each([
    ["*.0.0.1", "10.0.0.1"],
    ["*", "10.0.0.1"],
    ["*", "[fd12::1]"],
    ["10.0.0.1", "10.0.0.10"],
    ["*.example.com", "evil-example.com"],
    ["*.example.com", "..example.com"],
    ["*.example.com", "pac.example.com.evil.org"],
    ["pac.*.com", "pac.example.com"],
    ["pac.example.com", "xpac.example.com"]
  ])("%s does not allow %s", (pattern, host) => assert.isFalse(matches([pattern], host)))
})
