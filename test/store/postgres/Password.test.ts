import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import { passwordsOf } from "../../../src/store/postgres/Password.ts"
import { opened } from "../../support/StoreDatabases.ts"
import { postgresUnavailable, query, sharedPostgres } from "../../support/postgres/Postgres.ts"

/** Passwords that PostgreSQL prepares (RFC 4013's examples), and ones that it can't prepare and takes as they are. */
const passwords = {
  "letters beyond ASCII": "pässwörd",
  "letters that are put together": "pa\u0308sswo\u0308rd",
  "a soft hyphen, which goes": "I\u00adX",
  "a roman numeral, which becomes letters": "\u2168",
  "a feminine ordinal, which becomes a letter": "\u00aa",
  "a no-break space, which becomes a space": "a\u00a0b",
  "a zero-width space, which becomes one too": "a\u200bb",
  "nothing that would be left": "\u00ad\u00ad",
  "a character younger than the RFC, beside a ligature": "\u{1f511}\ufb01",
  "a control character beside a ligature": "a\u0007\ufb01",
  "both directions": "\u0627\ufb01"
}

const unavailable = postgresUnavailable()

describe.skipIf(unavailable !== undefined)(unavailable ?? "PostgreSQL", () => {
  describe("a password with", () => {
    for (const [what, password] of Object.entries(passwords)) {
      it.live(what, () =>
        Effect.gen(function*() {
          const url = new URL(yield* (yield* sharedPostgres).createDatabase)
          const name = url.pathname.slice(1)
          yield* query(url.href, `CREATE ROLE ${name} LOGIN PASSWORD '${password}'`)
          yield* query(url.href, `ALTER DATABASE ${name} OWNER TO ${name}`)
          url.username = name
          url.password = encodeURIComponent(password)
          const store = yield* opened(
            SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(url.href) }, { owner: "one" })
          )
          assert.deepStrictEqual(yield* store.backlogs, [])
        }))
    }

    it.live("nothing but ASCII is tried once, as it is", () =>
      Effect.sync(() => {
        assert.deepStrictEqual(passwordsOf("postgres://me:p%20%25w@db.example.com/x"), [])
        assert.deepStrictEqual(passwordsOf("postgres://me@db.example.com/x"), [])
      }))

    it.live("the query's spelling goes over that before the host", () =>
      Effect.sync(() => {
        const url = "postgres://me:one@db.example.com/x?password=%E2%85%A8"
        assert.deepStrictEqual(passwordsOf(url).map(Redacted.value), ["IX", "\u2168"])
      }))
  })
})
