import type { SharedFields } from "../observability/logs/Logging.ts"
import type { DeliveryTrace } from "../observability/traces/Tracing.ts"
import type { Body } from "./Body.ts"

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
