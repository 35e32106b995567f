/**
 * Who we are in a `Via` header (RFC 9110 §7.6.3): how a delivery is known that has been here before.
 *
 * **Details**
 *
 * A loop may come back to another replica of ours, so all of them go by one name, which they make of what they share: the static
 * backends and the PostgreSQL of the store. Where there is neither, a process is alone and its name is random. Another deployment
 * that forwards to us or that we forward to has other backends, although it may have the same webhook secret.
 *
 * Backends see the name. It is hashed with the webhook secret, or whoever guesses our addresses would find them confirmed.
 * While two secrets are accepted we have two names; the first is written.
 *
 * **Gotchas**
 *
 * While a rollout changes what the name is made of, replicas have two. A loop then ends when `Via` has too many of us in it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { createHmac, type KeyObject } from "node:crypto"
import { Instance } from "../runtime/Instance.ts"
import { Settings } from "../settings/Settings.ts"
import { serverOf, type StoreLocation } from "../settings/StoreLocation.ts"
import { WebhookSecrets } from "./Secrets.ts"

export class Pseudonym extends Context.Service<Pseudonym, {
  /** All names that are ours now, the one that is written first; never empty. */
  readonly names: () => readonly [string, ...ReadonlyArray<string>]
}>()("sprayproxy/webhook/Pseudonym") {
  static readonly layer = Layer.effect(
    Pseudonym,
    Effect.gen(function*() {
      const { backends, store } = yield* Settings
      const { name: instance } = yield* Instance
      const secrets = yield* WebhookSecrets
      const database = Option.getOrUndefined(Option.flatMap(store, databaseOf))
      if (backends.length === 0 && database === undefined) return Pseudonym.of({ names: () => [instance] })

      const shared = JSON.stringify(["sprayproxy", database ?? null, ...backends.map(({ key }) => key).toSorted()])
      let keys = secrets.current()
      let names = namesOf(shared, keys)
      return Pseudonym.of({
        names: () => {
          if (secrets.current() !== keys) names = namesOf(shared, keys = secrets.current())
          return names
        }
      })
    })
  )
}

/** Who and where it is, and not as whom one comes there. A SQLite file is one process's: its path may be anybody's. */
const databaseOf = (location: StoreLocation): Option.Option<string> => {
  if (location.kind === "sqlite") return Option.none()
  const { pathname, port, searchParams } = new URL(Redacted.value(location.url))
  const last = (name: string) => searchParams.getAll(name).at(-1)
  return Option.some(JSON.stringify([
    serverOf(location.url).host.toLowerCase(),
    last("port") ?? (port === "" ? "5432" : port),
    last("dbname") ?? decodeURIComponent(pathname.slice(1))
  ]))
}

/** Without a secret nothing is verified, and nothing kept from anybody who guesses either. */
const namesOf = (shared: string, keys: ReadonlyArray<KeyObject>): readonly [string, ...ReadonlyArray<string>] => {
  const [first = "", ...others] = keys
  const name = (key: KeyObject | "") =>
    `sprayproxy-${createHmac("sha256", key).update(shared).digest("hex").slice(0, 16)}`
  return [name(first), ...others.map(name)]
}
