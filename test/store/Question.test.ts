import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import { keyOf, newDelivery, opened } from "../support/StoreDatabases.ts"
import { refusal } from "./Starting.ts"

/** A store with a delivery and a dynamic backend, in which somebody has changed something by hand. */
const changed = Effect.fnUntraced(function*(statement: string) {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "sprayproxy-question-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
  )
  const location = { kind: "sqlite", path: join(directory, "deliveries.db") } as const
  const delivery = newDelivery({ to: "a" })
  yield* Effect.scoped(Effect.gen(function*() {
    const store = yield* opened(SqlDeliveryStore.layer(location, { owner: "before" }))
    yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
    yield* store.write({ deliveries: [delivery], settlements: [] })
  }))
  const file = new DatabaseSync(location.path)
  file.exec(statement)
  file.close()
  return { delivery, location, open: opened(SqlDeliveryStore.layer(location, { owner: "one" })) }
})

const reason = "something in it is not as this program writes it"

describe("what is not as this program writes it", () => {
  it.live("is told to an operator, without its words, and nothing else fails for it", () =>
    Effect.gen(function*() {
      const { delivery, open } = yield* changed("UPDATE delivery_rows SET state = 'lost' WHERE backend_key LIKE '%a.%'")
      const store = yield* open
      assert.deepInclude(yield* Effect.flip(store.list({}, { limit: 10 })), { reason, fault: "content" })
      assert.deepInclude(yield* Effect.flip(store.show(delivery.guid!)), { reason, fault: "content" })
      const other = newDelivery({ to: "b" })
      yield* store.write({ deliveries: [other], settlements: [] })
      assert.lengthOf(yield* store.show(other.guid!), 1)
      assert.isDefined(yield* store.load(delivery.id))
    }))

  it.live("is told to who asks for the backends", () =>
    Effect.gen(function*() {
      const { open } = yield* changed("UPDATE backends SET url = x'00'")
      assert.deepInclude(yield* Effect.flip((yield* open).backends), { reason, fault: "content" })
    }))

  it.live("ends a start that has to know it", () =>
    Effect.gen(function*() {
      const { location } = yield* changed("UPDATE store_clock SET seen_at = 'noon'")
      assert.strictEqual(yield* refusal(location), reason)
    }))
})
