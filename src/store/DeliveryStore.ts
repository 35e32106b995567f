/**
 * Where deliveries are written down in durable mode, with what each backend has had of them.
 *
 * **Details**
 *
 * - A delivery has a row for each backend it goes to. A row that is `pending` is due at some time of the store's clock;
 *   whoever claims it owns it for the length of a lease, and after that it is due again.
 * - Deliveries are recognised by their fingerprint: hook id, GUID and the SHA-256 of the body. Two GitHub Apps share GUIDs,
 *   and headers are not signed.
 * - Bodies and headers are kept byte for byte. Other texts from outside may lose what is no Unicode, or NUL, or all but their
 *   beginning: names after 200 characters.
 * - All times that go in or out are Unix times in milliseconds, for people to read. All that is decided by time is decided by
 *   the store's clock: what a process has to decide by comes as an age, from which it counts on with a clock that never steps.
 *
 * **Gotchas**
 *
 * Every operation may fail with `StoreUnavailable` at any time, and after a failed `write` it is open whether it happened.
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
