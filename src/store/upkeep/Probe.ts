/** The probe: a write that finds out whether the store takes any. */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type { StoreSession } from "../Session.ts"

/** It is written in a transaction, as everything else is. */
export const make = ({ sql }: StoreSession) =>
  Effect.suspend(() =>
    // The bytes are random. Otherwise a database would compress them and find room for them on a full disk.
    sql`INSERT INTO probes (id, filling) VALUES (1, ${randomBytes(size)})
      ON CONFLICT (id) DO UPDATE SET filling = excluded.filling`
  ).pipe(sql.withTransaction, Effect.asVoid)

/** The bytes of a usual delivery. */
const size = 8 * 1024
