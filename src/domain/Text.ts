/** Words for people who read a terminal or a log. */

/** All that can break, hide or turn a line: control characters, line separators, marks of direction. */
export const unprintable = /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu

/** Escapes what is `unprintable`. */
export const printable = (text: string): string =>
  text.replace(unprintable, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** The text as a JSON string, which stays on one line whatever is in it. */
export const quote = (text: string): string => printable(JSON.stringify(text))

/** Several lines, such as those of a stack, as one. */
export const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/g, " ")

/**
 * The message of the innermost cause. Wrappers rarely say more than their own name: `ServeError` hides `listen
 * EADDRINUSE`.
 */
export const innermostMessage = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  if (error.cause instanceof Error) return innermostMessage(error.cause)
  // Node tries each address of a name. If all of them fail, the error around theirs has no message.
  if (error instanceof AggregateError && error.errors.length > 0) return innermostMessage(error.errors[0])
  return error.message || error.name
}
