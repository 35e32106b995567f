/**
 * Verifies that a delivery came from GitHub: it is signed with a secret that only GitHub and we know.
 *
 * **Details**
 *
 * The signature is the HMAC-SHA256 of the body alone. Its documented form is `X-Hub-Signature-256: sha256=<64 hex
 * digits>` (https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries). The older `X-Hub-Signature`
 * (SHA-1) is not accepted.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHmac, type Hmac, type KeyObject, timingSafeEqual } from "node:crypto"
import { Settings } from "../settings/Settings.ts"
import { hmacSha256, longestMessage } from "./Hmac.ts"
import { WebhookSecrets } from "./Secrets.ts"

/** Why a delivery can't be verified. This is known before its body is read. */
export type Unverifiable = "signature missing" | "signature malformed" | "no secret"

/** The verification of one delivery. It takes the body's chunks in order, and may keep the first one. */
export interface Verification {
  readonly update: (chunk: Buffer) => void
  /** Whether the signature is that of all chunks so far. Ends the verification. */
  readonly matches: () => boolean
}

export class WebhookVerifier extends Context.Service<WebhookVerifier, {
  readonly begin: (signature: string | undefined) => Verification | Unverifiable
  /** Whether any delivery could be verified now. */
  readonly isReady: () => boolean
}>()("sprayproxy/webhook/Verifier/WebhookVerifier") {
  static readonly layerNoDeps = Layer.effect(
    WebhookVerifier,
    Effect.gen(function*() {
      const { insecureSkipWebhookVerify } = yield* Settings
      if (insecureSkipWebhookVerify) return WebhookVerifier.of({ begin: () => unverified, isReady: () => true })
      const secrets = yield* WebhookSecrets
      return WebhookVerifier.of({
        isReady: () => secrets.current().length > 0,
        begin: (signature) => {
          const keys = secrets.current()
          if (keys.length === 0) return "no secret"
          if (signature === undefined || signature === "") return "signature missing"
          const digest = parseSignature(signature)
          return digest === undefined ? "signature malformed" : new SignatureCheck(keys, digest)
        }
      })
    })
  )

  static readonly layer = WebhookVerifier.layerNoDeps.pipe(Layer.provide(WebhookSecrets.layer))
}

/** The 32 bytes that a signature header states, if it has the documented form. */
export const parseSignature = (header: string): Buffer | undefined =>
  /^sha256=[0-9a-f]{64}$/i.test(header) ? Buffer.from(header.slice("sha256=".length), "hex") : undefined

const unverified: Verification = { update: () => {}, matches: () => true }

/** Most bodies arrive in one chunk. That chunk is kept, and hashed in one go when it turns out to be the whole. */
class SignatureCheck implements Verification {
  readonly #keys: ReadonlyArray<KeyObject>
  readonly #digest: Buffer
  #only: Buffer = noBytes
  #hmacs: ReadonlyArray<Hmac> | undefined

  constructor(keys: ReadonlyArray<KeyObject>, digest: Buffer) {
    this.#keys = keys
    this.#digest = digest
  }

  update(chunk: Buffer): void {
    if (this.#hmacs === undefined && this.#only.length === 0 && chunk.length <= longestMessage) {
      this.#only = chunk
      return
    }
    this.#hmacs ??= this.#keys.map((key) => createHmac("sha256", key).update(this.#only))
    for (const hmac of this.#hmacs) hmac.update(chunk)
  }

  matches(): boolean {
    const hmacs = this.#hmacs
    let matched = false
    // Every secret is compared, so that the time taken does not tell which one matched.
    for (let at = 0; at < this.#keys.length; at++) {
      const own = hmacs === undefined ? hmacSha256(this.#keys[at]!, this.#only) : hmacs[at]!.digest()
      matched = timingSafeEqual(own, this.#digest) || matched
    }
    return matched
  }
}

const noBytes = Buffer.alloc(0)
