import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { BackendRegistry } from "../backends/Registry.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { plainText } from "../http/PlainText.ts"
import { Readiness } from "../http/Readiness.ts"
import { WebhookVerifier } from "./Verifier.ts"

/**
 * The answer of a process that runs. The webhook's paths give it too, because people and probes of the original
 * sprayproxy look there.
 */
export const healthy = Effect.succeed(plainText(200, "healthy"))

/** `/healthz`: the process runs. `/readyz`: it wants deliveries. */
export const HealthRoutes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const readiness = yield* Readiness
  const verifier = yield* WebhookVerifier
  const registry = yield* BackendRegistry
  yield* addPath(router, "/healthz", { GET: () => healthy })
  yield* addPath(router, "/readyz", {
    GET: () =>
      readiness.isDraining()
        ? unready("draining")
        : !verifier.isReady()
        ? unready("no secret")
        : !registry.isKnown()
        ? unready("backends unknown")
        : Effect.succeed(plainText(200, "ready"))
  })
}))

const unready = (reason: string) => Effect.succeed(plainText(503, reason))
