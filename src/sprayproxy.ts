/**
 * The program's beginning. This file is small and loaded in no time, so that signals are heard while the rest is
 * loaded.
 *
 * The image runs the program as process 1, which never gets a signal that nobody listens for. A SIGTERM during the
 * start would be lost, and the process would live until SIGKILL, for all of the grace. It may exit at once, because
 * nothing is under way yet.
 */
const signals = ["SIGINT", "SIGTERM"] as const
const end = () => process.exit(0)

for (const signal of signals) process.on(signal, end)
// Built beside this file, from main.ts.
await import("./main.js")
// `main` listens for signals itself by now.
for (const signal of signals) process.off(signal, end)
