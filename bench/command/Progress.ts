/** What is going on, on stderr: one line that is written anew on a terminal, a line for each step elsewhere. */
import * as Effect from "effect/Effect"

const { stderr } = process

let open = false

export const step = (text: string): Effect.Effect<void> =>
  Effect.sync(() => {
    if (!stderr.isTTY) return void stderr.write(`${text}\n`)
    open = true
    stderr.write(`\r\u001b[K${text.slice(0, stderr.columns - 1)}`)
  })

/** Takes the open line away. */
export const clear: Effect.Effect<void> = Effect.sync(() => {
  if (open) stderr.write("\r\u001b[K")
  open = false
})
