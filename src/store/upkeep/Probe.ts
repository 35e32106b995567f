/** A write that finds out whether the store takes any. */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type { StoreSession } from "../Session.ts"

/** In a transaction, as everything else is written. */
export const make = ({ sql }: StoreSession) =>
  Effect.suspend(() =>
    // Random, or a database would compress it and find room for it on a full disk.
    sql`INSERT INTO probes (id, filling) VALUES (1, ${randomBytes(size)})
      ON CONFLICT (id) DO UPDATE SET filling = excluded.filling`
  ).pipe(sql.withTransaction, Effect.asVoid)

/** Bytes of a usual delivery. */
const size = 8 * 1024
