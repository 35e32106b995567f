/**
 * The pseudonym of this deployment in the header `Via` (RFC 9110 §7.6.3), by which a delivery that has been here before
 * is known.
 *
 * **Details**
 *
 * A loop may come back to another of our replicas. So all replicas go by one name, made of what they share: the static
 * backends and the PostgreSQL database of the store. If there is neither, a process is alone and its name is random.
 * Another deployment that forwards to us, or that we forward to, has other backends, although it may have the same
 * webhook secret.
 *
 * Backends see the name. It is hashed with the webhook secret, because otherwise whoever guesses our addresses could
 * confirm them. While two secrets are accepted there are two names, and the first is written.
 *
 * **Gotchas**
 *
 * While a rollout changes what the name is made of, replicas have different names. A loop then ends when `Via` names
 * too many sprayproxies.
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
  /** All names that are ours now, never empty. The first is the one that is written. */
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

/**
 * The identity of a database: its server and its name, without the user who connects. A SQLite file has none, because
 * it is one process's, and other machines may have the same path.
 */
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

/** Without a secret nothing is verified, and the name hides nothing from whoever guesses the addresses. */
const namesOf = (shared: string, keys: ReadonlyArray<KeyObject>): readonly [string, ...ReadonlyArray<string>] => {
  const [first = "", ...others] = keys
  const name = (key: KeyObject | "") =>
    `sprayproxy-${createHmac("sha256", key).update(shared).digest("hex").slice(0, 16)}`
  return [name(first), ...others.map(name)]
}
