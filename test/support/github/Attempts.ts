/** The App's log: one row for each attempt at a delivery, newest first, read in pages. */
import type { Delivery } from "./Delivery.ts"

/** How an attempt ended. */
export interface Ending {
  /** 0: there was no answer. */
  readonly statusCode: number
  readonly status: string
  /** Seconds. */
  readonly duration: number
  readonly response: { readonly headers: Readonly<Record<string, unknown>>; readonly payload: string } | undefined
}

export interface Attempt extends Ending {
  /** An integer beyond 2^53, as decimal digits. */
  readonly id: string
  readonly delivery: Delivery
  /** Epoch milliseconds, by GitHub's clock. */
  readonly deliveredAt: number
  readonly redelivery: boolean
  readonly throttledAt: number | undefined
  readonly url: string
  /** The log shows it from then on. */
  readonly listedAt: number
}

export interface Page {
  readonly attempts: ReadonlyArray<Attempt>
  /** Undefined: there are no older ones. */
  readonly next: string | undefined
}

export interface Filter {
  readonly status: "success" | "failure" | undefined
  readonly cursor: string | undefined
  readonly size: number
}

/** Neighbours round to the same double: who reads them as numbers asks for somebody else's attempt. */
const firstId = 2n ** 60n + 1n

export class Attempts {
  /** Newest first. */
  readonly #rows: Array<Attempt> = []
  readonly #byId = new Map<string, Attempt>()
  #nextId = firstId

  /** Newest first, listed or not. */
  get all(): ReadonlyArray<Attempt> {
    return this.#rows
  }

  add(attempt: Omit<Attempt, "id">): Attempt {
    const row = { id: String(this.#nextId), ...attempt }
    this.#nextId += 1n
    const place = this.#rows.findIndex(({ deliveredAt }) => deliveredAt <= row.deliveredAt)
    this.#rows.splice(place < 0 ? this.#rows.length : place, 0, row)
    this.#byId.set(row.id, row)
    return row
  }

  find(id: string): Attempt | undefined {
    return this.#byId.get(id)
  }

  /** Undefined: there never was such a cursor. */
  page({ cursor, size, status }: Filter, now: number): Page | undefined {
    const last = cursor === undefined ? undefined : this.find(cursor.replace(/^v1_/, ""))
    if (cursor !== undefined && last === undefined) return undefined
    const start = last === undefined ? 0 : this.#rows.indexOf(last) + 1
    const page: Array<Attempt> = []
    for (let place = start; place < this.#rows.length; place += 1) {
      const row = this.#rows[place]!
      if (row.listedAt > now || !isOf(row.statusCode, status)) continue
      if (page.length === size) return { attempts: page, next: `v1_${page.at(-1)!.id}` }
      page.push(row)
    }
    return { attempts: page, next: undefined }
  }
}

/** What was never answered is neither a success nor a failure. */
const isOf = (statusCode: number, status: Filter["status"]): boolean =>
  status === undefined || (status === "success"
    ? statusCode >= 200 && statusCode < 400
    : statusCode >= 400 && statusCode < 600)
