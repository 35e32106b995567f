/**
 * The `RecoveryStore` on disk, together with the `DeliveryStore` of the same database. It is loaded only if recovery is
 * on.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreLocation } from "../settings/StoreLocation.ts"
import { DeliveryStore } from "./DeliveryStore.ts"
import { RecoveryStore } from "./RecoveryStore.ts"
import * as SqlDeliveryStore from "./SqlDeliveryStore.ts"
import type { StoreUnusable } from "./contract/Unavailable.ts"
import * as Arriving from "./recovery/Arriving.ts"
import * as Fallbacks from "./recovery/Fallbacks.ts"
import * as Progress from "./recovery/Progress.ts"
import * as Pruning from "./recovery/Pruning.ts"
import * as Requests from "./recovery/Requests.ts"
import * as Views from "./recovery/Views.ts"

export const layer = (
  location: StoreLocation,
  options: SqlDeliveryStore.SqlDeliveryStoreOptions
): Layer.Layer<DeliveryStore | RecoveryStore, StoreUnusable> =>
  Layer.effectContext(Effect.map(SqlDeliveryStore.open(location, options), (session) => {
    const safe = SqlDeliveryStore.guarded(session)
    const asked = SqlDeliveryStore.guarded(session, "question")
    const fallbacks = Fallbacks.make(session)
    const progress = Progress.make(session)
    const requests = Requests.make(session)
    const store = SqlDeliveryStore.make(session, {
      memory: Arriving.make(session),
      recoveriesOf: Views.make(session),
      forget: Pruning.make(session)
    })
    const recovery = RecoveryStore.of({
      lead: (millis) => safe(progress.lead(millis)),
      resign: safe(progress.resign),
      progress: safe(progress.progress),
      advance: (change) => safe(progress.advance(change)),
      recall: (guids, hookId) => asked(fallbacks.recall(guids, hookId)),
      want: (wanted, which) => safe(requests.want(wanted, which)),
      giveUp: (given) => safe(requests.giveUp(given)),
      wanted: (limit) => safe(requests.wanted(limit)),
      asking: (guid, retryIn, asks) => safe(requests.asking(guid, retryIn, asks)),
      lastArrivalAt: asked(requests.lastArrivalAt),
      recoveryCounts: (run) => asked(requests.recoveryCounts(run)),
      keepFallbacks: (records) => safe(fallbacks.keepFallbacks(records)),
      lackingSince: asked(fallbacks.lackingSince)
    })
    return Context.make(DeliveryStore, store).pipe(Context.add(RecoveryStore, recovery))
  }))
