/**
 * The port to GitHub's log: the App's list of attempts at delivering to us.
 *
 * **Details**
 *
 * One row of the log is one attempt of GitHub's, not one delivery: a failed attempt stays in the log after a later one
 * has succeeded. Rows are listed newest first. They appear seconds to minutes late, and GitHub keeps them for three days
 * (GitHub Enterprise Server: seven).
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"

/** One attempt of GitHub's at delivering to us. */
export interface LoggedAttempt {
  /** A whole number as text, because it may exceed 2^53. */
  readonly id: string
  /** The delivery's GUID. All attempts on one delivery have the same. */
  readonly guid: string
  /** When it was made, by GitHub's clock, in Unix milliseconds. */
  readonly deliveredAt: number
  /** Whether somebody has asked GitHub for it. */
  readonly redelivery: boolean
  /** The status of the answer that GitHub got. 0: it got none. */
  readonly statusCode: number
  readonly event: string
  readonly action: string | undefined
  readonly installationId: string | undefined
  readonly repositoryId: string | undefined
  /** When GitHub held it back, in Unix milliseconds: in a surge it slows its deliveries down. */
  readonly throttledAt: number | undefined
}

/**
 * Why GitHub did not answer a question about its log.
 *
 * - `unauthorized`: it does not take the App's key, or there is none.
 * - `suspended`: it has suspended the App.
 * - `no webhook`: the App has no webhook.
 * - `not the API`: somebody else answers in GitHub's place.
 * - `limited`: the App has made too many requests. Nothing is asked until GitHub takes requests again.
 * - `unreachable`: there was no answer, or not all of it.
 * - `failed`: anything else that is GitHub's fault.
 */
export const gitHubFailures = [
  "unauthorized",
  "suspended",
  "no webhook",
  "not the API",
  "limited",
  "unreachable",
  "failed"
] as const
export type GitHubFailure = typeof gitHubFailures[number]

/** GitHub did not answer a question about its log. `reason` is one line that names the setting to look at. */
export class GitHubUnavailable extends Schema.TaggedError<GitHubUnavailable>()("GitHubUnavailable", {
  kind: Schema.Literals(gitHubFailures),
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}

export class GitHubLog extends Context.Service<GitHubLog, {
  /**
   * The log in pages, newest first. Pages are fetched as they are taken. `failures` has only attempts that were answered
   * 400 to 599, without those that were not answered.
   */
  readonly attempts: (which: "all" | "failures") => Stream.Stream<ReadonlyArray<LoggedAttempt>, GitHubUnavailable>
  /** The hook id that an attempt was made with. Undefined: GitHub no longer has the attempt, or does not have it yet. */
  readonly hookIdOf: (attemptId: string) => Effect.Effect<string | undefined, GitHubUnavailable>
  /**
   * Asks GitHub to deliver again what this attempt was to deliver. Requests are made one at a time, `--recovery-pace`
   * apart, and none is made twice: a failure leaves open whether GitHub has got it. Refused: GitHub will not do it, and
   * says why in one line.
   */
  readonly redeliver: (
    attemptId: string
  ) => Effect.Effect<"accepted" | { readonly refused: string }, GitHubUnavailable>
}>()("sprayproxy/recovery/GitHubLog") {}
