/**
 * The store, in which deliveries are written down in durable mode, with a row for each backend of a delivery.
 *
 * **Details**
 *
 * - A `pending` row is due at some time of the store's clock. Whoever claims it owns it for the length of a lease, and
 *   after that it is due again.
 * - Deliveries are recognised by their fingerprint: hook id, GUID and the SHA-256 of the body. The GUID alone is not
 *   enough, because two GitHub Apps share GUIDs, and headers are not signed.
 * - Bodies and headers are kept byte for byte. Other texts from outside may lose what is no Unicode, or NUL, or all but
 *   their beginning: names after 200 characters.
 * - All times that go in or out are Unix times in milliseconds, for people to read. The store's clock decides all that
 *   depends on time. If a process has to decide by time, it gets an age, and counts on from it with a monotonic clock.
 *
 * **Gotchas**
 *
 * Every operation may fail with `StoreUnavailable` at any time. After a failed `write` nobody knows whether it
 * happened.
 */
import * as Context from "effect/Context"
import type { BackendRecords } from "./contract/Backends.ts"
import type { DeliveryRecords } from "./contract/Operator.ts"
import type { DeliveryQueue } from "./contract/Queue.ts"
import type { StoreUpkeep } from "./contract/Upkeep.ts"

export class DeliveryStore extends Context.Service<
  DeliveryStore,
  DeliveryQueue & StoreUpkeep & DeliveryRecords & BackendRecords
>()("sprayproxy/store/DeliveryStore") {}
