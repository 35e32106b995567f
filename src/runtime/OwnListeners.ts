import * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/** The ports that this process listens on. A backend that leads to one of them would be a loop. */
export class OwnListeners extends Context.Service<OwnListeners, {
  readonly add: (port: number) => void
  readonly has: (port: number) => boolean
}>()("sprayproxy/runtime/OwnListeners") {
  static readonly layer = Layer.sync(OwnListeners, () => {
    const ports = new Set<number>()
    return OwnListeners.of({ add: (port) => void ports.add(port), has: (port) => ports.has(port) })
  })
}
