/** What an attempt came to. The status line alone decides it; what an answer says after that can't change it. */

export const outcomes = ["delivered", "rejected", "failed", "unreachable", "broken off", "timed out"] as const

export type Outcome = typeof outcomes[number]

/** The status line of a backend's answer, read as an outcome. 400 and 413 are PaC's own words on the body. */
export const ofStatus = (status: number): Outcome =>
  status >= 200 && status < 300 ? "delivered" : status === 400 || status === 413 ? "rejected" : "failed"

/**
 * Whether an answer is that of a port for TLS to plain HTTP (Go, nginx, Apache httpd, Tomcat): a 400, and no word on the body. It
 * would be a success for ever.
 */
export const isOfTlsPort = (status: number, answer: string): boolean => status === 400 && tlsPort.test(answer)

const tlsPort = new RegExp([
  "Client sent an HTTP request to an HTTPS server",
  "plain HTTP request was sent to HTTPS port",
  "speaking plain HTTP to an SSL-enabled server port",
  "This combination of host and port requires TLS"
].join("|"))

/** Whether GitHub is told that all is well: sending a rejected delivery again would not help. */
export const isSuccess = (outcome: Outcome): boolean => outcome === "delivered" || outcome === "rejected"

/**
 * Whether an attempt surely did not reach Pipelines-as-Code, so that sending it again can't start a second pipeline run.
 * A router answers 503 while no pod is ready, and 429 instead of forwarding.
 */
export const isRetryable = (outcome: Outcome, status: number | undefined): boolean =>
  outcome === "unreachable" || status === 429 || status === 503

/** What routers and balancers say in place of a backend, and a backend that can't take anything. */
const awayStatuses = new Set<number | undefined>([429, 502, 503, 504])

/** Whether the backend seems to be away. Any other answer comes from one that is there, a refusal too. */
export const isAway = (outcome: Outcome, status: number | undefined): boolean =>
  outcome === "unreachable" || outcome === "broken off" || outcome === "timed out" || awayStatuses.has(status)
