/**
 * Decides which backends a delivery goes to, by their filters.
 *
 * **Details**
 *
 * A payload is read only if a backend that takes the delivery's event has a filter of repositories, and once a delivery. Of
 * large payloads one is read at a time.
 */
import * as Effect from "effect/Effect"
import { BackendRegistry } from "../backends/Registry.ts"
import type { Backend } from "../domain/Backend.ts"
import { takesEvent, takesSubject } from "../domain/BackendFilter.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { headerOf } from "../domain/ForwardedHeaders.ts"
import type { Subject } from "../domain/RepositoryPattern.ts"
import * as Payload from "./Payload.ts"

export interface Addressing {
  /** Calls `done` once with the backends that get the delivery, perhaps before it returns. */
  readonly addressees: (delivery: Delivery, done: (backends: ReadonlyArray<Backend>) => void) => void
  /** Whether the backend gets the delivery. */
  readonly gets: (backend: Backend, delivery: Delivery) => Effect.Effect<boolean>
}

export const make = Effect.map(BackendRegistry, (registry): Addressing => {
  const queue = new Queue()

  const takes = (backend: Backend, event: string | undefined) => {
    const filter = registry.filterOf(backend)
    return filter === undefined || takesEvent(filter, event)
  }
  const asksForSubject = (backend: Backend) => registry.filterOf(backend)?.repositories !== undefined

  const subjectOf = ({ body, headers }: Delivery, done: (subject: Subject | undefined) => void) => {
    const isForm = form.test(headerOf(headers, "content-type") ?? "")
    if (Payload.isSmall(body)) return done(Payload.read(body, isForm))
    queue.run((next) =>
      Payload.readSlowly(body, isForm, (subject) => {
        next()
        done(subject)
      })
    )
  }

  /** Of the backends that there are, because they may have changed while the payload was read. */
  const among = ({ event }: Delivery, subject: Subject | undefined) => (backend: Backend) => {
    const filter = registry.filterOf(backend)
    return filter === undefined || (takesEvent(filter, event) && takesSubject(filter, subject))
  }

  return {
    addressees: (delivery, done) => {
      const backends = registry.snapshot()
      if (!registry.isFiltered()) return done(backends)
      const takers = backends.filter((backend) => takes(backend, delivery.event))
      if (!takers.some(asksForSubject)) return done(takers)
      subjectOf(delivery, (subject) => done(registry.snapshot().filter(among(delivery, subject))))
    },
    gets: (backend, delivery) =>
      Effect.suspend(() => {
        if (!takes(backend, delivery.event)) return Effect.succeed(false)
        if (!asksForSubject(backend)) return Effect.succeed(true)
        return Effect.callback<boolean>((resume) =>
          subjectOf(delivery, (subject) => resume(Effect.succeed(among(delivery, subject)(backend))))
        )
      })
  }
})

const form = /^\s*application\/x-www-form-urlencoded\s*(;|$)/i

/** Runs one thing after another. */
class Queue {
  readonly #waiting: Array<(next: () => void) => void> = []
  #isBusy = false

  run(work: (next: () => void) => void): void {
    this.#waiting.push(work)
    if (!this.#isBusy) this.#next()
  }

  readonly #next = (): void => {
    const work = this.#waiting.shift()
    this.#isBusy = work !== undefined
    work?.(this.#next)
  }
}
