import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { resolve } from "../../src/settings/Settings.ts"
import { warnings } from "../../src/settings/Warnings.ts"

const of = (flags: Parameters<typeof resolve>[0]) =>
  warnings(Result.getOrThrow(resolve(
    { backend: ["http://a"], ...flags },
    { GH_APP_WEBHOOK_SECRET: "s3cret" },
    { isTerminal: false }
  )))
const ignored = (store: string) => of({ store: [store], host: ["127.0.0.1"] })
const boundedDynamic = { "enable-dynamic-backends": ["true"], "dynamic-backend-repositories": ["org/*"] }
const recovering = (more: Parameters<typeof of>[0] = {}) =>
  of({
    store: ["sqlite:/d.db"],
    host: ["127.0.0.1"],
    "github-app-id": ["1"],
    "github-private-key-file": ["/k.pem"],
    ...more
  })
const unencrypted = (store: string) => of({ store: [store] }).filter((warning) => warning.includes("unencrypted"))

describe("warnings", () => {
  it("say that /deliveries is unguarded", () => {
    const [warning, ...others] = of({ store: ["sqlite:/d.db"] })
    assert.match(warning ?? "", /^\/deliveries has no authentication of its own/)
    assert.deepStrictEqual(others, [])
    assert.deepStrictEqual(of({ store: ["sqlite:/d.db"], host: ["127.0.0.1"] }), [])
  })

  it.each([
    ["postgres://u:hidden@db.example.com/d", 1],
    ["postgres://u@db.example.com/d?sslmode=disable", 1],
    ["postgres://u@db.example.com/d?sslmode=prefer", 1],
    ["postgres://u@db.example.com/d?sslmode=allow", 1],
    ["postgres://u@db.example.com/d?sslmode=verify-full&sslmode=disable", 1],
    ["postgres://u@localhost/d?host=db.example.com", 1],
    ["postgres://u@db.example.com/d?sslMode=require", 1],
    ["postgres://u@db.example.com/d?sslmode=require", 0],
    ["postgres://u@db.example.com/d?sslmode=verify-full", 0],
    ["postgres://u@127.0.0.1/d", 0],
    ["postgres://u@[::1]:5432/d", 0],
    ["postgres:///d?user=u", 0],
    ["postgres:///d?host=/var/run/postgresql&user=u", 0],
    ["sqlite:/d.db", 0]
  ])("tell of deliveries that go to a store over a network and may be unencrypted: %s", (store, count) => {
    assert.lengthOf(unencrypted(store), count)
    assert.notInclude(unencrypted(store).join(), "hidden")
  })

  it("say what kind of encryption is only perhaps one", () => {
    assert.deepStrictEqual(unencrypted("postgres://u@db/d?sslmode=prefer"), [
      "deliveries may go to PostgreSQL unencrypted: the url of the store (--store) has sslmode=prefer, which does " +
      "without encryption where the server has none; sslmode=verify-full does not"
    ])
  })

  it("name the parameters of a store's url that mean nothing, and never what may be a part of a password", () => {
    assert.deepStrictEqual(ignored("postgres://u@localhost/d?sslrootcert=/ca.pem&sslMode=require&connect_timeout=1"), [
      "parameters of the url of the store (--store) that mean nothing here, or are misspelt: sslrootcert, sslMode"
    ])
    assert.deepStrictEqual(ignored("postgres://localhost/d?user=u&password=hunter2&hunter3"), [])
  })

  it("say that nothing is recovered that the store has forgotten", () => {
    assert.deepStrictEqual(recovering(), [])
    assert.deepStrictEqual(recovering({ "retain-dead": ["24h"] }), [
      "--retain-dead 24h0m0s is below --recovery-max-age, 72h0m0s: nothing is recovered that the store has forgotten"
    ])
    assert.lengthOf(recovering({ "recovery-max-age": ["169h"] }), 1)
  })

  it("say that a store beside unverified deliveries is anybody's to fill", () => {
    const both = of({ store: ["sqlite:/d.db"], host: ["127.0.0.1"], "insecure-skip-webhook-verify": ["true"] })
    assert.lengthOf(both, 2)
    assert.strictEqual(
      both[1],
      "anyone who reaches this port can fill the store: what is written down is not checked either " +
        "(--insecure-skip-webhook-verify beside --store)"
    )
  })

  it.each([
    ["max-delivery-age", "1h", "--store"],
    ["retry-unknown", "true", "--store"],
    ["retain-delivered", "24h", "--store"],
    ["retain-dead", "200h", "--store"],
    ["store-limit", "1GiB", "--store"],
    ["github-api-url", "https://ghe.example.com/api/v3", "--github-app-id"],
    ["recovery-interval", "5m", "--github-app-id"],
    ["recovery-max-age", "1h", "--github-app-id"],
    ["recovery-pace", "1s", "--github-app-id"],
    ["dynamic-backend-allow", "a.example.com", "--enable-dynamic-backends"],
    ["dynamic-backend-limit", "1000", "--enable-dynamic-backends"],
    ["dynamic-backend-ttl", "24h", "--enable-dynamic-backends"],
    ["dynamic-backend-dead-after", "24h", "--enable-dynamic-backends"],
    ["dynamic-backend-repositories", "org/*", "--enable-dynamic-backends"]
  ])("say that --%s %s does nothing without %s, only where it was given", (flag, value, needed) => {
    assert.deepStrictEqual(of({ [flag]: [value] }), [`--${flag} is set and does nothing without ${needed}`])
    const enabled = {
      store: ["sqlite:/d.db"],
      ...boundedDynamic,
      "github-app-id": ["17"],
      "github-private-key-file": ["/key.pem"]
    }
    assert.deepStrictEqual(of({ [flag]: [value], host: ["127.0.0.1"], ...enabled }), [])
  })

  it("name the variable by which a setting was given in vain, and not an empty one", () => {
    const env = { GH_APP_WEBHOOK_SECRET: "s3cret", SPRAYPROXY_RETAIN_DEAD: "1h", SPRAYPROXY_RETAIN_DELIVERED: " " }
    assert.deepStrictEqual(
      warnings(Result.getOrThrow(resolve({ backend: ["http://a"] }, env, { isTerminal: false }))),
      ["SPRAYPROXY_RETAIN_DEAD is set and does nothing without --store"]
    )
  })

  it("are none for a plain configuration", () => {
    assert.deepStrictEqual(of({}), [])
  })

  it.each(["insecure-skip-tls-verify", "insecure-skip-webhook-verify"])("name --%s", (flag) => {
    const [warning, ...others] = of({ [flag]: ["true"] })
    assert.include(warning, `--${flag}`)
    assert.deepStrictEqual(others, [])
  })

  it("say that nobody gets the deliveries when there is no backend and never will be", () => {
    assert.lengthOf(of({ backend: [""] }), 1)
    assert.match(of({ backend: [""] })[0] ?? "", /^no backend .*--backend.*--enable-dynamic-backends/)
    assert.deepStrictEqual(of({ backend: [""], ...boundedDynamic, host: ["127.0.0.1"] }), [])
  })

  it.each(["", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "sprayproxy"])(
    "say that /backends is unguarded on host %j",
    (host) => {
      const [warning, ...others] = of({ ...boundedDynamic, host: [host] })
      assert.match(warning ?? "", /^\/backends has no authentication of its own, the sidecar is its guard/)
      assert.deepStrictEqual(others, [])
    }
  )

  it.each(["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])(
    "say nothing of /backends on host %j",
    (host) => {
      assert.deepStrictEqual(of({ ...boundedDynamic, host: [host] }), [])
    }
  )

  it("say that whoever registers a backend receives everything, unless that is bounded", () => {
    const loopback = { "enable-dynamic-backends": ["true"], host: ["127.0.0.1"] }
    assert.deepStrictEqual(of(loopback), [
      "whoever registers a backend receives the deliveries of all repositories (--dynamic-backend-repositories bounds that)"
    ])
    assert.deepStrictEqual(of({ ...loopback, "dynamic-backend-repositories": ["org/*"] }), [])
  })

  it("say when the grace is shorter than a delivery may take", () => {
    assert.deepStrictEqual(of({ "shutdown-grace": ["24s"] }), [])
    assert.deepStrictEqual(of({ "shutdown-grace": ["23.999s"] }), [
      "--shutdown-grace 23.999s is below reply deadline + forwarding timeout, 24s: a shutdown can cut deliveries off"
    ])
  })
})
