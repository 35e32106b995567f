/** The fingerprint by which a delivery is recognised when it comes again. */
import { createHash, hash } from "node:crypto"
import type { Delivery } from "../domain/Delivery.ts"
import { headerOf } from "../domain/ForwardedHeaders.ts"

/** `X-GitHub-Hook-ID`. Empty if there was none. */
export const hookIdOf = ({ headers }: Pick<Delivery, "headers">): string => headerOf(headers, "x-github-hook-id") ?? ""

/** SHA-256 of the body, hexadecimal. */
export const bodyHashOf = ({ body: { chunks } }: Pick<Delivery, "body">): string => {
  if (chunks.length === 1) return hash("sha256", chunks[0]!, "hex")
  const digest = createHash("sha256")
  for (const chunk of chunks) digest.update(chunk)
  return digest.digest("hex")
}
