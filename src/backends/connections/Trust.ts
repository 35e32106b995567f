/**
 * The authorities whose certificates a backend may show: those that Node ships, those of the system, and those of
 * `--backend-ca`.
 *
 * **Details**
 *
 * All connections share one `SecureContext`. A list of authorities is read again for every connection, which takes 22
 * ms each time; with a shared context it takes 2 ms.
 *
 * **Gotchas**
 *
 * Reading the system's authorities (30 to 90 ms) and putting the context together (25 ms) block. So both wait for the
 * first https connection, and a start without one is not slowed. `--backend-ca` is checked at the start and followed
 * from then on. A connection that is already there keeps the trust that it was made with.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { X509Certificate } from "node:crypto"
import * as tls from "node:tls"
import { Log } from "../../observability/logs/Logging.ts"
import * as FollowedFiles from "../../runtime/FollowedFiles.ts"

/** The file of `--backend-ca` can't be used. The message is one line, fit to be the last words of a failed start. */
export class InvalidBackendCa extends Schema.TaggedError<InvalidBackendCa>()("InvalidBackendCa", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `--backend-ca: ${JSON.stringify(this.path)} ${this.reason}; it takes a readable PEM file of certificates`
  }
}

interface BackendTrust {
  /**
   * Returns a function that gives what `make` makes of the current context. `make` is called once for each context, and
   * there is a new context after the file has changed.
   */
  readonly withContext: <A>(make: (context: tls.SecureContext) => A) => () => A
}

/** Checks the PEM file, if there is one, and follows it. The context is put together when it is first needed. */
export const make = Effect.fnUntraced(function*(backendCa: Option.Option<string>) {
  const log = yield* Log
  let added: ReadonlyArray<string> = []
  let context: tls.SecureContext | undefined
  if (Option.isSome(backendCa)) {
    const path = backendCa.value
    const changed = ([reading]: ReadonlyArray<FollowedFiles.Reading>) =>
      Result.match(certificatesOf(path, reading!), {
        onFailure: ({ reason }) =>
          log.write("warn", "certificate authorities of backends not loaded, keeping the last ones", {
            path,
            error: reason
          }),
        onSuccess: (certificates) => {
          added = certificates
          context = undefined
          log.write("info", "certificate authorities of backends loaded", { path, count: certificates.length })
        }
      })
    const [reading] = yield* FollowedFiles.follow([path], { mostBytes: 4 * 1024 * 1024, changed })
    added = yield* Effect.fromResult(certificatesOf(path, reading!))
  }
  const current = (): tls.SecureContext => {
    context ??= tls.createSecureContext({ ca: authorities(added) })
    return context
  }
  const trust: BackendTrust = {
    withContext: (makeFor) => {
      let last: { readonly context: tls.SecureContext; readonly made: ReturnType<typeof makeFor> } | undefined
      return () => {
        const now = current()
        if (last?.context !== now) last = { context: now, made: makeFor(now) }
        return last.made
      }
    }
  }
  return trust
})

/** The authorities that Node ships, those of the system, and `added`. */
export const authorities = (added: ReadonlyArray<string> = []): Array<string> => [
  ...new Set([...tls.getCACertificates("default"), ...tls.getCACertificates("system"), ...added])
]

const certificatesOf = (
  path: string,
  reading: FollowedFiles.Reading
): Result.Result<ReadonlyArray<string>, InvalidBackendCa> => {
  const fail = (reason: string) => Result.fail(new InvalidBackendCa({ path, reason }))
  if (reading.kind === "gone") return fail("is not there")
  if (reading.kind === "unreadable") return fail(`can't be read (${reading.reason})`)
  const pem = Buffer.from(reading.bytes).toString("utf8")
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? []
  if (certificates.length === 0) return fail("has no certificate in it")
  const broken = certificates.findIndex((certificate) => !isCertificate(certificate))
  return broken < 0
    ? Result.succeed(certificates)
    : fail(`has a certificate (number ${broken + 1}) that can't be parsed`)
}

const isCertificate = (pem: string): boolean => {
  try {
    return new X509Certificate(pem).subject !== undefined
  } catch {
    return false
  }
}
