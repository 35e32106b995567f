/** The contract that every `DeliveryStore` must fulfil, on whatever it is built. */
import { layer as testLayer } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { Databases } from "../../support/StoreDatabases.ts"
import * as Arriving from "./Arriving.ts"
import * as Backends from "./Backends.ts"
import * as Claiming from "./Claiming.ts"
import * as Operating from "./Operating.ts"
import * as Pruning from "./Pruning.ts"
import * as Recovering from "./Recovering.ts"
import * as Redeliveries from "./Redeliveries.ts"
import * as Replicas from "./Replicas.ts"
import * as Settling from "./Settling.ts"
import * as Transactions from "./Transactions.ts"
import * as Writing from "./Writing.ts"

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
    Transactions.tests(it)
    Pruning.tests(it)
    Operating.tests(it)
    Backends.tests(it)
    if (replicas) Replicas.tests(it)
  })

/** The contract that it must fulfil beside that if recovery is on. */
export const recoveryContract = (
  what: string,
  databases: Layer.Layer<Databases>,
  { replicas }: { readonly replicas: boolean }
) =>
  testLayer(databases, { timeout: "60 seconds" })(`${what} as a store with recovery`, (it) => {
    Recovering.tests(it, { replicas })
    Arriving.tests(it)
  })
