/** The ways in which clients reach `/backends`. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { fileURLToPath } from "node:url"
import { kustomize, render } from "../../k8s/kustomize.ts"
import { refusal, sidecarsOf } from "../../k8s/sidecar.ts"
import { deliver } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { type Mishap, startSidecar } from "../../support/Sidecar.ts"

export const ways = [
  "directly",
  ...(kustomize() === undefined ? [] : ["through the sidecar", "through the sidecar under load"] as const)
] as const

export type Way = (typeof ways)[number]

/** Each token is the name of its account: the service's own one, which registered with the original. */
export const token = "sprayproxy"

export interface Reached {
  readonly program: Program
  /** Where clients find it. */
  readonly url: string
  /** The sidecar does this to the next request that it lets through. */
  readonly befall: (mishap: Mishap) => void
  /** Ends the load. Each delivery that was sent meanwhile has been answered 200 `proxied`, or as given. */
  readonly endLoad: (...others: ReadonlyArray<string>) => Promise<void>
}

const guard = () => {
  const objects = render("dynamic-backends, original names")
  const [sidecar] = sidecarsOf(objects)
  return ({ method, path, token: account }: { method: string; path: string; token: string | undefined }) =>
    refusal(sidecar!, objects, { method, path, account })
}

const ca = fileURLToPath(new URL("../../fixtures/tls/ca.pem", import.meta.url))

/** Sends deliveries, eight at a time, until it is stopped. */
const startLoad = Effect.fnUntraced(function*(program: Program) {
  const agent = new Http.Agent({ keepAlive: true, maxSockets: 8 })
  const stopped = new AbortController()
  const replies: Array<string> = []
  const sender = async () => {
    while (!stopped.signal.aborted) {
      // oxlint-disable-next-line no-await-in-loop -- one after another on each of eight connections
      const { status, text } = await deliver(program.port, "{}", { agent })
      replies.push(`${status} ${text}`)
    }
  }
  const senders = Promise.all(Array.from({ length: 8 }, sender))
  const end = async () => {
    stopped.abort()
    await senders
    agent.destroy()
  }
  yield* Effect.addFinalizer(() => Effect.promise(end))
  return async (...others: ReadonlyArray<string>) => {
    await end()
    assert.isNotEmpty(replies)
    for (const reply of new Set(replies)) assert.include(["200 proxied", ...others], reply)
  }
})

export const reach = (way: Way, ...args: ReadonlyArray<string>): Effect.Effect<Reached, never, Scope.Scope> =>
  Effect.gen(function*() {
    const program = yield* startProgram([
      "--enable-dynamic-backends",
      "--backend-ca",
      ca,
      "--forwarding-retries",
      "0",
      ...args
    ])
    const endLoad = way.endsWith("under load") ? yield* startLoad(program) : () => Promise.resolve()
    if (way === "directly") return { program, url: program.url, befall: () => {}, endLoad }
    const { befall, url } = yield* startSidecar(program.port, guard())
    return { program, url, befall, endLoad }
  })
