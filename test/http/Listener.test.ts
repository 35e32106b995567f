import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import * as Listener from "../../src/http/Listener.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { listen } from "../support/Backend.ts"

/** The line that the start ends with. With `fault` the system's refusal is made here. */
const refusal = (setting: "port" | "metricsPort", settings: Partial<Settings["Service"]>, fault?: string) => {
  const server = createServer()
  if (fault !== undefined) {
    server.listen = () => {
      process.nextTick(() =>
        server.emit("error", Object.assign(new Error(`listen ${fault}: refused`), { code: fault }))
      )
      return server
    }
  }
  const layer = Layer.provide(Listener.layer(setting, () => server), Settings.layerFrom(settings))
  return Effect.map(Effect.flip(Effect.scoped(Layer.build(layer))), ({ message }) => message)
}

describe("a listener that can't be opened", () => {
  it.live("names the port that is in use, as it was given", () =>
    Effect.scoped(Effect.gen(function*() {
      const taken = yield* listen(createServer())
      const host = "127.0.0.1"
      assert.strictEqual(
        yield* refusal("port", { host, port: taken, given: { port: "SPRAYPROXY_SERVER_PORT" } }),
        `can't listen on SPRAYPROXY_SERVER_PORT ${taken} (--host 127.0.0.1): the port is in use already`
      )
      assert.strictEqual(
        yield* refusal("metricsPort", { host, metricsPort: taken }),
        `can't listen on --metrics-port ${taken} (--host 127.0.0.1): the port is in use already`
      )
    })))

  it.live.each([
    ["EADDRNOTAVAIL", "can't listen on --host ::5: no interface of this machine has the address"],
    ["ENOTFOUND", "can't listen on --host ::5: the name can't be resolved"],
    ["EAI_AGAIN", "can't listen on --host ::5: the name can't be resolved"],
    ["EACCES", "can't listen on --port 80 (--host ::5): this user may not have the port, as is usual below 1024"],
    ["EAFNOSUPPORT", "can't listen on --port 80 (--host ::5): listen EAFNOSUPPORT: refused"]
  ])("says what is the matter: %s", ([fault, line]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* refusal("port", { host: "::5", port: 80 }, fault), line)
    }))

  it.live("names no host where none is set", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* refusal("port", { port: 80 }, "EADDRINUSE"),
        "can't listen on --port 80: the port is in use already"
      )
    }))
})
