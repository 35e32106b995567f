import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"

/** Who this process is in a `Via` header (RFC 9110 §7.6.3): how it knows a delivery that has been here before. */
export class Identity extends Context.Service<Identity, {
  readonly pseudonym: string
}>()("sprayproxy/Identity") {
  static readonly layer = Layer.sync(
    Identity,
    () => Identity.of({ pseudonym: `sprayproxy-${randomBytes(8).toString("hex")}` })
  )
}
