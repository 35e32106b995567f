/** Shows on stderr what is going on: on a terminal one line that is written anew, elsewhere a line for each step. */
import * as Effect from "effect/Effect"

const { stderr } = process

let open = false

export const step = (text: string): Effect.Effect<void> =>
  Effect.sync(() => {
    if (!stderr.isTTY) return void stderr.write(`${text}\n`)
    open = true
    stderr.write(`\r\u001b[K${text.slice(0, stderr.columns - 1)}`)
  })

/** Removes the open line. */
export const clear: Effect.Effect<void> = Effect.sync(() => {
  if (open) stderr.write("\r\u001b[K")
  open = false
})
