/** The certificate of the metrics listener and its key. They are loaded again when their files change. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { X509Certificate } from "node:crypto"
import { createServer } from "node:https"
import { createSecureContext } from "node:tls"
import { Log } from "../observability/logs/Logging.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Series.ts"
import * as FollowedFiles from "../runtime/FollowedFiles.ts"

/** The certificate or key of the metrics listener can't be used. */
export class InvalidMetricsCertificate
  extends Schema.TaggedError<InvalidMetricsCertificate>()("InvalidMetricsCertificate", {
    cert: Schema.String,
    key: Schema.String,
    reason: Schema.String
  })
{
  override get message() {
    return `--metrics-cert ${JSON.stringify(this.cert)} and --metrics-key ${JSON.stringify(this.key)} can't be used ` +
      `(${this.reason}); they take PEM files of a certificate and its key`
  }
}

interface Certificate {
  readonly cert: string
  readonly key: string
  /** Unix seconds. */
  readonly expiresAt: number
}

/** A server that shows the certificate that its files hold now. */
export const tlsServer = Effect.fnUntraced(function*(certFile: string, keyFile: string) {
  const log = yield* Log
  const load = (readings: ReadonlyArray<FollowedFiles.Reading>) =>
    Result.mapError(
      certificateOf([certFile, keyFile], readings),
      (reason) => new InvalidMetricsCertificate({ cert: certFile, key: keyFile, reason })
    )

  let failed: string | undefined
  const changed = (readings: ReadonlyArray<FollowedFiles.Reading>) =>
    Result.match(load(readings), {
      onSuccess: (next) => {
        failed = undefined
        if (next.cert === loaded.cert && next.key === loaded.key) return
        loaded = next
        server.setSecureContext({ cert: next.cert, key: next.key })
        log.write("info", "metrics certificate loaded", { path: certFile })
      },
      // The files may hold half of a new pair. The next look may find the other half.
      onFailure: ({ message }) => {
        if (failed !== message) {
          log.write("warn", "metrics certificate not loaded, keeping the last one", { error: message })
        }
        failed = message
      }
    })
  const readings = yield* FollowedFiles.follow([certFile, keyFile], { mostBytes: 1024 * 1024, changed })
  let loaded = yield* Effect.fromResult(load(readings))
  const server = createServer({ cert: loaded.cert, key: loaded.key })
  yield* observableGauge(Names.certificateExpiry, () => loaded.expiresAt)
  return server
})

const certificateOf = (
  paths: readonly [cert: string, key: string],
  readings: ReadonlyArray<FollowedFiles.Reading>
): Result.Result<Certificate, string> =>
  Result.gen(function*() {
    const [cert, key] = yield* Result.all(readings.map((file, index) => {
      if (file.kind === "content") return Result.succeed(Buffer.from(file.bytes).toString("utf8"))
      const path = JSON.stringify(paths[index])
      return Result.fail(
        file.kind === "gone" ? `${path} is not there` : `${path} can't be read: ${file.reason}`
      )
    }))
    return yield* Result.try({
      try: () => {
        createSecureContext({ cert: cert!, key: key! })
        return { cert: cert!, key: key!, expiresAt: Date.parse(new X509Certificate(cert!).validTo) / 1_000 }
      },
      catch: (error) => error instanceof Error ? error.message : String(error)
    })
  })
