/**
 * Loaded into the server before it starts (`--import`): its wall clock is off, and can be set while it runs, as an
 * administrator or NTP would. The monotonic clock goes on as it does.
 *
 * The offset comes from the variable below, and then from whoever started it, as messages.
 */
import { isMainThread } from "node:worker_threads"

/** Milliseconds by which the wall clock is ahead. */
let offset = Number(process.env["CHAOS_CLOCK_OFFSET"] ?? 0)

const RealDate = Date
const now = () => RealDate.now() + offset

globalThis.Date = new Proxy(RealDate, {
  construct: (_, args: ReadonlyArray<unknown>, target) =>
    Reflect.construct(RealDate, args.length === 0 ? [now()] : args, target) as object,
  apply: () => new RealDate(now()).toString(),
  get: (_, name) => name === "now" ? now : Reflect.get(RealDate, name)
})

if (isMainThread && process.channel !== undefined) {
  process.on("message", (milliseconds: number) => {
    offset = milliseconds
  })
  // It is no reason to go on living.
  process.channel.unref()
}
