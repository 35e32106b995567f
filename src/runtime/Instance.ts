import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"

/**
 * The name of this process among all that share a store or a collector. It stands on the rows that the process owns,
 * and in telemetry.
 */
export class Instance extends Context.Service<Instance, {
  readonly name: string
}>()("sprayproxy/runtime/Instance") {
  static readonly layer = Layer.sync(
    Instance,
    () => Instance.of({ name: `sprayproxy-${randomBytes(8).toString("hex")}` })
  )
}
