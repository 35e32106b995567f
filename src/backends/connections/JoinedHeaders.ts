/**
 * The headers of a delivery in the form in which undici writes them, made once for all backends.
 *
 * **Details**
 *
 * undici checks and joins the headers of every request. For the thirteen of a delivery, that is a fifth of the cost of
 * a request on a kept connection. All attempts on a delivery have the same list, and most follow each other. So the
 * list that was sent last is kept, checked and joined.
 *
 * undici publishes each request that it creates (`undici:request:create`), and a subscriber may change its headers.
 * They are a flat list, and each is written as `name: value` and an end of line. Here all of them become one header,
 * which has the others in its value as lines of their own. The bytes are the same.
 *
 * **Gotchas**
 *
 * undici still gets the headers that it handles itself. If a header is not allowed in a request, undici gets the whole
 * list, and refuses it.
 */
import * as diagnostics from "node:diagnostics_channel"
import type * as Undici from "undici"
import type { OutgoingRequest } from "./Sender.ts"

const created = "undici:request:create"

export class JoinedHeaders {
  #last: Joined = join([])
  /** The joined headers of the request that is about to be created. */
  #next: Array<string> | undefined

  /** `dispatch` may be used from now on, until the function that this returns is called. */
  subscribe(): () => void {
    const onCreated = (message: unknown) => {
      if (this.#next === undefined) return
      ;(message as { readonly request: { headers: Array<string> } }).request.headers = this.#next
      this.#next = undefined
    }
    diagnostics.subscribe(created, onCreated)
    return () => diagnostics.unsubscribe(created, onCreated)
  }

  /** Sends the request as `client.dispatch` does. */
  dispatch(client: Undici.Client, request: OutgoingRequest, handler: Undici.Dispatcher.DispatchHandler): void {
    if (this.#last.list !== request.headers) this.#last = join(request.headers)
    const { joined, own } = this.#last
    this.#next = joined
    try {
      // Not blocking, because nothing waits behind it, and undici then looks at its queue once less.
      client.dispatch(
        { path: request.path, method: request.method, body: request.body, headers: own, blocking: false },
        handler
      )
    } finally {
      // Still set only if undici has refused the request before creating it.
      this.#next = undefined
    }
  }
}

interface Joined {
  readonly list: Array<string>
  /** The headers that undici handles itself. */
  readonly own: Array<string>
  /** One header that holds all others. */
  readonly joined: Array<string> | undefined
}

/** undici handles these headers itself, or refuses them. */
const minded = new Set(["connection", "content-length", "expect", "host", "keep-alive", "transfer-encoding", "upgrade"])

/** RFC 9110 §5.6.2. */
const token = /^[\^_`a-zA-Z\-0-9!#$%&'*+.|~]+$/

/** RFC 9110 §5.5, as latin1: no end of line, above all. */
const notAllowed = /[^\t\x20-\x7e\x80-\xff]/

const join = (list: Array<string>): Joined => {
  const own: Array<string> = []
  let first: string | undefined
  let lines = ""
  // All names are checked in one go, and all values. Each check by itself would cost more than its few characters.
  let names = ""
  let values = ""
  for (let at = 0; at < list.length; at += 2) {
    const name = list[at]!
    const value = list[at + 1]
    if (value === undefined || name === "") return { list, own: list, joined: undefined }
    names += name
    values += value
    if (minded.has(name.toLowerCase())) own.push(name, value)
    else if (first === undefined) {
      first = name
      lines = value
    } else lines += `\r\n${name}: ${value}`
  }
  if (first === undefined || !token.test(names) || notAllowed.test(values)) {
    return { list, own: list, joined: undefined }
  }
  return { list, own, joined: [first, lines] }
}
