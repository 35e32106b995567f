import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHmac, randomUUID } from "node:crypto"
import { once } from "node:events"
import * as Net from "node:net"
import { startBackend } from "../../support/Backend.ts"
import { deliver, secret } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { openConnection } from "../../support/RawConnection.ts"

const slowBody = "a".repeat(1_000)

/** A good head, of a body that may take its time. */
const slowHead = (guid: string) =>
  [
    "POST /proxy HTTP/1.1",
    "Host: x",
    `X-GitHub-Delivery: ${guid}`,
    "X-GitHub-Event: push",
    `X-Hub-Signature-256: sha256=${createHmac("sha256", secret).update(slowBody).digest("hex")}`,
    "Content-Type: application/json",
    `Content-Length: ${slowBody.length}`,
    "",
    ""
  ].join("\r\n")

/** Connections that have said nothing yet. */
const connect = (port: number, count: number) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      Promise.all(Array.from({ length: count }, async () => {
        const socket = Net.connect({ port, host: "127.0.0.1" })
        await once(socket, "connect")
        return socket.on("error", () => {})
      }))
    ),
    (sockets) => Effect.sync(() => sockets.forEach((socket) => socket.destroy()))
  )

it.live("a thousand senders of a byte now and then keep no delivery waiting", () =>
  Effect.gen(function*() {
    const backend = yield* startBackend()
    const program = yield* startProgram(["--backend", backend.url])
    const slow = yield* connect(program.port, 1_000)
    let answered = 0
    for (const socket of slow) socket.once("data", () => answered += 1).once("close", () => answered += 1)
    // One that sends all of its body in the end.
    const last = yield* openConnection(program.port)
    const lastGuid = randomUUID()
    for (const socket of slow) socket.write(slowHead(randomUUID()))
    last.write(slowHead(lastGuid))

    for (let round = 1; round <= 5; round++) {
      for (const socket of [...slow, last.socket]) socket.write("a")
      const body = JSON.stringify({ round })
      const reply = yield* Effect.promise(() => deliver(program.port, body))
      expect(reply).toMatchObject({ status: 200, text: "proxied" })
      expect(backend.received.map((request) => request.body.toString())).toContain(body)
      expect(answered).toBe(0)
    }

    // They were good ones, and are read on.
    last.write(slowBody.slice(5))
    const [reply] = yield* Effect.promise(() => last.replies(1))
    expect(reply).toMatchObject({ status: 200, text: "proxied" })
    expect(backend.received.at(-1)).toMatchObject({ headers: { "x-github-delivery": lastGuid } })
    expect(backend.received.at(-1)!.body.toString()).toBe(slowBody)
    expect(answered).toBe(0)
    expect(backend.received).toHaveLength(6)
  }))
