/**
 * Where the store is: in a SQLite file or in a PostgreSQL database.
 *
 * **Details**
 *
 * A path is taken as it is: nothing in it is decoded, and it has no parameters. A PostgreSQL URL is one of libpq's
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS) with exactly one server. It must
 * name a user and a database, because the client's default for both is the user who runs the process.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

/** A decoded `--store`. */
export type StoreLocation =
  | { readonly kind: "sqlite"; readonly path: string }
  | {
    readonly kind: "postgres"
    /** The whole URL, its password included. */
    readonly url: Redacted.Redacted<string>
  }

/** Takes `sqlite:/path/to/file`, `postgres://…` or `postgresql://…`. The failure says what is allowed. */
export const parse = (text: string): Result.Result<StoreLocation, string> => {
  const reference = /\$\(\w+\)|\$\{\w+\}/.exec(text)?.[0]
  if (reference !== undefined) return Result.fail(`${reference} in it was to be replaced by a value, and was not`)
  if (text.startsWith("sqlite:")) return sqlite(text.slice("sqlite:".length))
  if (/^postgres(ql)?:\/\//.test(text)) return postgres(text)
  return Result.fail(`a store is ${sqliteForm} or ${postgresForm}`)
}

const sqliteForm = "sqlite:/path/to/file"
const postgresForm = "postgres://user:password@host:port/database, user and password percent-encoded where needed"

const sqlite = (text: string): Result.Result<StoreLocation, string> => {
  const path = text.replace(/^\/\/(?=\/)/, "")
  const reason = path === ""
    ? "it names no file"
    : path.startsWith("//") && path === text
    ? "a file has no host, and its path starts with one slash or three"
    : path.includes("?") || path.includes("#")
    ? "a file has no parameters, and no ? or # in its path"
    : /^(:|file:)/.test(path)
    ? "the store is a file on a disk, named by its path"
    : path.startsWith("~")
    ? "no shell replaces the ~"
    : path.endsWith("/")
    ? "it is a directory"
    : /\p{Cc}/u.test(path)
    ? "a path has no control characters"
    : undefined
  return reason === undefined
    ? Result.succeed({ kind: "sqlite", path })
    : Result.fail(`${reason}: a store in a file is ${sqliteForm}`)
}

const postgres = (text: string): Result.Result<StoreLocation, string> => {
  const reason = postgresFault(text)
  return reason === undefined
    ? Result.succeed({ kind: "postgres", url: Redacted.make(text) })
    : Result.fail(`${reason}: a store in PostgreSQL is ${postgresForm}`)
}

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

/**
 * Checks what the client's own errors don't tell: of some faults it says only that the URL can't be used, and with
 * others it takes the database for one that is away.
 */
const postgresFault = (text: string): string | undefined => {
  const url = URL.parse(text)
  if (url === null) return "it is no url"
  if (url.hash !== "") return "a # in it is written %23"
  const parts = [url.hostname, url.username, url.password, url.pathname.slice(1)].map(decoded)
  if (parts.some((part) => part === undefined || part.includes("\0"))) return "a % in it is written %25"
  const [host, user, , database] = parts
  const last = (name: string) => url.searchParams.getAll(name).at(-1)
  const sslmode = last("sslmode")
  const port = last("port") ?? url.port
  const timeout = last("connect_timeout")
  if ((last("host") ?? host)!.includes(",")) return "it names more than one server"
  if (port !== "" && !isPort(port)) return "a port is a whole number from 1 to 65535"
  if (!(last("user") ?? user)) return "it names no user"
  if (!(last("dbname") ?? database)) return "it names no database"
  if (sslmode !== undefined && !sslModes.includes(sslmode)) return `sslmode is one of ${sslModes.join(", ")}`
  return timeout === undefined || /^\d+$/.test(timeout) ? undefined : "connect_timeout is a whole number of seconds"
}

const isPort = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535

const decoded = (part: string): string | undefined => {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}

/** A PostgreSQL server, as the client connects to it. */
export interface PostgresServer {
  /** A name, an address, or the directory of a socket. */
  readonly host: string
  /** If there are several, the last counts. Undefined: the connection is not encrypted. */
  readonly sslmode: string | undefined
  /**
   * The parameters that the client does not know and ignores. Empty if a password is a parameter: they may be parts of
   * it.
   */
  readonly ignored: ReadonlyArray<string>
}

const known = new Set([
  "host",
  "port",
  "user",
  "password",
  "dbname",
  "application_name",
  "options",
  "connect_timeout",
  "sslmode"
])

/** The server of a URL that `parse` has accepted. */
export const serverOf = (url: Redacted.Redacted<string>): PostgresServer => {
  const { hostname, searchParams } = new URL(Redacted.value(url))
  const host = searchParams.getAll("host").at(-1) ?? decodeURIComponent(hostname.replace(/^\[|\]$/g, ""))
  return {
    host: host === "" ? "localhost" : host,
    sslmode: searchParams.getAll("sslmode").at(-1),
    ignored: searchParams.has("password") ? [] : [...new Set(searchParams.keys())].filter((name) => !known.has(name))
  }
}
