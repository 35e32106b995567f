/**
 * The outcome of an attempt. It follows from the status line alone: the rest of an answer can't change it, except that
 * a 400 from a port for TLS is no rejection (`isOfTlsPort`).
 */

/**
 * `delivered`: 2xx. `rejected`: 400 or 413. `failed`: any other status. `unreachable`: the request surely did not
 * arrive. `broken off`: it was sent and got no status line. `timed out`: the forwarding timeout or a shutdown ended the
 * wait for a status line.
 */
export const outcomes = ["delivered", "rejected", "failed", "unreachable", "broken off", "timed out"] as const

export type Outcome = typeof outcomes[number]

/** The outcome for the status of a backend's answer. With 400 and 413 PaC itself judges the body. */
export const ofStatus = (status: number): Outcome =>
  status >= 200 && status < 300 ? "delivered" : status === 400 || status === 413 ? "rejected" : "failed"

/**
 * Whether plain HTTP went to a port for TLS. Go, nginx, Apache httpd and Tomcat then answer 400, which says nothing
 * about the body. Read as a rejection, it would be reported as a success for ever.
 */
export const isOfTlsPort = (status: number, answer: string): boolean => status === 400 && tlsPort.test(answer)

const tlsPort = new RegExp([
  "Client sent an HTTP request to an HTTPS server",
  "plain HTTP request was sent to HTTPS port",
  "speaking plain HTTP to an SSL-enabled server port",
  "This combination of host and port requires TLS"
].join("|"))

/** Whether GitHub is told success. A rejected delivery counts: sending it again would not help. */
export const isSuccess = (outcome: Outcome): boolean => outcome === "delivered" || outcome === "rejected"

/**
 * Whether an attempt surely did not reach Pipelines-as-Code, so that sending the delivery again can't start a second
 * pipeline run. A router answers 503 while no pod is ready, and 429 instead of forwarding.
 */
export const isRetryable = (outcome: Outcome, status: number | undefined): boolean =>
  outcome === "unreachable" || status === 429 || status === 503

/** Statuses that routers and balancers answer in place of a backend, or a backend that can't take anything. */
const awayStatuses = new Set<number | undefined>([429, 502, 503, 504])

/** Whether the backend seems to be away. Any other answer, even a refusal, comes from a backend that is there. */
export const isAway = (outcome: Outcome, status: number | undefined): boolean =>
  outcome === "unreachable" || outcome === "broken off" || outcome === "timed out" || awayStatuses.has(status)
