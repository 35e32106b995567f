/** The first log lines, and the steps that need the listener's port. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { HttpServer } from "effect/http/HttpServer"
import * as NetAddress from "effect/net/NetAddress"
import packageJson from "../package.json" with { type: "json" }
import { BackendRegistry } from "./backends/Registry.ts"
import { unusedFaults } from "./backends/connections/ProxyRules.ts"
import { Log } from "./observability/logs/Logging.ts"
import { OwnListeners } from "./runtime/OwnListeners.ts"
import { Settings } from "./settings/Settings.ts"
import { type Environment, variableWarnings } from "./settings/Variables.ts"
import { warnings } from "./settings/Warnings.ts"

export const announceFrom = Effect.fnUntraced(function*(env: Environment) {
  const settings = yield* Settings
  const log = yield* Log
  const own = yield* OwnListeners
  const registry = yield* BackendRegistry
  const { address } = yield* HttpServer

  const origins = settings.backends.map(({ origin }) => new URL(origin))
  const proxyWarnings = unusedFaults(origins, env).map(({ message }) => `${message} (no backend uses it)`)
  for (const warning of [...warnings(settings), ...variableWarnings(env), ...proxyWarnings]) log.write("warn", warning)
  if (NetAddress.isUnixPathAddress(address)) return
  own.add(address.port)
  log.write("info", "listening", {
    address: NetAddress.formatIp(address.address),
    port: address.port,
    version: packageJson.version,
    backends: registry.snapshot().map(({ name }) => name).join(", "),
    store: Option.getOrUndefined(settings.store)?.kind
  })
})

export const announce = Effect.suspend(() => announceFrom(process.env))
