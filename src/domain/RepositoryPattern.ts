/**
 * Patterns of repositories: `owner/name` is that repository alone, `owner/*` is everything that belongs to the owner.
 *
 * **Details**
 *
 * Patterns and names are compared without regard to case, as GitHub compares them. A pattern is kept in lower case.
 */

/** What a delivery belongs to, in lower case. Without a `name` it is the owner's, and no repository's. */
export interface Subject {
  readonly owner: string
  readonly name: string | undefined
}

/** A name of GitHub's, for a message. */
export const patternRule = "a pattern is owner/repository, or owner/* for all of an owner's repositories"

/** GitHub's owners have letters, digits, `-` and, where an enterprise manages them, `_`. */
const owner = /^[a-z\d_][a-z\d_-]{0,99}$/
const name = /^[a-z\d._-]{1,100}$/

/** The pattern in lower case. Undefined: it is none. */
export const parse = (text: string): string | undefined => {
  if (!isAscii(text)) return undefined
  const pattern = text.toLowerCase()
  const [ofOwner = "", ofName = "", ...rest] = pattern.split("/")
  const isPattern = rest.length === 0 && owner.test(ofOwner) && (ofName === "*" || isName(ofName))
  return isPattern ? pattern : undefined
}

/** Reads a repository's full name, as GitHub's payloads have it. Undefined: it is none. */
export const subjectOf = (fullName: string): Subject | undefined => {
  if (!isAscii(fullName)) return undefined
  const [ofOwner = "", ofName = "", ...rest] = fullName.toLowerCase().split("/")
  return rest.length === 0 && ofOwner !== "" && ofName !== "" && ofName !== "*"
    ? { owner: ofOwner, name: ofName }
    : undefined
}

/** Reads an account's login. Undefined: it is none. */
export const subjectOfOwner = (login: string): Subject | undefined =>
  login === "" || login.includes("/") || !isAscii(login) ? undefined : { owner: login.toLowerCase(), name: undefined }

/** Whether one of the patterns covers what a delivery belongs to. */
export const matches = (patterns: ReadonlySet<string>, subject: Subject): boolean =>
  patterns.has(`${subject.owner}/*`) ||
  (subject.name !== undefined && patterns.has(`${subject.owner}/${subject.name}`))

/** Whether one of the patterns covers all that `pattern` covers. */
export const covers = (patterns: ReadonlySet<string>, pattern: string): boolean =>
  patterns.has(pattern) || patterns.has(`${pattern.slice(0, pattern.indexOf("/"))}/*`)

/** The patterns that cover just what both sets cover. */
export const common = (some: ReadonlySet<string>, others: ReadonlySet<string>): ReadonlySet<string> =>
  new Set(
    [...some].filter((pattern) => covers(others, pattern)).concat(
      [...others].filter((pattern) => covers(some, pattern))
    )
  )

/** GitHub's names are. Other letters may become ASCII ones in lower case: that of the Kelvin sign is `k`. */
const isAscii = (text: string): boolean => /^[\x21-\x7e]*$/.test(text)

const isName = (text: string): boolean => name.test(text) && text !== "." && text !== ".."
