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
import { type BackendFilter, nothing, takesEvent, takesSubject } from "../domain/BackendFilter.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { headerOf } from "../domain/ForwardedHeaders.ts"
import type { Subject } from "../domain/RepositoryPattern.ts"
import * as Payload from "./Payload.ts"

export interface Addressing {
  /** Calls `done` once with the backends that get the delivery, perhaps before it returns. */
  readonly addressees: (delivery: Delivery, done: (backends: ReadonlyArray<Backend>) => void) => void
  /** Whether the backend takes the delivery. `gone`: there is no such backend any more. */
  readonly asked: (backend: Backend, delivery: Delivery) => Effect.Effect<"takes" | "refuses" | "gone">
}

export const make = Effect.map(BackendRegistry, (registry): Addressing => {
  const queue = new Queue()

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

  return {
    addressees: (delivery, done) => {
      const { event } = delivery
      const backends = registry.snapshot()
      if (!registry.isFiltered()) return done(backends)
      const takers = backends.filter((backend) => mayTake(registry.filterOf(backend), event))
      if (!takers.some(asksForSubject)) return done(takers)
      // Backends and filters may have changed while the payload was read.
      subjectOf(
        delivery,
        (subject) => done(registry.snapshot().filter((backend) => takes(registry.filterOf(backend), event, subject)))
      )
    },
    asked: (backend, delivery) =>
      Effect.suspend(() => {
        const verdict = (subject: Subject | undefined) => {
          const filter = registry.filterOf(backend)
          return filter === nothing ? "gone" : takes(filter, delivery.event, subject) ? "takes" : "refuses"
        }
        const isSubjectAsked = mayTake(registry.filterOf(backend), delivery.event) && asksForSubject(backend)
        if (!isSubjectAsked) return Effect.succeed(verdict(undefined))
        return Effect.callback((resume) => subjectOf(delivery, (subject) => resume(Effect.succeed(verdict(subject)))))
      })
  }
})

type Filter = BackendFilter | undefined

const mayTake = (filter: Filter, event: string | undefined) => filter === undefined || takesEvent(filter, event)
const takes = (filter: Filter, event: string | undefined, subject: Subject | undefined) =>
  filter === undefined || (takesEvent(filter, event) && takesSubject(filter, subject))

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
