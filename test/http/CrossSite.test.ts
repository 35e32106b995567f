import { assert, describe, it } from "@effect/vitest"
import { isOfAPage } from "../../src/http/CrossSite.ts"

const host = "sprayproxy.example.com"

describe("a request", () => {
  it.each([
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" },
    { origin: "https://evil.example.org" },
    { origin: "null" },
    { origin: "" },
    // A name that was made to resolve to us.
    { origin: `https://${host}` },
    { host: "evil.example.org:8080", origin: "http://evil.example.org:8080" },
    { origin: "https://evil.example.org", "sec-fetch-site": "none" }
  ])("%j is of a page", (headers) => assert.isTrue(isOfAPage({ host, ...headers })))

  it.each([
    {},
    { "sec-fetch-site": "none" },
    // Node's fetch, which no page has sent.
    { "sec-fetch-mode": "cors" }
  ])("%j is not", (headers) => assert.isFalse(isOfAPage({ host, ...headers })))
})
