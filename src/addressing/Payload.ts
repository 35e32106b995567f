/**
 * Reads from a payload what its delivery belongs to: a repository, or, without one, an owner.
 *
 * **Details**
 *
 * - The owner of a delivery without a repository is its organization's login, or else that of the account that has the
 *   App installed.
 * - A payload is JSON, or the JSON in a form. Of equal members the last one counts.
 * - A small payload is read at once. A large one is read in slices, a few in each turn of the event loop.
 */
import { Buffer } from "node:buffer"
import { performance } from "node:perf_hooks"
import type { Body } from "../domain/Body.ts"
import { type Subject, subjectOf as subjectOfName, subjectOfOwner } from "../domain/RepositoryPattern.ts"
import { FormPayload } from "./FormPayload.ts"
import { JsonMembers } from "./JsonMembers.ts"

/** Whether the payload can be read at once. */
export const isSmall = (body: Body): boolean => body.length <= smallBytes

/** What a small payload belongs to. Undefined: to nobody that it names, or it can't be read. */
export const read = (body: Body, isForm: boolean): Subject | undefined => {
  const members = new JsonMembers(names)
  for (const slice of jsonOf(body, isForm)) if (!members.write(slice)) return undefined
  return subjectIn(members.end())
}

/** The same for a payload of any size. Calls `done` once, in a later turn of the event loop. */
export const readSlowly = (body: Body, isForm: boolean, done: (subject: Subject | undefined) => void): void => {
  const members = new JsonMembers(names)
  const json = jsonOf(body, isForm)
  const go = () => {
    const until = performance.now() + turnMillis
    do {
      const slice = json.next()
      if (slice.done === true) return done(subjectIn(members.end()))
      if (!members.write(slice.value)) return done(undefined)
    } while (performance.now() < until)
    setImmediate(go)
  }
  setImmediate(go)
}

/** The members of a payload that say what it belongs to. */
const names: ReadonlySet<string> = new Set(["repository", "organization", "installation"])

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

const subjectIn = (members: ReadonlyMap<string, unknown> | undefined): Subject | undefined => {
  if (members === undefined) return undefined
  const repository = members.get("repository")
  // A repository that can't be read is somebody's, and not known to be the owner's.
  if (repository !== undefined && repository !== null) {
    const fullName = isObject(repository) ? repository["full_name"] : undefined
    return typeof fullName === "string" ? subjectOfName(fullName) : undefined
  }
  const installation = members.get("installation")
  return ownerOf(members.get("organization")) ??
    ownerOf(isObject(installation) ? installation["account"] : undefined)
}

const ownerOf = (account: unknown): Subject | undefined => {
  const login = isObject(account) ? account["login"] : undefined
  return typeof login === "string" ? subjectOfOwner(login) : undefined
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/** Reading so much takes some 5 ms. */
const smallBytes = 1024 * 1024

/** A slice takes less than 1 ms, so a turn of the event loop is not held for much longer than `turnMillis`. */
const sliceBytes = 64 * 1024
const turnMillis = 10
