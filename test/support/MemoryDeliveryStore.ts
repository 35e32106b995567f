/**
 * A delivery store without a disk, for tests. It keeps the whole contract on Effect's `Clock`, so that `TestClock`
 * drives it.
 *
 * **Details**
 *
 * - Two layers with one `shared` database and different owners are two replicas.
 * - The database can be told to fail, to hang, and to lose its answers.
 */
import * as Layer from "effect/Layer"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { RecoveryStore } from "../../src/store/RecoveryStore.ts"
import { leaseMillis } from "../../src/store/contract/Row.ts"
import { backendRecords } from "./memory/Backends.ts"
import { MemoryDatabase } from "./memory/Database.ts"
import { records } from "./memory/Operator.ts"
import { queue } from "./memory/Queue.ts"
import { recoveryRecords } from "./memory/Recovery.ts"
import { upkeep } from "./memory/Upkeep.ts"

export { MemoryDatabase } from "./memory/Database.ts"

export interface Options {
  readonly owner?: string
  /** Milliseconds. */
  readonly lease?: number
  readonly shared?: MemoryDatabase
}

export const layer = (
  { lease = leaseMillis, owner = "memory", shared }: Options = {}
): Layer.Layer<DeliveryStore | RecoveryStore> =>
  Layer.suspend(() => {
    const replica = { database: shared ?? new MemoryDatabase(), owner, lease }
    return Layer.mergeAll(
      Layer.succeed(
        DeliveryStore,
        DeliveryStore.of({
          ...queue(replica),
          ...upkeep(replica),
          ...records(replica),
          ...backendRecords(replica)
        })
      ),
      Layer.succeed(RecoveryStore, RecoveryStore.of(recoveryRecords(replica)))
    )
  })
