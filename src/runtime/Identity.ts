import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"

/** Who this process is: on the rows that it owns in a store that others share, and in telemetry. */
export class Identity extends Context.Service<Identity, {
  readonly instance: string
}>()("sprayproxy/runtime/Identity") {
  static readonly layer = Layer.sync(
    Identity,
    () => Identity.of({ instance: `sprayproxy-${randomBytes(8).toString("hex")}` })
  )
}
