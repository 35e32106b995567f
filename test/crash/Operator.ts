/** An operator's requests to a server with a store, and the answers of its `/metrics`. */
import { send } from "../support/GitHub.ts"
import { Scrape } from "../support/Scrape.ts"
import { eventually } from "../support/eventually.ts"
import type { Witness } from "./Witness.ts"

export interface ShownDelivery {
  readonly guid: string
  readonly backends: ReadonlyArray<{ readonly url: string; readonly state: string }>
}

interface Page {
  readonly deliveries: ReadonlyArray<ShownDelivery>
  readonly next: string | null
}

export type Query = Readonly<Record<string, string>>

/** All pages of `GET /deliveries`. */
export const list = async (port: number, query: Query = {}): Promise<ReadonlyArray<ShownDelivery>> => {
  const shown: Array<ShownDelivery> = []
  let page = await listPage(port, query)
  shown.push(...page.deliveries)
  while (page.next !== null) {
    // oxlint-disable-next-line no-await-in-loop -- each page says where the next one is
    page = await listPage(port, { ...query, cursor: page.next })
    shown.push(...page.deliveries)
  }
  return shown
}

/** One page of `GET /deliveries`. */
export const listPage = async (port: number, query: Query = {}): Promise<Page> =>
  await ask(port, "GET", `/deliveries?${new URLSearchParams(query)}`) as Page

export const nothingPending = (port: number): Promise<void> =>
  eventually(async () => (await listPage(port, { state: "pending" })).deliveries.length === 0, "nothing pending")

/** Holds the server to what it calls delivered, of the newest deliveries. */
export const noteDelivered = async (
  port: number,
  backends: ReadonlyArray<{ readonly name: string; readonly url: string }>,
  witness: Witness
): Promise<void> => {
  const nameOf = new Map(backends.map(({ name, url }) => [url, name]))
  for (const { backends: rows, guid } of (await listPage(port, { limit: "500" })).deliveries) {
    for (const { state, url } of rows) {
      if (state === "delivered") witness.saidToBeDelivered(nameOf.get(url)!, guid)
    }
  }
}

/** `POST /deliveries/{guid}/redeliver`, or `POST /deliveries/redeliver` with a filter; how many rows are sent again. */
export const redeliver = async (port: number, path: string, body: Query = {}): Promise<number> => {
  const answer = await ask(port, "POST", path, JSON.stringify(body)) as { readonly redelivered: number }
  return answer.redelivered
}

export const scrape = async (metricsPort: number): Promise<Scrape> =>
  new Scrape((await send(metricsPort, { method: "GET", path: "/metrics" })).text)

const ask = async (port: number, method: string, path: string, body?: string): Promise<unknown> => {
  const { status, text } = await send(port, { method, path, ...(body === undefined ? {} : { body }) })
  if (status !== 200) throw new Error(`${method} ${path}: ${status} ${text}`)
  return JSON.parse(text)
}
