import { assert, describe, it } from "@effect/vitest"
import { hostOf, portOf } from "../../src/domain/Origin.ts"

describe("an origin's host", () => {
  it.each([
    ["https://pac.example.com", "pac.example.com"],
    ["http://10.0.0.1:81", "10.0.0.1"],
    ["http://[2001:db8::1]:81", "2001:db8::1"]
  ])("of %s is %s", (url, host) => assert.strictEqual(hostOf(new URL(url)), host))
})

describe("an origin's port", () => {
  it.each([
    ["https://pac.example.com", 443],
    ["http://pac.example.com", 80],
    ["https://pac.example.com:80", 80],
    ["http://[::1]:443", 443]
  ])("of %s is %d", (url, port) => assert.strictEqual(portOf(new URL(url)), port))
})
