/**
 * `GET /metrics` on a listener of its own, for a sidecar or for Prometheus itself. The listener speaks plain HTTP, or
 * TLS with a certificate that is loaded again when its files change.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServer } from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as NetAddress from "effect/net/NetAddress"
import { createServer } from "node:http"
import { Log } from "../observability/logs/Logging.ts"
import * as PrometheusText from "../observability/metrics/PrometheusText.ts"
import { OwnListeners } from "../runtime/OwnListeners.ts"
import { Settings } from "../settings/Settings.ts"
import * as Listener from "./Listener.ts"
import { addNotFound, addPath, routerConfig } from "./MethodRoutes.ts"
import { tlsServer } from "./MetricsCertificate.ts"

const routes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  yield* addPath(router, "/metrics", {
    GET: () =>
      Effect.succeed(HttpServerResponse.stream(PrometheusText.stream, { contentType: PrometheusText.contentType }))
  })
  yield* addNotFound(router)
}))

const announce = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* HttpServer
  const own = yield* OwnListeners
  const log = yield* Log
  if (NetAddress.isUnixPathAddress(address)) return
  own.add(address.port)
  log.write("info", "metrics listening", { address: NetAddress.formatIp(address.address), port: address.port })
}))

const listener = Layer.unwrap(Effect.gen(function*() {
  const { metricsCert, metricsKey } = yield* Settings
  const server = Option.isNone(metricsCert) || Option.isNone(metricsKey)
    ? createServer()
    : yield* tlsServer(metricsCert.value, metricsKey.value)
  // A scraper that is connected and silent must not hold up the end of the process.
  const end = Effect.sync(() => {
    server.close()
    server.closeAllConnections()
  })
  return Layer.effectDiscard(Effect.addFinalizer(() => end)).pipe(
    Layer.provideMerge(Listener.layer("metricsPort", () => server, { disablePreemptiveShutdown: true }))
  )
}))

export const layer = Layer.mergeAll(
  HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true, routerConfig }),
  announce
).pipe(Layer.provide(listener))
