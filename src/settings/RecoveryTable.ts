/** The rows of the settings table that concern recovery: what never arrived is fetched from GitHub. */
import { one, optional } from "./Definition.ts"
import * as Kind from "./Kinds.ts"

export const recoveryDefinitions = {
  /** Recovery is on if there is one. */
  githubAppId: optional(Kind.appId, {
    flag: "github-app-id",
    variable: "SPRAYPROXY_GITHUB_APP_ID",
    defaultText: "none: nothing is recovered",
    description: "Id of the GitHub App, to ask GitHub for deliveries that never arrived. Needs its key and a store."
  }),
  githubPrivateKeyFile: optional(Kind.path, {
    flag: "github-private-key-file",
    variable: "SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE",
    description: "PEM file with a private key of the App; goes together with its id. Changes are followed."
  }),
  /** Without a slash at its end. */
  githubApiUrl: one(Kind.githubApiUrl, {
    flag: "github-api-url",
    variable: "SPRAYPROXY_GITHUB_API_URL",
    onlyWith: "githubAppId",
    fallback: "https://api.github.com",
    description: "Base URL of GitHub's API; https://HOST/api/v3 for GitHub Enterprise Server."
  }),
  recoveryInterval: one(Kind.duration("above 0s"), {
    flag: "recovery-interval",
    variable: "SPRAYPROXY_RECOVERY_INTERVAL",
    onlyWith: "githubAppId",
    fallback: "1m",
    description: "With recovery: how often GitHub's log is read for deliveries that have failed."
  }),
  recoveryMaxAge: one(Kind.duration("above 0s"), {
    flag: "recovery-max-age",
    variable: "SPRAYPROXY_RECOVERY_MAX_AGE",
    onlyWith: "githubAppId",
    fallback: "72h",
    description:
      "With recovery: how old a delivery may be. GitHub sends it again for 3 days, GitHub Enterprise Server for 7."
  }),
  recoveryPace: one(Kind.duration("0s or more"), {
    flag: "recovery-pace",
    variable: "SPRAYPROXY_RECOVERY_PACE",
    onlyWith: "githubAppId",
    fallback: "1s",
    description: "With recovery: the least time between two requests for redelivery. GitHub wants a second."
  })
}
