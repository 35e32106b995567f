/**
 * The App's private key, from a file that is followed.
 *
 * **Details**
 *
 * A file without a usable key keeps the last one, also if it is gone: only GitHub decides whether a key is still good.
 * PEM is taken as GitHub hands it out (PKCS#1) and as other tools write it (PKCS#8).
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createPrivateKey, type KeyObject } from "node:crypto"
import { Log } from "../../observability/logs/Logging.ts"
import * as FollowedFiles from "../../runtime/FollowedFiles.ts"

interface AppKey {
  /** In PEM, as PKCS#8. Undefined: there has never been one. */
  readonly pem: Redacted.Redacted<string> | undefined
  /** Why the file has no usable key now, in words that follow its name. Undefined: it has one. */
  readonly fault: string | undefined
}

/** Reads the file, and gives the key as it is now. A file without a key is a warning, not an error. */
export const follow = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<() => AppKey, never, Log | FileSystem.FileSystem | Scope.Scope> {
  const log = yield* Log
  let key: KeyObject | undefined
  let now: AppKey = { pem: undefined, fault: undefined }
  const take = ([reading]: ReadonlyArray<FollowedFiles.Reading>) => {
    const next = keyOf(reading!)
    if (typeof next === "string") {
      if (now.fault !== next) {
        const kept = key === undefined ? "" : ", keeping the last one"
        log.write("warn", `GitHub App key not loaded${kept}`, { path, error: next })
      }
      now = { ...now, fault: next }
      return
    }
    const isSame = key?.equals(next) === true
    if (!isSame || now.fault !== undefined) {
      log.write("info", isSame || key === undefined ? "GitHub App key loaded" : "GitHub App key changed", { path })
    }
    if (!isSame) now = { ...now, pem: Redacted.make(next.export({ type: "pkcs8", format: "pem" }).toString()) }
    now = { ...now, fault: undefined }
    key = next
  }
  take(yield* FollowedFiles.follow([path], { mostBytes: 64 * 1024, changed: take }))
  return () => now
})

const keyOf = (reading: FollowedFiles.Reading): KeyObject | string => {
  if (reading.kind === "gone") return "is not there"
  if (reading.kind === "unreadable") return `can't be read (${reading.reason})`
  try {
    const key = createPrivateKey(Buffer.from(reading.bytes))
    return key.asymmetricKeyType === "rsa" ? key : faultOfContent
  } catch {
    return faultOfContent
  }
}

const faultOfContent = "has no RSA private key in it that is PEM and unencrypted"
