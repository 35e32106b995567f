/** The program: the command line, and the server that it starts. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as net from "node:net"
import * as Cli from "./Cli.ts"
import { serve } from "./Server.ts"

// Databases, collectors and SOCKS proxies: Node ends a connection to an address that has another one after it in this time, and
// never comes back to it. Its own 250 ms are too short for an address that is far.
net.setDefaultAutoSelectFamilyAttemptTimeout(1_000)

NodeRuntime.runMain(Cli.run(process.argv.slice(2), process.env, serve), {
  disableErrorReporting: true,
  teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
})
