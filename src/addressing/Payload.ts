/**
 * Reads from a payload what its delivery belongs to: a repository, or, without one, an owner.
 *
 * **Details**
 *
 * - The owner of a delivery without a repository is its organization's login, or else that of the account that has the
 *   App installed.
 * - A payload is JSON, or the JSON in a form. Of equal members the last one counts, as in Go, in which
 *   Pipelines-as-Code is written.
 * - A small payload is parsed at once. A large one is read in slices, a few in each turn of the event loop: 25 MiB take
 *   seconds.
 */
import type { JSONParser } from "@streamparser/json"
import { Buffer } from "node:buffer"
import { performance } from "node:perf_hooks"
import type { Body } from "../domain/Body.ts"
import { type Subject, subjectOf as subjectOfName } from "../domain/RepositoryPattern.ts"
import { FormPayload } from "./FormPayload.ts"

/** The members of a payload that say what it belongs to. */
interface Members {
  repository?: unknown
  organization?: unknown
  installation?: unknown
}

/** Whether the payload can be read at once. */
export const isSmall = (body: Body): boolean => body.length <= smallBytes

/** What a small payload belongs to. Undefined: to nobody that it names, or it can't be read. */
export const read = (body: Body, isForm: boolean): Subject | undefined =>
  subjectIn(parsed(Buffer.concat([...jsonOf(body, isForm)]).toString()))

/** The same for a payload of any size. Calls `done` once, in a later turn of the event loop. */
export const readSlowly = (body: Body, isForm: boolean, done: (subject: Subject | undefined) => void): void => {
  // Loaded here, because hardly any payload is large.
  void import("@streamparser/json").then(({ JSONParser }) =>
    setImmediate(new SlowReading(JSONParser, jsonOf(body, isForm), done).go)
  )
}

/** Reads a large payload. */
class SlowReading {
  readonly #json: Iterator<Buffer>
  readonly #done: (subject: Subject | undefined) => void
  readonly #members: Members = {}
  readonly #parser: JSONParser

  constructor(
    Parser: typeof JSONParser,
    json: Iterable<Buffer>,
    done: (subject: Subject | undefined) => void
  ) {
    this.#parser = new Parser({ paths: names.map((name) => `$.${name}`), keepStack: false })
    this.#json = json[Symbol.iterator]()
    this.#done = done
    this.#parser.onValue = ({ key, value }) => {
      this.#members[key as keyof Members] = value
    }
  }

  readonly go = (): void => {
    const until = performance.now() + turnMillis
    try {
      do {
        const { done, value } = this.#json.next()
        if (done === true) return this.#done(this.#parser.isEnded ? subjectIn(this.#members) : undefined)
        this.#parser.write(value)
      } while (performance.now() < until)
    } catch {
      return this.#done(undefined)
    }
    setImmediate(this.go)
  }
}

const names = ["repository", "organization", "installation"] as const satisfies ReadonlyArray<keyof Members>

/** The JSON in a body, in slices. */
function* jsonOf(body: Body, isForm: boolean): Generator<Buffer> {
  if (!isForm) return yield* slicesOf(body)
  const form = new FormPayload()
  for (const slice of slicesOf(body)) yield form.write(slice)
  yield form.end()
}

function* slicesOf(body: Body): Generator<Buffer> {
  for (const chunk of body.chunks) {
    for (let at = 0; at < chunk.length; at += sliceBytes) yield chunk.subarray(at, at + sliceBytes)
  }
}

const parsed = (json: string): Members => {
  try {
    const value: unknown = JSON.parse(json)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

const subjectIn = ({ installation, organization, repository }: Members): Subject | undefined => {
  // A repository that can't be read is somebody's, and not known to be the owner's.
  if (repository !== undefined && repository !== null) {
    const fullName = isObject(repository) ? repository["full_name"] : undefined
    return typeof fullName === "string" ? subjectOfName(fullName) : undefined
  }
  const login = loginOf(organization) ?? loginOf(isObject(installation) ? installation["account"] : undefined)
  return login === undefined ? undefined : { owner: login.toLowerCase(), name: undefined }
}

const loginOf = (account: unknown): string | undefined => {
  const login = isObject(account) ? account["login"] : undefined
  return typeof login === "string" && login !== "" && !login.includes("/") ? login : undefined
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/** Parsing so much takes some 10 ms. */
const smallBytes = 1024 * 1024

/** A slice takes 2 ms, and a turn of the event loop is not held for much longer than `turnMillis`. */
const sliceBytes = 16 * 1024
const turnMillis = 10
