/**
 * A member cluster: a real server that answers as Pipelines-as-Code does, and checks the signatures of what it gets
 * itself.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { timingSafeEqual } from "node:crypto"
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { buffer } from "node:stream/consumers"
import { secret, sign } from "../test/support/github/Headers.ts"
import { Journal } from "./Journal.ts"
import { digestOf } from "./Row.ts"

export interface Character {
  readonly name: string
  /** Milliseconds before each answer. */
  readonly delay?: number
  /** How often the first delivery, the second, … is answered 503, as a router does while no pod is ready. */
  readonly notReady?: ReadonlyArray<number>
}

export interface SampleBackend {
  readonly name: string
  readonly url: string
  /** Closes the port, until `comeUp`. */
  readonly goDown: Effect.Effect<void>
  readonly comeUp: Effect.Effect<void>
}

/** Serves on a free loopback port until the scope closes. */
export const startBackend = Effect.fnUntraced(function*({ delay = 0, name, notReady = [] }: Character) {
  const journal = yield* Journal
  const triesOf = new Map<string, number>()
  const run = yield* FiberSet.makeRuntime()

  const statusFor = (guid: string): number => {
    const tries = (triesOf.get(guid) ?? 0) + 1
    triesOf.set(guid, tries)
    const place = [...triesOf.keys()].indexOf(guid)
    return tries <= (notReady[place] ?? 0) ? 503 : 202
  }

  const answer = Effect.fnUntraced(function*(request: Http.IncomingMessage, response: Http.ServerResponse) {
    const body = yield* Effect.promise(() => buffer(request))
    const guid = headerOf(request, "x-github-delivery")
    const status = statusFor(guid ?? "")
    yield* Effect.sleep(delay)
    yield* journal.arrived(guid, headerOf(request, "x-github-event") ?? "(no event)", body.length, {
      backend: name,
      status,
      verified: isSignedBy(body, headerOf(request, "x-hub-signature-256") ?? ""),
      digest: digestOf(body),
      at: performance.now()
    })
    response.writeHead(status).end()
  })

  const server = Http.createServer((request, response) => void run(answer(request, response)))
  const listen = (on: number) =>
    Effect.promise(async () => {
      await once(server.listen(on, "127.0.0.1"), "listening")
      return (server.address() as AddressInfo).port
    })
  const close = Effect.sync(() => {
    server.close()
    server.closeAllConnections()
  })
  const port = yield* Effect.acquireRelease(listen(0), () => close)
  return {
    name,
    url: `http://127.0.0.1:${port}`,
    goDown: close,
    comeUp: Effect.asVoid(listen(port))
  } satisfies SampleBackend
})

const headerOf = ({ headers }: Http.IncomingMessage, name: string): string | undefined => headers[name]?.toString()

const isSignedBy = (body: Buffer, signature: string): boolean => {
  const expected = Buffer.from(sign(body, secret))
  const given = Buffer.from(signature)
  return given.length === expected.length && timingSafeEqual(given, expected)
}
