/**
 * Whose certificates a backend may show: the authorities that Node ships, those of the system, and `--backend-ca`.
 *
 * **Details**
 *
 * One `SecureContext` is shared by all connections: a list of authorities is read again for every connection, which costs
 * 22 ms each time, where a shared context leaves 2 ms.
 *
 * **Gotchas**
 *
 * Reading the system's authorities (30 to 90 ms) and putting the context together (25 ms) blocks, so both wait for the first
 * https connection, and a start without one is not slowed. `--backend-ca` is checked at the start.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import * as tls from "node:tls"

/** The file of `--backend-ca` can't be used. Its message is one line, fit to be the last words of a failed start. */
export class InvalidBackendCa extends Schema.TaggedError<InvalidBackendCa>()("InvalidBackendCa", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `--backend-ca: ${JSON.stringify(this.path)} ${this.reason}; it takes a readable PEM file of certificates`
  }
}

/** Checks the PEM file, if there is one. The context is put together when it is first asked for. */
export const make = Effect.fnUntraced(function*(backendCa: Option.Option<string>) {
  const added = Option.isNone(backendCa) ? [] : yield* readCertificates(backendCa.value)
  let context: tls.SecureContext | undefined
  return (): tls.SecureContext => {
    context ??= tls.createSecureContext({
      ca: [...new Set([...tls.getCACertificates("default"), ...tls.getCACertificates("system"), ...added])]
    })
    return context
  }
})

const readCertificates = Effect.fnUntraced(function*(path: string) {
  const pem = yield* Effect.try({
    try: () => readFileSync(path, "utf8"),
    catch: (cause) => new InvalidBackendCa({ path, reason: `can't be read (${codeOf(cause)})` })
  })
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? []
  if (certificates.length === 0) return yield* new InvalidBackendCa({ path, reason: "has no certificate in it" })
  for (const [index, certificate] of certificates.entries()) {
    yield* Effect.try({
      try: () => new X509Certificate(certificate),
      catch: () =>
        new InvalidBackendCa({ path, reason: `has a certificate (number ${index + 1}) that can't be parsed` })
    })
  }
  return certificates
})

const codeOf = (cause: unknown): string => (cause as NodeJS.ErrnoException).code ?? String(cause)
