/** The filters that the settings give to backends, and the bound that they set to those of dynamic ones. */
import type { Backend } from "../domain/Backend.ts"
import * as BackendFilter from "../domain/BackendFilter.ts"
import { covers } from "../domain/RepositoryPattern.ts"
import type { ResolvedSettings } from "../settings/Settings.ts"

type Filter = BackendFilter.BackendFilter | undefined

export const make = (
  { backendEvents, backendRepositories, dynamicBackendRepositories }: Pick<
    ResolvedSettings,
    "backendEvents" | "backendRepositories" | "dynamicBackendRepositories"
  >
) => {
  const bound = dynamicBackendRepositories.length === 0 ? undefined : new Set(dynamicBackendRepositories)

  return {
    ofStatic: (backend: Backend): Filter =>
      BackendFilter.make(valuesOf(backendRepositories, backend), valuesOf(backendEvents, backend)),

    /** The filter of a dynamic backend, kept within the bound. */
    bounded: (filter: Filter): Filter => BackendFilter.within(filter, bound),

    /** Why a registration asks for too much. Undefined: it does not. */
    beyondBound: (filter: Filter): string | undefined => {
      if (bound === undefined || filter?.repositories === undefined) return undefined
      const beyond = [...filter.repositories].find((pattern) => !covers(bound, pattern))
      if (beyond === undefined) return undefined
      return `${JSON.stringify(beyond)} is more than a backend may get here: ${[...bound].join(", ")}`
    }
  }
}

const valuesOf = (given: ResolvedSettings["backendEvents"], backend: Backend) => {
  const own = given.filter(({ key }) => key === backend.key)
  return own.length === 0 ? undefined : own.flatMap(({ values }) => values)
}

/** A filter, as log lines show it. Nothing, where there is none. */
export const fieldsOf = (filter: Filter) => ({
  repositories: filter?.repositories && [...filter.repositories].join(", "),
  events: filter?.events && [...filter.events].join(", ")
})
