/**
 * Backends that reject what they get. That is a success for GitHub, so nobody would look: here is what makes a warning of it.
 *
 * **Details**
 *
 * Pipelines-as-Code answers 400 to what is not JSON. To a form that says something about the App; it never says it about what
 * GitHub sends as JSON. So a backend that says nothing else is none: another service, or a port for something else.
 */
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"

/** Rejected deliveries, one after the other, that are no coincidence. */
const suspicious = 10

export class Rejections {
  #any = false
  #formNoticed = false
  /** Of JSON, since the last that was delivered. */
  readonly #inARow = new WeakMap<Backend, number>()

  /** The warning that this report is the reason for. */
  warning(delivery: Delivery, backend: Backend, { outcome, status }: AttemptReport): string | undefined {
    if (outcome === "delivered" && this.#any) this.#inARow.delete(backend)
    if (outcome !== "rejected" || status !== 400) return undefined
    if (isForm(delivery)) {
      if (this.#formNoticed) return undefined
      this.#formNoticed = true
      return "a form was rejected: Pipelines-as-Code takes JSON alone, so the App's webhook needs the content type application/json"
    }
    this.#any = true
    const count = (this.#inARow.get(backend) ?? 0) + 1
    this.#inARow.set(backend, count)
    return count === suspicious
      ? `a backend has answered 400 to ${suspicious} deliveries in a row: is it Pipelines-as-Code?`
      : undefined
  }
}

const isForm = ({ headers }: Delivery): boolean =>
  headers.some((value, at) =>
    at % 2 === 1 && headers[at - 1]?.toLowerCase() === "content-type" &&
    /^\s*application\/x-www-form-urlencoded\b/i.test(value)
  )
