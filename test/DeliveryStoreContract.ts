/** What every `DeliveryStore` has to do, on whatever it is built. */
import { layer as testLayer } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { Databases } from "./StoreDatabases.ts"
import * as Backends from "./contract/Backends.ts"
import * as Claiming from "./contract/Claiming.ts"
import * as Operating from "./contract/Operating.ts"
import * as Pruning from "./contract/Pruning.ts"
import * as Redeliveries from "./contract/Redeliveries.ts"
import * as Replicas from "./contract/Replicas.ts"
import * as Settling from "./contract/Settling.ts"
import * as Writing from "./contract/Writing.ts"

export const deliveryStoreContract = (
  what: string,
  databases: Layer.Layer<Databases>,
  { replicas }: { readonly replicas: boolean }
) =>
  testLayer(databases, { timeout: "60 seconds" })(`${what} as a delivery store`, (it) => {
    Writing.tests(it)
    Redeliveries.tests(it)
    Claiming.tests(it)
    Settling.tests(it)
    Pruning.tests(it)
    Operating.tests(it)
    Backends.tests(it)
    if (replicas) Replicas.tests(it)
  })
