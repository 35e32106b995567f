import { assert, describe, it } from "@effect/vitest"
import { isOfAnotherSite } from "../src/CrossSite.ts"

const host = "sprayproxy.example.com"

describe("a request", () => {
  it.each([
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" },
    { origin: "https://evil.example.org" },
    { origin: "https://other.example.com" },
    { origin: `https://${host}:8443` },
    { origin: `https://${host}.evil.example.org` },
    { origin: "null" },
    { origin: "" },
    { origin: "file://" },
    { origin: "https://evil.example.org", "sec-fetch-site": "same-origin" },
    { host: "[", origin: `https://${host}` },
    { host: undefined, origin: `https://${host}` }
  ])("%j is of another site", (headers) => assert.isTrue(isOfAnotherSite({ host, ...headers })))

  it.each([
    {},
    { "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "none" },
    { origin: `https://${host}` },
    { origin: `http://${host}` },
    { host: `${host}:443`, origin: `https://${host}` },
    { host: "SprayProxy.example.com", origin: `https://${host}`, "sec-fetch-site": "same-origin" },
    { host: "localhost:8080", origin: "http://localhost:8080" },
    // Node's fetch, which no page has sent.
    { "sec-fetch-mode": "cors" }
  ])("%j is not", (headers) => assert.isFalse(isOfAnotherSite({ host, ...headers })))
})
