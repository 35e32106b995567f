/** The two places where a command prints: its result goes to stdout, everything else that it says to stderr. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Environment } from "../../settings/Variables.ts"

export class Output extends Context.Service<Output, {
  /** How many columns the terminal has that gets the result. Undefined if a file or a pipe gets it. */
  readonly columns: number | undefined
  readonly hasColours: boolean
  /**
   * Prints a part of the result. Succeeds when the system has taken all of it. Interrupts when nobody reads it any more
   * (`… | head`).
   */
  readonly print: (text: string) => Effect.Effect<void>
  /** Whether `say` writes to a terminal, where text can be overwritten. */
  readonly canOverwrite: boolean
  readonly say: (text: string) => Effect.Effect<void>
}>()("sprayproxy/operator/command/Output") {
  /** The process's own stdout and stderr, with colours as https://no-color.org wants them. */
  static readonly layer = (env: Environment) =>
    Layer.sync(Output, () => {
      const { stderr, stdout } = process
      return Output.of({
        columns: stdout.isTTY ? Math.max(40, stdout.columns || 120) : undefined,
        hasColours: stdout.isTTY && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb",
        print: (text) => write(stdout, text),
        canOverwrite: stderr.isTTY && env["TERM"] !== "dumb",
        say: (text) => write(stderr, text)
      })
    })
}

const write = (stream: NodeJS.WriteStream, text: string) =>
  Effect.callback<void>((resume) => {
    const onError = () => resume(Effect.interrupt)
    stream.once("error", onError)
    stream.write(text, (error) => {
      if (error != null) return
      stream.off("error", onError)
      resume(Effect.void)
    })
  })
