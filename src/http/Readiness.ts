import * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/** Whether this process wants new deliveries. */
export class Readiness extends Context.Service<Readiness, {
  readonly isDraining: () => boolean
  /** Draining lasts until the process ends. */
  readonly beginDraining: () => void
}>()("sprayproxy/http/Readiness") {
  static readonly layer = Layer.sync(Readiness, () => {
    let draining = false
    return Readiness.of({
      isDraining: () => draining,
      beginDraining: () => {
        draining = true
      }
    })
  })
}
