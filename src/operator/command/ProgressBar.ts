/** Shows how far a command is: by a bar that grows on a terminal, by a line for each step anywhere else. */
import * as Effect from "effect/Effect"
import type { Output } from "./Output.ts"

const cells = 30

/** Says that `done` of `total` are done. `total` is undefined if nobody knows it. */
export const show = (
  output: Output["Service"],
  what: string,
  done: number,
  total: number | undefined
): Effect.Effect<void> => {
  if (total === undefined) return output.say(output.canOverwrite ? `\r${what} ${done}\x1b[K` : `${what}: ${done}\n`)
  const share = total === 0 ? 1 : Math.min(1, done / total)
  const filled = Math.round(share * cells)
  return output.say(
    output.canOverwrite
      ? `\r${what} ${"█".repeat(filled)}${"░".repeat(cells - filled)} ${done} of ${total} (${
        Math.floor(share * 100)
      } %)\x1b[K`
      : `${what}: ${done} of ${total}\n`
  )
}

/** Ends the line of the bar. */
export const leave = (output: Output["Service"]): Effect.Effect<void> =>
  output.canOverwrite ? output.say("\n") : Effect.void
