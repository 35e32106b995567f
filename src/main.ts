/** The program: the command line, and the server that it starts. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as net from "node:net"
import * as Cli from "./Cli.ts"
import { serve } from "./Server.ts"

// For databases, collectors and SOCKS proxies. If a name has several addresses, Node gives each one but the last this
// time to connect, and never comes back to it. Node's own 250 ms are too short for an address that is far away.
net.setDefaultAutoSelectFamilyAttemptTimeout(1_000)

NodeRuntime.runMain(Cli.run(process.argv.slice(2), process.env, serve), {
  disableErrorReporting: true,
  teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
})
