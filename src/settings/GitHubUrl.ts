/**
 * The base URL of GitHub's API.
 *
 * **Details**
 *
 * It is sent what the App's key has signed. So it is https, except on this machine. The address of GitHub's website is
 * refused, because it answers with pages.
 */
import * as Result from "effect/Result"
import { isLoopback } from "./Loopback.ts"

/** Takes `https://api.github.com` or `https://HOST/api/v3`. The failure says what is allowed. */
export const parse = (text: string): Result.Result<string, string> => {
  const authority = /^https?:\/\/([^/?#]+)/i.exec(text)?.[1]
  // The URL standard would repair white space and backslashes.
  if (authority === undefined || /[\s\\\p{Cc}]/u.test(text) || !URL.canParse(text)) return Result.fail(allowed)
  const { hostname, origin, pathname, protocol } = new URL(text)
  const reason = authority.includes("@")
    ? "credentials do not belong in it"
    : text.includes("#")
    ? "a fragment does not belong in it"
    : text.includes("?")
    ? "a query does not belong in it"
    : protocol === "http:" && !isLoopback(hostname.replace(/^\[|\]$/g, ""))
    ? "http is for loopback only"
    : /^(www\.)?github\.com$/.test(hostname)
    ? "a website's address is not its API's"
    : undefined
  return reason === undefined
    ? Result.succeed(origin + pathname.replace(/\/+$/, ""))
    : Result.fail(`${reason}: ${allowed}`)
}

const allowed = "the API is at https://api.github.com, or on GitHub Enterprise Server at https://HOST/api/v3"
