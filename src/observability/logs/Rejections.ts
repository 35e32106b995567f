/**
 * Warnings about backends that reject deliveries. GitHub is told success for a rejection, so nobody would look.
 *
 * **Details**
 *
 * Pipelines-as-Code answers 400 to a body that is not JSON. If the body is a form, the App's webhook has the wrong
 * content type. If the body is JSON from GitHub, PaC never answers so. A backend that answers 400 to such bodies again
 * and again is not PaC, but another service or another port.
 */
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"

/** So many rejected deliveries in a row are no coincidence. */
const suspicious = 10

export class Rejections {
  #any = false
  #formNoticed = false
  /** How many JSON deliveries a backend has rejected since it last took one. */
  readonly #inARow = new WeakMap<Backend, number>()

  /** The warning that this report gives reason for, if any. */
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
