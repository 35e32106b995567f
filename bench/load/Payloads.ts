/** Deliveries as GitHub sends them: the bytes of a request whose GUID is written anew each time. */
import examples from "@octokit/webhooks-examples/api.github.com/index.json" with { type: "json" }
import { createHmac } from "node:crypto"
import { type Payload, secret } from "./Messages.ts"

/** The example of each event, by its length if the event has many. */
const exampleOf = { ping: 2_351, push: 6_923, pull_request: 21_370 }

const bodyOf = (payload: Payload): Buffer => {
  if (typeof payload === "number") return Buffer.from(`{"padding":"${"x".repeat(payload - 14)}"}`)
  const bodies = examples.find(({ name }) => name === payload)!.examples.map((one) => Buffer.from(JSON.stringify(one)))
  const body = bodies.find(({ length }) => length === exampleOf[payload])
  if (body === undefined) {
    throw new Error(`there is no ${payload} of ${exampleOf[payload]} bytes among GitHub's examples`)
  }
  return body
}

/** A body up to this size is copied for each connection, because one write costs less than two. */
const largeBody = 16 * 1024

export interface Template {
  /** The request, without a large body. */
  readonly bytes: Buffer
  /** A body too large to be copied for every connection. */
  readonly body: Buffer | undefined
  readonly bodyLength: number
  /** The place of the twelve digits that make a GUID unique. */
  readonly guidAt: number
}

/** The start of each GUID. Twelve decimal digits follow. */
const guidStart = "72d3162e-cc78-11e3-81ab-"
/** The text by which a backend finds the number of a delivery in a head. */
export const guidMark = `X-GitHub-Delivery: ${guidStart}`
export const guidDigits = 12

export const templateOf = (payload: Payload, forged: boolean): Template => {
  const body = bodyOf(payload)
  const key = forged ? "a guess" : secret
  const head = [
    "POST /proxy HTTP/1.1",
    "Host: sprayproxy.example.com",
    "User-Agent: GitHub-Hookshot/044aadd",
    `Content-Length: ${body.length}`,
    "Accept: */*",
    "Content-Type: application/json",
    `${guidMark}000000000000`,
    `X-GitHub-Event: ${typeof payload === "number" ? "push" : payload}`,
    "X-GitHub-Hook-ID: 292430182",
    "X-GitHub-Hook-Installation-Target-ID: 79929171",
    "X-GitHub-Hook-Installation-Target-Type: integration",
    `X-Hub-Signature: sha1=${createHmac("sha1", key).update(body).digest("hex")}`,
    `X-Hub-Signature-256: sha256=${createHmac("sha256", key).update(body).digest("hex")}`,
    "\r\n"
  ].join("\r\n")
  const isLarge = body.length > largeBody
  return {
    bytes: isLarge ? Buffer.from(head) : Buffer.concat([Buffer.from(head), body]),
    body: isLarge ? body : undefined,
    bodyLength: body.length,
    guidAt: head.indexOf(guidMark) + guidMark.length
  }
}
