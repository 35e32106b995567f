import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { GitHubLog, GitHubUnavailable } from "../../src/recovery/GitHubLog.ts"

const reason = "GitHub does not know the key (401): --github-private-key-file is not one of App 17"

describe("GitHub's log", () => {
  it.effect("that can't be read fails with its reason as the message", () =>
    Effect.gen(function*() {
      const log = yield* GitHubLog
      const error = yield* Effect.flip(Stream.runCollect(log.attempts("all")))
      assert.strictEqual(error.message, reason)
      assert.strictEqual(error.kind, "unauthorized")
    }).pipe(Effect.provideService(GitHubLog, {
      attempts: () => Stream.fail(new GitHubUnavailable({ kind: "unauthorized", reason })),
      hookIdOf: () => Effect.succeed("42"),
      redeliver: () => Effect.succeed("accepted")
    })))
})
