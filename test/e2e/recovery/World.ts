/** GitHub, the way from there, replicas of the built program with recovery on one store, and backends: in one time. */
/* oxlint-disable no-await-in-loop -- one thing after another */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { list } from "../../crash/Operator.ts"
import { Server } from "../../crash/Server.ts"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import type { App } from "../../support/github/App.ts"
import type { Delivery } from "../../support/github/Delivery.ts"
import { secret } from "../../support/github/Headers.ts"
import { startApi, startGitHub } from "../../support/github/StandIn.ts"
import { temporaryDirectory } from "../durable/DurableProgram.ts"
import { type Route, startRoute } from "./Route.ts"
import type { TimedStore } from "./Stores.ts"
import { Time } from "./Time.ts"

export interface Replica {
  readonly server: Server
  readonly port: number
  /** It asks GitHub there. */
  readonly apiPort: number
}

export interface World {
  readonly app: App
  readonly time: Time
  readonly route: Route
  readonly backends: ReadonlyArray<TestBackend>
  /** Those that run. */
  readonly replicas: ReadonlyArray<Replica>
  /** Starts all replicas, and leads the route to them. */
  readonly startAll: () => Promise<void>
  /** How many processes there were. */
  readonly started: () => number
  readonly killAll: () => Promise<void>
  readonly stopAll: () => Promise<void>
  readonly kill: (replica: Replica) => Promise<void>
  /** The webhook secret that is mounted. */
  readonly mountSecret: (secret: string) => void
  /** GitHub sends all of them, a few at a time. */
  readonly deliver: (deliveries: ReadonlyArray<Delivery>) => Promise<void>
  /** The GUIDs that the ledger holds. */
  readonly held: () => Promise<ReadonlySet<string>>
}

const atOnce = 16

export const startWorld = Effect.fnUntraced(function*(
  store: TimedStore
): Effect.fn.Return<World, never, Scope.Scope> {
  const directory = yield* temporaryDirectory
  const secretFile = join(directory, "secret")
  const keyFile = join(directory, "key.pem")
  const time: Time = new Time(store.setTime, () => app.requests.length + app.log.all.length)
  const { app } = yield* startGitHub({ now: time.now })
  const apis = yield* Effect.all(Array.from({ length: store.replicas }, () => startApi(app)))
  const route = yield* startRoute
  app.hookUrl = route.url
  writeFileSync(keyFile, app.privateKey())
  const mountSecret = (value: string) => writeFileSync(secretFile, value)
  mountSecret(secret)
  const backends = yield* Effect.all([startBackend(), startBackend(), startBackend()])
  const args = [
    ...backends.flatMap((backend) => ["--backend", backend.url]),
    `--store=${store.url}`,
    `--webhook-secret-file=${secretFile}`,
    `--github-app-id=${app.identity.appId}`,
    `--github-private-key-file=${keyFile}`,
    "--recovery-pace=0s"
  ]
  const replicas = new Set<Replica>()
  let started = 0
  const start = async (api: string) => {
    const preload = new URL("./Jumps.ts", import.meta.url).href
    const server = new Server([...args, "--github-api-url", api], { preload, env: { TIME_AHEAD: String(time.ahead) } })
    started += 1
    const { port } = await server.listening
    time.join(server)
    replicas.add({ server, port, apiPort: Number(new URL(api).port) })
    route.add(port)
  }
  const kill = async (replica: Replica) => {
    route.remove(replica.port)
    replicas.delete(replica)
    await replica.server.kill()
  }
  yield* Effect.addFinalizer(() =>
    Effect.promise(() =>
      Promise.all([...replicas].map(({ server }) => {
        server.process.kill("SIGKILL")
        return server.exit
      }))
    )
  )
  return {
    app,
    time,
    route,
    backends,
    mountSecret,
    kill,
    started: () => started,
    get replicas() {
      return [...replicas]
    },
    startAll: async () => {
      for (const api of apis) await start(api)
    },
    killAll: async () => {
      await Promise.all([...replicas].map(kill))
    },
    stopAll: async () => {
      for (const replica of replicas) {
        route.remove(replica.port)
        replicas.delete(replica)
        const code = await replica.server.stop()
        if (code !== 0) throw new Error(`told to stop, it ended with exit code ${code}`)
      }
    },
    deliver: async (deliveries) => {
      const left = deliveries.values()
      await Promise.all(
        Array.from({ length: atOnce }, async () => {
          for (const delivery of left) await app.deliver(delivery)
        })
      )
    },
    held: async () => new Set((await list([...replicas][0]!.port, { limit: "500" })).map(({ guid }) => guid))
  }
})
