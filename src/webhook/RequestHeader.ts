import type { IncomingMessage } from "node:http"

/** A header's value. Repetitions are joined with commas, as RFC 9110 §5.3 says. */
export const headerOf = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name]
  return typeof value === "string" ? value : value?.join(", ")
}
