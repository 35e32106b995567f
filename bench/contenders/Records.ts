/**
 * The logs and metrics of the logged floor: the server's own lines, field by field, and the series that the server
 * counts, kept as plainly as possible. Nothing is escaped beyond JSON, dropped or removed.
 */
import { randomUUID } from "node:crypto"
import type { IncomingMessage } from "node:http"

const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 9, 15]
const responseTimeBuckets = [0.005, 0.05, 0.5, 5]
/** The most lines for refusals in a second. The rest is only counted. */
const refusalLines = 10

class Histogram {
  readonly #bounds: ReadonlyArray<number>
  readonly #counts: Array<number>
  #sum = 0

  constructor(bounds: ReadonlyArray<number>) {
    this.#bounds = bounds
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0)
  }

  observe(value: number): void {
    let at = 0
    while (at < this.#bounds.length && value > this.#bounds[at]!) at += 1
    this.#counts[at]! += 1
    this.#sum += value
  }

  text(name: string): string {
    let below = 0
    const lines = this.#counts.map((count, i) =>
      `${name}_bucket{le="${this.#bounds[i] ?? "+Inf"}"} ${below += count}\n`
    )
    return `${lines.join("")}${name}_sum ${this.#sum}\n${name}_count ${below}\n`
  }
}

interface BackendRecord {
  readonly name: string
  readonly duration: Histogram
  forwarded: number
  failed: number
  lastSuccess: number
}

export class Records {
  readonly backends: ReadonlyArray<BackendRecord>
  readonly durations = { answered: new Histogram(buckets), refused: new Histogram(buckets) }
  readonly responseTime = new Histogram(responseTimeBuckets)
  inbound = 0
  answered = 0
  refused = 0
  inFlight = 0
  #gathered = ""
  #refusalWindow = 0
  #refusalsInWindow = 0
  #millis = 0
  #timestamp = ""

  constructor(backends: ReadonlyArray<string>) {
    this.backends = backends.map((url) => ({
      name: new URL(url).host,
      duration: new Histogram(buckets),
      forwarded: 0,
      failed: 0,
      lastSuccess: 0
    }))
  }

  delivery(request: IncomingMessage): DeliveryRecord {
    this.inbound += 1
    return new DeliveryRecord(this, request)
  }

  /** The line goes out at the end of this turn of the event loop, with all other lines of the turn. */
  write(level: string, message: string, members: string): void {
    if (this.#gathered === "") setImmediate(this.#flush)
    const now = Date.now()
    if (now !== this.#millis) {
      this.#millis = now
      this.#timestamp = new Date(now).toISOString()
    }
    this.#gathered +=
      `{"ts":"${this.#timestamp}","level":"${level}","msg":"${message}","service":"sprayproxy","audit":"true"${members}}\n`
  }

  isRefusalLogged(): boolean {
    const second = Math.floor(Date.now() / 1_000)
    if (second !== this.#refusalWindow) {
      const unlogged = this.#refusalsInWindow - refusalLines
      if (unlogged > 0) this.write("warn", "refusals not logged", `,"reason":"signature mismatch","count":${unlogged}`)
      this.#refusalWindow = second
      this.#refusalsInWindow = 0
    }
    return ++this.#refusalsInWindow <= refusalLines
  }

  metrics(): string {
    const { answered, durations, inFlight, inbound, refused } = this
    return [
      `inbound_total ${inbound}\nanswered_total ${answered}\nrefused_total ${refused}\nin_flight ${inFlight}\n`,
      durations.answered.text("delivery_seconds"),
      durations.refused.text("refusal_seconds"),
      this.responseTime.text("response_seconds"),
      ...this.backends.map(({ duration, failed, forwarded, lastSuccess }, i) =>
        `forwarded_${i}_total ${forwarded}\nfailed_${i}_total ${failed}\nlast_success_${i} ${lastSuccess}\n${
          duration.text(`attempt_${i}_seconds`)
        }`
      )
    ].join("")
  }

  readonly #flush = (): void => {
    process.stdout.write(this.#gathered)
    this.#gathered = ""
  }
}

export class DeliveryRecord {
  readonly requestId = randomUUID()
  readonly #records: Records
  readonly #request: IncomingMessage
  readonly #start = performance.now()
  #shared: string | undefined

  constructor(records: Records, request: IncomingMessage) {
    this.#records = records
    this.#request = request
  }

  began(): void {
    this.#records.inFlight += 1
  }

  /** `status`: 0 if there was none. */
  attempted(place: number, status: number): void {
    const records = this.#records
    const backend = records.backends[place]!
    const latency = this.#latency()
    const isSuccess = status >= 200 && status < 300
    records.inFlight -= 1
    records.responseTime.observe(latency)
    backend.duration.observe(latency)
    if (isSuccess) {
      backend.forwarded += 1
      backend.lastSuccess = Date.now() / 1_000
    } else backend.failed += 1
    const fields = { backend: backend.name, status, latency, outcome: isSuccess ? "delivered" : "failed" }
    records.write(isSuccess ? "info" : "error", "proxied request", this.#members(fields))
  }

  answered(status: number, outcome: string): void {
    const records = this.#records
    const latency = this.#latency()
    if (status === 400) {
      records.refused += 1
      records.durations.refused.observe(latency)
      if (records.isRefusalLogged()) {
        records.write("warn", "refused", this.#members({ reason: "signature mismatch" }))
      }
      return
    }
    records.answered += 1
    records.durations.answered.observe(latency)
    records.write(status < 500 ? "info" : "error", "delivery answered", this.#members({ status, latency, outcome }))
  }

  #latency(): number {
    return Math.round((performance.now() - this.#start) * 1_000) / 1_000_000
  }

  #members(fields: Readonly<Record<string, string | number>>): string {
    return `${this.#shared ??= this.#sharedMembers()},${JSON.stringify(fields).slice(1, -1)}`
  }

  #sharedMembers(): string {
    const { headers, method, url = "" } = this.#request
    const pathEnd = url.includes("?") ? url.indexOf("?") : url.length
    return `,${
      JSON.stringify({
        "request-id": this.requestId,
        delivery: headers["x-github-delivery"],
        event: headers["x-github-event"],
        method,
        path: url.slice(0, pathEnd),
        query: url.slice(pathEnd + 1)
      }).slice(1, -1)
    }`
  }
}
