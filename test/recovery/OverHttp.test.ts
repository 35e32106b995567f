/** Recovery with the real client, against a server that stands in for GitHub, in real time. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { FallbackRecords } from "../../src/durable/fallback/FallbackRecords.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log } from "../../src/observability/logs/Logging.ts"
import * as Mode from "../../src/recovery/Mode.ts"
import { Recovery } from "../../src/recovery/Recovery.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { WebhookVerifier } from "../../src/webhook/Verifier.ts"
import { listen } from "../support/Backend.ts"
import { filesInMemory } from "../support/FilesInMemory.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import { newDelivery as stored } from "../support/StoreDatabases.ts"
import { eventually } from "../support/eventually.ts"
import { newDelivery } from "../support/github/Delivery.ts"
import { notConnected } from "../support/github/Hook.ts"
import { startGitHub } from "../support/github/StandIn.ts"

const keyFile = "/run/github.pem"
const hour = 3_600_000

describe("recovery over GitHub's API", () => {
  it.live(
    "asks for each missing delivery once, by ids that no number holds, and for none that is held",
    () =>
      Effect.gen(function*() {
        const { app, url } = yield* startGitHub()
        const services = yield* Layer.build(
          Mode.layerReconciler.pipe(
            Layer.provideMerge(Mode.layerRecovery({ id: Number(app.identity.appId), keyFile })),
            Layer.provideMerge(MemoryDeliveryStore.layer()),
            Layer.provideMerge(Layer.mergeAll(
              Layer.mock(BackendRegistry)({
                snapshot: () => [],
                isKnown: () => true,
                isFiltered: () => false,
                filterOf: () => undefined,
                recordOutcome: () => {}
              }),
              Layer.mock(WebhookVerifier)({ begin: () => "signature missing", isReady: () => true }),
              FallbackRecords.layerNone,
              Readiness.layer,
              Timers.layer,
              UnexpectedFailures.layer,
              filesInMemory(new Map([[keyFile, app.privateKey()]]))
            )),
            Layer.provideMerge(Log.layerTest),
            Layer.provide(Settings.layerFrom({ githubApiUrl: url, recoveryPace: Duration.zero }))
          )
        )
        const store = Context.get(services, DeliveryStore)
        const { look, status } = Context.get(services, Recovery)
        const take = (guid: string) =>
          Effect.runPromise(store.write({
            deliveries: [stored({ guid, hookId: app.identity.hookId, body: Buffer.from(guid) })],
            settlements: []
          }))
        const port = yield* listen(Http.createServer((request, response) => {
          const taken = take(String(request.headers["x-github-delivery"]))
          request.resume().on("end", () => void taken.then(() => response.writeHead(202).end()))
        }))
        app.hookUrl = `http://127.0.0.1:${port}`
        const deliveries = Array.from({ length: 250 }, () => newDelivery("push"))
        for (const delivery of deliveries) app.record(delivery, notConnected, { at: app.now() - hour })
        const held = deliveries.slice(0, 50).map(({ guid }) => guid)
        yield* Effect.promise(() => Promise.all(held.map(take)))

        const told = yield* Stream.runCollect(look({ since: app.now() - 2 * hour, dryRun: false, run: "r" }))
        assert.include(told.at(-1), { kind: "report", attempts: 250, failed: 250, held: 50, missing: 200 })
        const ended = () => Effect.runPromise(Effect.map(status("r"), ({ recovered }) => recovered === 200))
        yield* Effect.promise(() => eventually(ended, "the recovery of all"))
        assert.sameMembers([...app.askedFor], deliveries.slice(50).map(({ guid }) => guid))
      }),
    40_000
  )
})
