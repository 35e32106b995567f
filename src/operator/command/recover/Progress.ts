/** Shows how many of a run's deliveries have ended, and says what holds the others up. */
import * as Effect from "effect/Effect"
import type { StatusAnswer } from "../../recovery/Answers.ts"
import type { Output } from "../Output.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { utc } from "../Text.ts"

type Status = typeof StatusAnswer.Type

/** A file or a pipe gets a line for each step, so there a step takes this many answers. */
const answersInStep = 10

export const make = (output: Output["Service"], total: number) => {
  let answers = 0
  let ended = 0
  let shown: number | undefined
  let trouble = ""

  const bar = Effect.suspend(() => {
    shown = ended
    return ProgressBar.show(output, "recovering", ended, total)
  })

  const left = () => `${total - ended} of ${total} ${total - ended === 1 ? "is" : "are"}`

  return {
    show: (status: Status) =>
      Effect.suspend(() => {
        ended = Math.max(0, total - status.wanted - status.asked)
        const isStep = output.canOverwrite || answers % answersInStep === 0 || ended === total
        answers += 1
        const said = troubleOf(status)
        const isNews = said !== "" && said !== trouble
        // Only the reconciler knows of trouble, and any instance may answer.
        if (isNews || status.heldBack !== null) trouble = said
        if (isNews) return Effect.andThen(output.say(`${output.canOverwrite ? "\r\x1b[K" : ""}${said}\n`), bar)
        return ended === shown || !isStep ? Effect.void : bar
      }),
    leave: Effect.suspend(() => shown === undefined ? Effect.void : ProgressBar.leave(output)),
    /** How many have not ended, in words. */
    left
  }
}

const troubleOf = ({ failing, heldBack }: Status): string =>
  failing !== null
    ? `failing since ${utc(failing.since)} UTC: ${failing.reason}`
    : heldBack === true
    ? "requests are held back: nothing that was asked for arrives"
    : ""
