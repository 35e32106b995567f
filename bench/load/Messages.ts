/** What the benchmark asks of its load process, and what it is told. */

/** One of GitHub's own examples, or padding of that many bytes. */
export type Payload = "ping" | "push" | "pull_request" | number

export interface BackendSpec {
  readonly tls?: boolean
  /** Nobody listens there. */
  readonly dead?: boolean
  /** Milliseconds before each answer. */
  readonly delay?: number
  /** How fast it reads, all its connections together. */
  readonly bytesPerSecond?: number
}

export interface RunRequest {
  readonly port: number
  readonly payload: Payload
  readonly forged: boolean
  readonly count: number
  /** How many at most are open at once. */
  readonly connections: number
  /**
   * Milliseconds from the start at which each request is due. None: a closed loop, each connection sends its next when the
   * last is answered.
   */
  readonly due: Float64Array | undefined
  /** The backends, by their place, that are to get what was not refused. */
  readonly reached: ReadonlyArray<number>
  /** Milliseconds after which it is given up. */
  readonly limit: number
}

export interface RunResult {
  /** Milliseconds from the start at which each request was due, or was sent in a closed loop. */
  readonly due: Float64Array
  /** Milliseconds from then until it was sent: all connections were busy, or the load process was. */
  readonly held: Float64Array
  /** Milliseconds from then to the end of its answer. */
  readonly latency: Float64Array
  /** 0: none, the connection broke or the run was given up. */
  readonly status: Uint16Array
  readonly errors: Readonly<Record<string, number>>
  /** Milliseconds from the first request to the last answer. */
  readonly elapsed: number
  /** Connections that were opened. */
  readonly opened: number
  /** Deliveries that a backend did not get although they were not refused. */
  readonly missing: number
  /** Deliveries that a backend got more than once. */
  readonly duplicates: number
  /** Refused ones that a backend got. */
  readonly strays: number
  /** Deliveries whose body had another length. */
  readonly altered: number
}

export type Question =
  | { readonly ask: "backends"; readonly specs: ReadonlyArray<BackendSpec> }
  | ({ readonly ask: "run" } & RunRequest)
  /** Requests that never end: connections that send a byte of their bodies a second, opened anew when they are cut. */
  | { readonly ask: "slow senders"; readonly port: number; readonly count: number }
  | { readonly ask: "disconnect" }

export interface Answers {
  /** Their URLs. */
  readonly backends: ReadonlyArray<string>
  readonly run: RunResult
  readonly "slow senders": null
  /** How often a slow sender was cut off. */
  readonly disconnect: number
}

/** Known to all sides. */
export const secret = "It's a Secret to Everybody"
