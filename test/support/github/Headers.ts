/** The headers of a delivery, and the secret that signs it. */
import { createHmac } from "node:crypto"

/** The secret of GitHub's documentation. */
export const secret = "It's a Secret to Everybody"

/** https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries */
export const sign = (body: Uint8Array, key = secret): string =>
  `sha256=${createHmac("sha256", key).update(body).digest("hex")}`

/** The webhook of an App, as the headers of its deliveries name it. */
export interface HookIdentity {
  readonly hookId: string
  readonly appId: string
}

export const hookIdentity: HookIdentity = { hookId: "292430182", appId: "79929171" }

export interface Labels {
  readonly guid: string
  readonly event: string
  readonly body: Uint8Array
  /** `null`: the App's webhook has no secret. */
  readonly signature: string | null
  readonly contentType?: string
  readonly identity?: HookIdentity | undefined
}

/** GitHub's headers, in its order. */
export const headersOf = (
  { body, contentType = "application/json", event, guid, identity = hookIdentity, signature }: Labels
): Readonly<Record<string, string>> => ({
  "Content-Type": contentType,
  "Content-Length": String(body.length),
  "User-Agent": "GitHub-Hookshot/044aadd",
  "X-GitHub-Event": event,
  "X-GitHub-Delivery": guid,
  "X-GitHub-Hook-ID": identity.hookId,
  "X-GitHub-Hook-Installation-Target-ID": identity.appId,
  "X-GitHub-Hook-Installation-Target-Type": "integration",
  ...(signature === null ? {} : { "X-Hub-Signature-256": signature })
})
