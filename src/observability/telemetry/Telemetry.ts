/**
 * OpenTelemetry over OTLP/HTTP, as the environment asks for it.
 *
 * **Details**
 *
 * Importing the SDK takes as long as everything else together, so it is imported only if a signal is on.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Instance } from "../../runtime/Instance.ts"
import type { Settings } from "../../settings/Settings.ts"
import type { Environment } from "../../settings/Variables.ts"
import { Log } from "../logs/Logging.ts"
import { signalsOf } from "./Signals.ts"
import { Tracing } from "./Tracing.ts"

type TelemetryLayer = Layer.Layer<Tracing, never, Log | Settings | Instance>

/** If logs are on, puts a `Log` that also exports over the one that it is given. The SDK reads `process.env` itself. */
export const layerFrom = (env: Environment): TelemetryLayer =>
  Layer.unwrap(Effect.gen(function*() {
    const log = yield* Log
    const { signals, warnings } = signalsOf(env)
    for (const warning of warnings) log.write("warn", warning)
    if (!signals.traces && !signals.logs && !signals.metrics) return Tracing.layerOff
    const sdk = yield* Effect.promise(() => import("./Sdk.ts"))
    return sdk.layer(signals)
  }))

export const layer: TelemetryLayer = Layer.suspend(() => layerFrom(process.env))
