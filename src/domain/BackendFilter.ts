/** Which deliveries a backend gets: those of some repositories, some events, or both. */
import * as RepositoryPattern from "./RepositoryPattern.ts"

/** Undefined, whole or in part: everything. An empty set: nothing. */
export interface BackendFilter {
  /** Patterns of `RepositoryPattern`. */
  readonly repositories: ReadonlySet<string> | undefined
  /** Values of `X-GitHub-Event`. */
  readonly events: ReadonlySet<string> | undefined
}

/** Takes nothing. */
export const nothing: BackendFilter = { repositories: new Set(), events: new Set() }

/** The value of `X-GitHub-Event`. */
export const isEvent = (text: string): boolean => /^[a-z\d_]{1,100}$/.test(text)

export const eventRule = "an event is a word like push or pull_request"

/** Undefined if it would let everything through. */
export const make = (
  repositories: Iterable<string> | undefined,
  events: Iterable<string> | undefined
): BackendFilter | undefined =>
  repositories === undefined && events === undefined
    ? undefined
    : {
      repositories: repositories === undefined ? undefined : new Set(repositories),
      events: events === undefined ? undefined : new Set(events)
    }

/** The filter, kept within a bound. */
export const within = (
  filter: BackendFilter | undefined,
  bound: ReadonlySet<string> | undefined
): BackendFilter | undefined => {
  if (bound === undefined) return filter
  const asked = filter?.repositories
  return {
    repositories: asked === undefined ? bound : RepositoryPattern.common(asked, bound),
    events: filter?.events
  }
}

/** Whether the filter takes the event. A delivery that names none is taken by no filter of events. */
export const takesEvent = (filter: BackendFilter, event: string | undefined): boolean =>
  filter.events === undefined || (event !== undefined && filter.events.has(event))

/** Whether the filter takes what belongs to `subject`. Undefined: to nobody that we know of. */
export const takesSubject = (filter: BackendFilter, subject: RepositoryPattern.Subject | undefined): boolean =>
  filter.repositories === undefined ||
  (subject !== undefined && RepositoryPattern.matches(filter.repositories, subject))

/** Whether two filters take the same. */
export const isSame = (one: BackendFilter | undefined, other: BackendFilter | undefined): boolean =>
  isSameSet(one?.repositories, other?.repositories) && isSameSet(one?.events, other?.events)

const isSameSet = (one: ReadonlySet<string> | undefined, other: ReadonlySet<string> | undefined): boolean =>
  one === other ||
  (one !== undefined && other !== undefined && one.size === other.size && [...one].every((part) => other.has(part)))
