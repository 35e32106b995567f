import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { clientVariables, definitions } from "../../src/settings/Table.ts"
import { variableWarnings, withoutServiceLinks } from "../../src/settings/Variables.ts"

const variables = [...Object.values(definitions).map(({ variable }) => variable), ...Object.values(clientVariables)]

/** As Kubernetes sets them for a Service with one port. */
const linksOf = (service: string, port = "8443", portName = "PROXY") => ({
  [`${service}_SERVICE_HOST`]: "10.0.0.5",
  [`${service}_SERVICE_PORT`]: port,
  [`${service}_SERVICE_PORT_${portName}`]: port,
  [`${service}_PORT`]: `tcp://10.0.0.5:${port}`,
  [`${service}_PORT_${port}_TCP`]: `tcp://10.0.0.5:${port}`,
  [`${service}_PORT_${port}_TCP_PROTO`]: "tcp",
  [`${service}_PORT_${port}_TCP_PORT`]: port,
  [`${service}_PORT_${port}_TCP_ADDR`]: "10.0.0.5"
})

describe("a variable that is no setting", () => {
  it.each([
    ["SPRAYPROXY_SERVER_BACKENDS", "SPRAYPROXY_SERVER_BACKEND"],
    ["SPRAYPROXY_BACKEND", "SPRAYPROXY_SERVER_BACKEND"],
    ["SPRAYPROXY_PORT", "SPRAYPROXY_SERVER_PORT"],
    ["SPRAYPROXY_FORWARDING_TIMEOUT", "SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT"],
    ["SPRAYPROXY_SERVER_STORE", "SPRAYPROXY_STORE"],
    ["SPRAYPROXY_MAX_DELIVERY_AGES", "SPRAYPROXY_MAX_DELIVERY_AGE"],
    ["SPRAYPORXY_STORE", "SPRAYPROXY_STORE"],
    ["SPRAY_PROXY_STORE", "SPRAYPROXY_STORE"],
    ["sprayproxy_store", "SPRAYPROXY_STORE"],
    ["SPRAYPROXY-STORE", "SPRAYPROXY_STORE"],
    ["SPRAYPROXY_WEBHOOK_SECRET", "GH_APP_WEBHOOK_SECRET"],
    ["GH_APP_WEBHOOK_SECRETS", "GH_APP_WEBHOOK_SECRET"],
    ["GH_APP_WEBHOOK_SECRET_FILES", "GH_APP_WEBHOOK_SECRET_FILE"],
    ["SPRAYPROXY_URI", "SPRAYPROXY_URL"]
  ])("%s is told, and that %s may be meant", (name, meant) => {
    assert.deepStrictEqual(variableWarnings({ [name]: "hunter2" }), [
      `${name} is set and is no setting: did you mean ${meant}?`
    ])
  })

  it("is told without a guess where nothing resembles it", () => {
    assert.deepStrictEqual(variableWarnings({ SPRAYPROXY_ROCKET_FUEL: "1" }), [
      "SPRAYPROXY_ROCKET_FUEL is set and is no setting"
    ])
  })

  it("is not told when it is empty, or somebody else's", () => {
    const env = { SPRAYPROXY_STOER: " ", PATH: "/bin", GH_APP_ID: "1", GH_TOKEN: "x", SPRING_PROFILES_ACTIVE: "prod" }
    assert.deepStrictEqual(variableWarnings(env), [])
  })

  it("is none of those that are read anywhere", () => {
    assert.deepStrictEqual(variableWarnings(Object.fromEntries(variables.map((name) => [name, "1"]))), [])
    const directory = new URL("../../src/", import.meta.url)
    const files = readdirSync(directory, { encoding: "utf8", recursive: true }).filter((file) => file.endsWith(".ts"))
    const sources = files.map((file) => readFileSync(new URL(file, directory), "utf8")).join("\n")
    const named = [...sources.matchAll(/"(SPRAYPROXY_\w+|GH_APP_\w+)"/g)]
    assert.isNotEmpty(named)
    for (const [, name] of named) assert.include(variables, name)
  })
})

describe("what Kubernetes sets for Services", () => {
  it("is nobody's mistake", () => {
    assert.deepStrictEqual(
      variableWarnings({ ...linksOf("SPRAYPROXY"), ...linksOf("SPRAYPROXY_POSTGRES", "5432"), ...linksOf("SPRAY") }),
      []
    )
  })

  it("is told apart from a port that somebody has set", () => {
    assert.deepStrictEqual(variableWarnings({ ...linksOf("SPRAYPROXY"), SPRAYPROXY_PORT: "8081" }), [
      "SPRAYPROXY_PORT is set and is no setting: did you mean SPRAYPROXY_SERVER_PORT?"
    ])
  })

  it("is no setting though it is called like one, and that is told", () => {
    const env = { ...linksOf("SPRAYPROXY_SERVER"), SPRAYPROXY_SERVER_HOST: "127.0.0.1" }
    assert.notProperty(withoutServiceLinks(env), "SPRAYPROXY_SERVER_PORT")
    assert.property(withoutServiceLinks(env), "SPRAYPROXY_SERVER_HOST")
    assert.deepStrictEqual(variableWarnings(env), [
      "SPRAYPROXY_SERVER_PORT is not used: Kubernetes has set it for a Service named sprayproxy-server. " +
      "enableServiceLinks: false in the pod keeps such variables out, and another name of the Service does too"
    ])
    const own = { ...env, SPRAYPROXY_SERVER_PORT: "8081" }
    assert.strictEqual(withoutServiceLinks(own), own)
    assert.deepStrictEqual(variableWarnings(own), [])
  })
})
