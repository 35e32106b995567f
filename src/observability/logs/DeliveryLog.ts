/**
 * The log lines of deliveries: one for the reply, one for each attempt. They never hold a secret or a signature, and of a
 * payload only what a backend's error answer repeats.
 *
 * The words `proxied request` are those of the original sprayproxy, because people search for them.
 *
 * This file is on the path of each delivery, and keeps the rules of `forwarding/README.md`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"
import { SharedFields } from "../../domain/LogEntry.ts"
import * as Outcome from "../../domain/Outcome.ts"
import { answerJson, backendJson, deliveryJson, targetFields } from "./DeliveryJson.ts"
import { Log } from "./Logging.ts"
import { Rejections } from "./Rejections.ts"

export class DeliveryLog extends Context.Service<DeliveryLog, {
  readonly attempted: (delivery: Delivery, backend: Backend, report: AttemptReport) => void
  /** `outcome` is the reply, in a word. `latency` is in seconds since the request's head was read. */
  readonly answered: (delivery: Delivery, status: number, outcome: string, latency: number) => void
  readonly hungUp: (delivery: Delivery, latency: number) => void
  /** The sender sends nothing more. Most senders have hung up then, but some read on, so the reply still goes out. */
  readonly senderClosed: (delivery: Delivery, latency: number) => void
}>()("sprayproxy/observability/logs/DeliveryLog") {
  static readonly layer = Layer.effect(
    DeliveryLog,
    Effect.map(Log, (log) => {
      const rejections = new Rejections()
      return DeliveryLog.of({
        attempted: (delivery, backend, report) => {
          const { answer, error, outcome, status } = report
          const latency = seconds(report.latency)
          const tries = report.requests > 1 ? report.requests : undefined
          // Only the other fields can have a word in them that is not ours.
          const isPlain = status !== undefined && error === undefined && tries === undefined && answer === undefined
          const name = isPlain ? backendJson(backend) : undefined
          log.write(
            Outcome.isSuccess(outcome) ? "info" : "error",
            status === undefined ? "proxy error" : "proxied request",
            { backend: backend.name, status, latency, outcome, error, tries, answer },
            shared(delivery),
            isPlain && name !== undefined ? name + answerJson(status, latency, outcome) : undefined
          )
          const warning = rejections.warning(delivery, backend, report)
          if (warning !== undefined) log.write("warn", warning, { backend: backend.name }, shared(delivery))
        },
        answered: (delivery, status, outcome, latency) =>
          log.write(
            status < 500 ? "info" : "error",
            "delivery answered",
            { status, latency, outcome },
            shared(delivery),
            answerJson(status, latency, outcome)
          ),
        hungUp: (delivery, latency) =>
          log.write("warn", "client hung up before the reply, forwarding goes on", { latency }, shared(delivery)),
        senderClosed: (delivery, latency) =>
          log.write(
            "warn",
            "client hung up or closed its side before the reply, forwarding goes on",
            { latency },
            shared(delivery)
          )
      })
    })
  )
}

const shared = (delivery: Delivery): SharedFields =>
  delivery.logged ??= new SharedFields(fieldsOf(delivery), deliveryJson(delivery))

const fieldsOf = (delivery: Delivery) => ({
  "request-id": delivery.requestId,
  delivery: delivery.guid,
  event: delivery.event,
  trace_id: delivery.trace?.traceId,
  span_id: delivery.trace?.spanId,
  method: delivery.method,
  ...targetFields(delivery.target)
})

/** Milliseconds as seconds, the unit of the log, to the microsecond. */
export const seconds = (millis: number): number => Math.round(millis * 1_000) / 1_000_000
