// Placeholder so that the build works: to be overwritten as a whole by the one who writes the SQL store.
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { DeliveryStore, StoreUnusable } from "./DeliveryStore.ts"
import type { StoreLocation } from "./StoreLocation.ts"
export const layer = (
  _location: StoreLocation,
  _options: { readonly owner: string; readonly lease?: number }
): Layer.Layer<DeliveryStore, StoreUnusable> => Layer.effect(DeliveryStore, Effect.die("not yet"))
