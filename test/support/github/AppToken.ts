/**
 * Verifies the JSON web token with which an App signs in, as GitHub does, and says no in GitHub's words:
 * https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
 */
import { type KeyObject, verify } from "node:crypto"

export interface SignIn {
  readonly appId: string
  readonly clientId: string
  /** An App may have several keys, so that one can be replaced by another. */
  readonly keys: ReadonlyArray<KeyObject>
  /** GitHub's clock, in milliseconds. */
  readonly now: number
}

export interface Refusal {
  readonly status: 401 | 404
  readonly message: string
}

const notDecoded = { status: 401, message: "A JSON web token could not be decoded" } as const

/** Why the request is not an App's. Undefined: it is. */
export const refusalOf = (authorization: string | undefined, app: SignIn): Refusal | undefined => {
  if (authorization === undefined) return { status: 401, message: "Requires authentication" }
  const token = /^bearer (\S+)$/i.exec(authorization)?.[1]
  const [header, claims, signature, ...rest] = token?.split(".") ?? []
  if (header === undefined || claims === undefined || signature === undefined || rest.length > 0) return notDecoded
  const { alg } = decoded(header)
  const { exp, iat, iss } = decoded(claims)
  if (alg !== "RS256") return notDecoded
  if (iss === undefined) return { status: 401, message: "Missing 'issuer' claim ('iss') in assertion" }
  if (String(iss) !== app.appId && iss !== app.clientId) return { status: 404, message: "Integration not found" }
  const signed = Buffer.from(`${header}.${claims}`)
  const proof = Buffer.from(signature, "base64url")
  if (!app.keys.some((key) => verify("RSA-SHA256", signed, key, proof))) return notDecoded
  const now = app.now / 1_000
  if (typeof exp !== "number" || exp <= now) {
    const wanted = "must be a numeric value representing the future time at which the assertion expires"
    return { status: 401, message: `'Expiration time' claim ('exp') ${wanted}` }
  }
  if (exp > now + 600) return { status: 401, message: "'Expiration time' claim ('exp') is too far in the future" }
  if (typeof iat !== "number" || !Number.isInteger(iat) || iat > now) {
    const wanted = "must be an Integer representing the time that the assertion was issued"
    return { status: 401, message: `'Issued at' claim ('iat') ${wanted}` }
  }
  return undefined
}

const decoded = (part: string): Readonly<Record<string, unknown>> => {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString("utf8")) as Readonly<Record<string, unknown>>
  } catch {
    return {}
  }
}
