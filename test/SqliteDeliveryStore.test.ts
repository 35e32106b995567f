import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DeliveryStore } from "../src/DeliveryStore.ts"
import * as SqlDeliveryStore from "../src/SqlDeliveryStore.ts"
import { Databases, deliveryStoreContract, testTime } from "./DeliveryStoreContract.ts"

const databases = Layer.succeed(
  Databases,
  Databases.of({
    create: Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-sqlite-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const location = { kind: "sqlite", path: join(directory, "deliveries.db") } as const
      const open = (owner: string) =>
        Effect.orDie(Effect.map(Layer.build(SqlDeliveryStore.layer(location, { owner })), Context.get(DeliveryStore)))
      return { ...testTime, open }
    })
  })
)

deliveryStoreContract("SQLite", databases, { replicas: false })
