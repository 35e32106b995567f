/** The rows of the settings table that say which backends may be registered, for how long, and which deliveries one gets. */
import { many, one, optional } from "./Definition.ts"
import * as Kind from "./Kinds.ts"

export const backendDefinitions = {
  dynamicBackendAllow: many(Kind.hostPattern, {
    flag: "dynamic-backend-allow",
    variable: "SPRAYPROXY_DYNAMIC_BACKEND_ALLOW",
    onlyWith: "enableDynamicBackends",
    separators: { flag: /,/, variable: /[\s,]+/ },
    defaultText: "all hosts",
    description:
      "Host that may be registered as a backend: a name, or *.apps.example.com for all below it. Repeat the " +
      "flag or separate with commas."
  }),
  dynamicBackendLimit: one(Kind.count(0), {
    flag: "dynamic-backend-limit",
    variable: "SPRAYPROXY_DYNAMIC_BACKEND_LIMIT",
    onlyWith: "enableDynamicBackends",
    fallback: "1000",
    description: "How many backends may be registered at once."
  }),
  /** None: for ever. */
  dynamicBackendTtl: optional(Kind.duration("above 0s"), {
    flag: "dynamic-backend-ttl",
    variable: "SPRAYPROXY_DYNAMIC_BACKEND_TTL",
    onlyWith: "enableDynamicBackends",
    defaultText: "none: it stays",
    description: "How long a backend stays that is registered without a ttl."
  }),
  dynamicBackendDeadAfter: optional(Kind.duration("above 0s"), {
    flag: "dynamic-backend-dead-after",
    variable: "SPRAYPROXY_DYNAMIC_BACKEND_DEAD_AFTER",
    onlyWith: "enableDynamicBackends",
    defaultText: "none: it stays",
    description: "Unregister a dynamic backend to which deliveries were attempted for so long, and none has arrived."
  }),
  /** The most that a dynamic backend gets. Empty: everything. */
  dynamicBackendRepositories: many(Kind.repositoryPattern, {
    flag: "dynamic-backend-repositories",
    variable: "SPRAYPROXY_DYNAMIC_BACKEND_REPOSITORIES",
    onlyWith: "enableDynamicBackends",
    separators: { flag: /,/, variable: /[\s,]+/ },
    defaultText: "all repositories",
    description:
      "The most that a dynamic backend gets: deliveries of these repositories, owner/repository or owner/*. " +
      "Repeat the flag or separate with commas."
  }),
  backendRepositories: many(Kind.backendPatterns, {
    flag: "backend-repositories",
    variable: "SPRAYPROXY_BACKEND_REPOSITORIES",
    separators: { flag: undefined, variable: /\s+/ },
    defaultText: "all repositories",
    description:
      "Repositories whose deliveries a --backend gets, owner/repository or owner/*. Repeat the flag; separate " +
      "with spaces in the variable."
  }),
  backendEvents: many(Kind.backendEvents, {
    flag: "backend-events",
    variable: "SPRAYPROXY_BACKEND_EVENTS",
    separators: { flag: undefined, variable: /\s+/ },
    defaultText: "all events",
    description: "Events that a --backend gets. Repeat the flag; separate with spaces in the variable."
  })
}
