/**
 * The store's records of recovery. It is there only if recovery is on. It is the same database as the `DeliveryStore`,
 * and each write of a delivery changes both.
 *
 * **Details**
 *
 * - Times of GitHub's log are by GitHub's clock, and all others by the store's. The two are never compared here.
 * - A delivery that arrives while it is missing is `recovered`, and only fills gaps: it goes to backends that lack it.
 *   The same holds for one that arrives soon after a request, because GitHub or a person may have sent it as well.
 * - A delivery that went without the store goes only to backends that lack it. If all have it and nobody asked GitHub
 *   for it here, somebody asked on purpose, and it goes to all.
 */
import * as Context from "effect/Context"
import type { RecoveryRecords } from "./contract/Recovery.ts"

export class RecoveryStore extends Context.Service<RecoveryStore, RecoveryRecords>()(
  "sprayproxy/store/RecoveryStore"
) {}
