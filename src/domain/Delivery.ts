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
  /** What goes after each backend's `basePath`. */
  readonly forwardedTarget: string
  /** Flat list of names and values. */
  readonly headers: Array<string>
  readonly body: Body
  /** Undefined when tracing is off. */
  readonly trace?: DeliveryTrace | undefined
  /** The log's own: what each of its lines says of the delivery. */
  logged?: SharedFields | undefined
}

/** One delivery's trace. It ends by itself, when its response is closed. */
export interface DeliveryTrace {
  /** For log lines: 32 and 16 hex digits. */
  readonly traceId: string
  readonly spanId: string
  /** The body is about to be read. */
  readonly verifying: () => void
  readonly verified: (matches: boolean) => void
  readonly attempt: (backend: Backend, delivery: Delivery) => AttemptTrace
}

export interface AttemptTrace {
  /** The delivery's headers as this backend gets them: with a trace context that names this attempt. */
  readonly headers: Array<string>
  /** Called once. */
  readonly end: (report: AttemptReport) => void
}
