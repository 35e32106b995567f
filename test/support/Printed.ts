/** The output of a command for a running server. */
import * as Effect from "effect/Effect"
import { Output } from "../../src/operator/command/Output.ts"

export interface Terminal {
  readonly columns?: number
  readonly hasColours?: boolean
  readonly canOverwrite?: boolean
}

/** Runs the command on a terminal, or by default in a pipe. `printed` has its output also if it fails. */
export const printing = Effect.fnUntraced(function*<E>(
  command: Effect.Effect<void, E, Output>,
  terminal: Terminal = {},
  printed = { out: "", err: "" }
) {
  const output = Output.of({
    columns: terminal.columns,
    hasColours: terminal.hasColours ?? false,
    canOverwrite: terminal.canOverwrite ?? false,
    print: (text) => Effect.sync(() => void (printed.out += text)),
    say: (text) => Effect.sync(() => void (printed.err += text))
  })
  yield* Effect.provideService(command, Output, output)
  return printed
})
