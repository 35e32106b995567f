/**
 * The load process: all clients and all backends, on a core of their own. It does what its parent asks, one thing at a
 * time.
 */
import { Backend } from "./Backends.ts"
import type { Answers, Question } from "./Messages.ts"
import { disconnect, run } from "./Run.ts"
import { startSlowSenders, stopSlowSenders } from "./SlowSenders.ts"

let backends: ReadonlyArray<Backend> = []

const answer = async (question: Question): Promise<Answers[keyof Answers]> => {
  switch (question.ask) {
    case "backends": {
      for (const backend of backends) backend.close()
      backends = question.specs.map((spec) => new Backend(spec))
      return Promise.all(backends.map((backend) => backend.listen()))
    }
    case "run":
      return run(question, backends)
    case "slow senders":
      startSlowSenders(question.port, question.count)
      return null
    case "disconnect":
      disconnect()
      return stopSlowSenders()
  }
}

process.on("message", async (question: Question) => {
  try {
    process.send!({ answer: await answer(question) })
  } catch (error) {
    process.send!({ error: String(error) })
  }
})
process.on("disconnect", () => process.exit())
// Ctrl-C reaches the whole process group, and the parent ends this process itself.
process.on("SIGINT", () => {})
