/** Effect's `HttpServer` on the settings' host and one of their ports. A start that fails for it names the setting. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { HttpServer } from "effect/http/HttpServer"
import { innermostMessage } from "../domain/Text.ts"
import { Settings } from "../settings/Settings.ts"
import { flagOf } from "../settings/Table.ts"

/** The message is one line. */
class CannotListen extends Schema.TaggedError<CannotListen>()("CannotListen", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

type NodeServer = Parameters<typeof NodeHttpServer.make>[0]
type Options = Omit<Parameters<typeof NodeHttpServer.make>[1], "host" | "port">

export const layer = (setting: "port" | "metricsPort", server: NodeServer, options: Options = {}) =>
  Layer.effect(
    HttpServer,
    Effect.gen(function*() {
      const settings = yield* Settings
      const { host, [setting]: port } = settings
      return yield* Effect.mapError(
        NodeHttpServer.make(server, { ...options, port, ...(host === "" ? {} : { host }) }),
        ({ cause }) => new CannotListen({ reason: `can't listen on ${reasonOf(cause, settings, setting)}` })
      )
    })
  )

const reasonOf = (cause: unknown, settings: Settings["Service"], setting: "port" | "metricsPort"): string => {
  const nameOf = (field: "host" | typeof setting) => settings.given[field] ?? flagOf(field)
  const host = `${nameOf("host")} ${settings.host}`
  const port = `${nameOf(setting)} ${settings[setting]}${settings.host === "" ? "" : ` (${host})`}`
  switch ((cause as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return `${port}: the port is in use already`
    case "EACCES":
      return `${port}: this user may not have the port, as is usual below 1024`
    case "EADDRNOTAVAIL":
      return `${host}: no interface of this machine has the address`
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `${host}: the name can't be resolved`
    default:
      return `${port}: ${innermostMessage(cause)}`
  }
}
