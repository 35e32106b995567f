import { assert, describe, it } from "@effect/vitest"
import { createHmac, createSecretKey } from "node:crypto"
import { hmacSha256, longestMessage } from "../../src/webhook/Hmac.ts"

/** Around a block of SHA-256, beyond which a key is hashed first. */
const keyLengths = [1, 32, 63, 64, 65, 4_096]
const messageLengths = [0, 1, 55, 56, 63, 64, 65, 7_000, longestMessage]

const bytes = (length: number, seed: number) => Buffer.alloc(length).map((_, at) => at * 31 + seed) as Buffer

describe("an HMAC of two one-shot hashes", () => {
  it.each(keyLengths)("is that of Node, with a key of %d bytes", (keyLength) => {
    const key = createSecretKey(bytes(keyLength, keyLength))
    // Longest first: a shorter one must not see what is left of it.
    for (const length of [...messageLengths].toReversed()) {
      const message = bytes(length, 7)
      const expected = createHmac("sha256", key).update(message).digest("hex")
      assert.strictEqual(hmacSha256(key, message).toString("hex"), expected, `${length} bytes`)
    }
  })
})
