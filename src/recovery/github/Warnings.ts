import type { Log } from "../../observability/logs/Logging.ts"
import { said } from "./Failures.ts"

/**
 * Logs Octokit's warnings, such as one of a clock that is wrong. Each comes with every request, so it is logged once,
 * whatever numbers are in it.
 */
export const warningsTo = (log: Log["Service"]) => {
  const known = new Set<string>()
  return (warning: string): void => {
    const words = said(warning)
    const form = words.replaceAll(/\d+/g, "0")
    if (known.has(form) || known.size >= most) return
    known.add(form)
    log.write("warn", "GitHub's client warns", { warning: words })
  }
}

const most = 20
