/** The messages from the benchmark to its load process, and the answers. */

/** One of GitHub's own examples, or so many bytes of padding. */
export type Payload = "ping" | "push" | "pull_request" | number

export interface BackendSpec {
  readonly tls?: boolean
  /** Nobody listens there. */
  readonly dead?: boolean
  /** Milliseconds before each answer. */
  readonly delay?: number
  /** How fast the backend reads, over all its connections together. */
  readonly bytesPerSecond?: number
}

export interface RunRequest {
  readonly port: number
  readonly payload: Payload
  readonly forged: boolean
  readonly count: number
  /** The most connections that are open at once. */
  readonly connections: number
  /**
   * Milliseconds from the start at which each request is due. Undefined: a closed loop, in which each connection sends
   * its next request when the last is answered.
   */
  readonly due: Float64Array | undefined
  /** The backends, by their place, that must get all requests that were not refused. */
  readonly reached: ReadonlyArray<number>
  /** Milliseconds after which the run is given up. */
  readonly limit: number
}

export interface RunResult {
  /** Milliseconds from the start at which each request was due, or in a closed loop was sent. */
  readonly due: Float64Array
  /** Milliseconds from then until the request was sent: all connections were busy, or the load process was. */
  readonly held: Float64Array
  /** Milliseconds from then to the end of the answer. */
  readonly latency: Float64Array
  /** 0: no answer, because the connection broke or the run was given up. */
  readonly status: Uint16Array
  readonly errors: Readonly<Record<string, number>>
  /** Milliseconds from the first request to the last answer. */
  readonly elapsed: number
  /** How many connections were opened. */
  readonly opened: number
  /** Deliveries that a backend did not get although they were not refused. */
  readonly missing: number
  /** Deliveries that a backend got more than once. */
  readonly duplicates: number
  /** Refused deliveries that a backend got. */
  readonly strays: number
  /** Deliveries whose body had another length. */
  readonly altered: number
}

export type Question =
  | { readonly ask: "backends"; readonly specs: ReadonlyArray<BackendSpec> }
  | ({ readonly ask: "run" } & RunRequest)
  /**
   * Slow senders make requests that never end. Their connections send a byte of the body a second, and are opened anew
   * when they are cut.
   */
  | { readonly ask: "slow senders"; readonly port: number; readonly count: number }
  | { readonly ask: "disconnect" }

export interface Answers {
  /** The URLs of the backends. */
  readonly backends: ReadonlyArray<string>
  readonly run: RunResult
  readonly "slow senders": null
  /** How often a slow sender was cut off. */
  readonly disconnect: number
}

/** The secret, which all sides know. */
export const secret = "It's a Secret to Everybody"
