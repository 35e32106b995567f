import type { AttemptReport } from "./AttemptReport.ts"
import type { Backend } from "./Backend.ts"
import type { Body } from "./Body.ts"
import type { SharedFields } from "./LogEntry.ts"

/** A verified webhook request of GitHub's, as it goes out to every backend. */
export interface Delivery {
  /** Ties the reply to the log lines. */
  readonly requestId: string
  /** `X-GitHub-Delivery`: a GUID that a redelivery keeps. Undefined where the sender gave none. */
  readonly guid: string | undefined
  /** `X-GitHub-Event`. */
  readonly event: string | undefined
  readonly method: string
  /** The request target as received: path and query. */
  readonly target: string
  /** The path and query that go after each backend's `basePath`. */
  readonly forwardedTarget: string
  /** The headers that go out: name and value in turn. */
  readonly headers: Array<string>
  readonly body: Body
  /** Undefined when tracing is off. */
  readonly trace?: DeliveryTrace | undefined
  /** The fields that all log lines of this delivery share. Only the log writes it. */
  logged?: SharedFields | undefined
}

/** The trace of one delivery. It ends by itself when the response is closed. */
export interface DeliveryTrace {
  /** For log lines: 32 hex digits here, 16 in `spanId`. */
  readonly traceId: string
  readonly spanId: string
  /** Called when the body is about to be read. */
  readonly verifying: () => void
  readonly verified: (matches: boolean) => void
  readonly attempt: (backend: Backend, delivery: Delivery) => AttemptTrace
}

/** The trace of one attempt. */
export interface AttemptTrace {
  /** The delivery's headers as this backend gets them: with a trace context that names this attempt. */
  readonly headers: Array<string>
  /** Called once. */
  readonly end: (report: AttemptReport) => void
}
