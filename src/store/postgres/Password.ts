/**
 * Prepares a password for SCRAM by SASLprep (RFC 4013), which the client leaves out.
 *
 * **Details**
 *
 * PostgreSQL prepares a password when it is set. It takes the password as it is if SASLprep refuses it (unassigned
 * characters, a mix of directions), or if it is kept as MD5. Only the server knows which. So both spellings are tried,
 * the prepared one first. If they are the same, as with all of ASCII, there is only one.
 */
import * as Redacted from "effect/Redacted"

/** The spellings of a URL's password, to be tried one after the other. Empty if there is nothing to choose. */
export const passwordsOf = (url: string): Array<Redacted.Redacted> => {
  const password = passwordIn(url)
  if (password === undefined) return []
  const prepared = prepare(password)
  return prepared === password || prepared === "" ? [] : [Redacted.make(prepared), Redacted.make(password)]
}

/**
 * The client takes the password of the query, if there is one. A password that can't be read is left to the client to
 * refuse.
 */
const passwordIn = (url: string): string | undefined => {
  try {
    const { password, searchParams } = new URL(url)
    return searchParams.getAll("password").at(-1) ?? decodeURIComponent(password)
  } catch {
    return undefined
  }
}

/**
 * RFC 4013 §2.1 and §2.2: spaces become one space, characters that are commonly mapped to nothing are removed, and the
 * rest is normalized.
 */
const prepare = (password: string): string =>
  password.replaceAll(otherSpaces, " ").replaceAll(mappedToNothing, "").normalize("NFKC")

/** RFC 3454, table C.1.2. U+200B is in table B.1 too, and PostgreSQL looks in C.1.2 first. */
const otherSpaces = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g

/** RFC 3454, table B.1. */
const mappedToNothing = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|[\u200b-\u200d]|\u2060|[\ufe00-\ufe0f]|\ufeff/g
