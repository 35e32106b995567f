/**
 * The program's beginning, in a file of its own that is loaded in no time: it hears signals while the rest is loaded.
 *
 * Process 1, as which the image runs it, never gets a signal that nobody listens for: the rest of a SIGTERM's grace would pass
 * before SIGKILL. Nothing is under way yet.
 */
const signals = ["SIGINT", "SIGTERM"] as const
const end = () => process.exit(0)

for (const signal of signals) process.on(signal, end)
// Built beside it, from main.ts.
await import("./main.js")
// It listens for itself by now.
for (const signal of signals) process.off(signal, end)
