/** GitHub's side: real payloads, signed and sent as GitHub does it, and requests that GitHub would never send. */
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import * as Http from "node:http"
import * as Example from "../test/support/github/Delivery.ts"
import { headersOf, sign } from "../test/support/github/Headers.ts"

export interface Reply {
  readonly status: number
  readonly text: string
}

export interface Delivery {
  readonly guid: string
  readonly label: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly expected: Reply & {
    /** The reason in the log. Undefined: every backend must get the delivery. */
    readonly refusal?: string
    /** How many backends must take the delivery, which is answered before they have it. */
    readonly arrivals?: number
  }
}

const proxied = { status: 200, text: "proxied" }
const refused = (refusal: string) => ({ status: 400, text: "bad request", refusal })

interface Variation {
  readonly label?: string
  readonly body?: Buffer
  /** `null`: no signature. */
  readonly signature?: string | null
  readonly contentType?: string
  readonly expected?: Delivery["expected"]
}

const delivery = (event: string, action: string | undefined, variation: Variation = {}): Delivery => {
  const guid = randomUUID()
  const body = variation.body ?? example(event, action)
  const { contentType = "application/json", expected = proxied, signature = sign(body) } = variation
  return {
    guid,
    label: variation.label ?? [event, action].join(" ").trim(),
    body,
    expected,
    headers: headersOf({ guid, event, body, signature, contentType })
  }
}

/** A published payload, as compact JSON. */
const example = (event: string, action?: string): Buffer => Buffer.from(JSON.stringify(Example.example(event, action)))

export const genuine = (): ReadonlyArray<Delivery> => [
  delivery("ping", undefined),
  delivery("installation", "created"),
  delivery("push", undefined),
  delivery("pull_request", "opened"),
  delivery("check_suite", "requested"),
  delivery("check_run", "created"),
  delivery("issue_comment", "created"),
  delivery("check_run", "rerequested"),
  delivery("pull_request", "labeled"),
  delivery("check_run", "completed"),
  delivery("pull_request", "closed"),
  delivery("push", undefined, {
    label: "push, as a form",
    body: Buffer.from(`payload=${encodeURIComponent(example("push").toString())}`),
    contentType: "application/x-www-form-urlencoded"
  })
]

/** `limit` is the largest body that is taken, in bytes. */
export const unwelcome = (limit: number): ReadonlyArray<Delivery> => {
  const push = example("push")
  const altered = Buffer.from(push)
  altered[100]! ^= 1
  return [
    delivery("push", undefined, {
      label: "push, wrong secret",
      signature: sign(push, "a guess"),
      expected: refused("signature mismatch")
    }),
    delivery("push", undefined, {
      label: "push, one byte altered",
      body: altered,
      signature: sign(push),
      expected: refused("signature mismatch")
    }),
    delivery("push", undefined, {
      label: "push, no signature",
      signature: null,
      expected: refused("signature missing")
    }),
    delivery("push", undefined, {
      label: "push, over the limit",
      body: Buffer.alloc(limit + 1, " "),
      expected: { status: 413, text: "request body too large", refusal: "body too large" }
    })
  ]
}

/** Deliveries for a server with a store. They are answered as soon as they are on disk. */
export const stored = (arrivals: number): ReadonlyArray<Delivery> => {
  const expected = { status: 202, text: "accepted", arrivals }
  return [
    delivery("push", undefined, { expected }),
    delivery("pull_request", "opened", { expected })
  ]
}

/** Deliveries that fail, because nobody is there. They are answered when GitHub sends them again. */
export const missed = (arrivals: number): ReadonlyArray<Delivery & Example.Delivery> => {
  const expected = { status: 202, text: "accepted", arrivals }
  return [
    { ...Example.newDelivery("push"), label: "push", expected },
    { ...Example.newDelivery("pull_request", { action: "opened" }), label: "pull_request opened", expected },
    { ...Example.newDelivery("check_run", { action: "rerequested" }), label: "check_run rerequested", expected }
  ]
}

export const whileStopping = (): Delivery => delivery("push", undefined, { label: "push, while stopping" })

/** Fails if there is no answer. */
export const send = (url: string, { body, headers }: Delivery): Effect.Effect<Reply, Error> =>
  Effect.callback((resume) => {
    const request = Http.request(url, { method: "POST", headers, agent: false }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk: string) => text += chunk)
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, text })))
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end(body)
    return Effect.sync(() => request.destroy())
  })
