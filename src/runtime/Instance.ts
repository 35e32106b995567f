import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"

/** Which process this is, of those that share a store or a collector: on the rows that it owns, and in telemetry. */
export class Instance extends Context.Service<Instance, {
  readonly name: string
}>()("sprayproxy/runtime/Instance") {
  static readonly layer = Layer.sync(
    Instance,
    () => Instance.of({ name: `sprayproxy-${randomBytes(8).toString("hex")}` })
  )
}
