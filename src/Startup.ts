/** What the first log lines say, and what is known only when the listener has its port. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { HttpServer } from "effect/http/HttpServer"
import * as NetAddress from "effect/net/NetAddress"
import packageJson from "../package.json" with { type: "json" }
import { BackendPolicy } from "./BackendPolicy.ts"
import { BackendRegistry } from "./BackendRegistry.ts"
import { Log } from "./Logging.ts"
import { Settings, warnings } from "./Settings.ts"

export const announce = Effect.gen(function*() {
  const settings = yield* Settings
  const log = yield* Log
  const policy = yield* BackendPolicy
  const registry = yield* BackendRegistry
  const { address } = yield* HttpServer

  for (const warning of warnings(settings)) log.write("warn", warning)
  if (NetAddress.isUnixPathAddress(address)) return
  policy.addOwnListener(address.port)
  log.write("info", "listening", {
    address: NetAddress.formatIp(address.address),
    port: address.port,
    version: packageJson.version,
    backends: registry.snapshot().map(({ name }) => name).join(", "),
    store: Option.getOrUndefined(settings.store)?.kind
  })
})
