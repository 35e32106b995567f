import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Https from "node:https"
import { fileURLToPath } from "node:url"
import { listen } from "../../support/Backend.ts"
import { send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { spray } from "../../support/edges.ts"
import { MiB, promise, textOf } from "./Fixtures.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))

/** Keeps the bodies it gets, as latin1. */
const startTls = (name: string, received: Array<string>) =>
  Effect.suspend(() => {
    const options = { cert: readFileSync(fixture(`${name}.pem`)), key: readFileSync(fixture(`${name}-key.pem`)) }
    return listen(Https.createServer(options, (request, response) => {
      let body = ""
      request.on("data", (chunk: Buffer) => body += chunk.toString("latin1"))
      request.on("end", () => {
        received.push(body)
        response.writeHead(202).end()
      })
    }))
  })

const register = (port: number, url: string) =>
  promise(() => send(port, { path: "/backends", body: JSON.stringify({ url }) }))

describe("an https backend", () => {
  it.live("is trusted with --backend-ca, small bodies and large", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("localhost", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--backend-ca", fixture("ca.pem")])
      const bodies = ["{}", textOf(3 * MiB)]
      for (const body of bodies) {
        const { attempts, reply } = yield* promise(() => spray(program, body))
        expect(reply.status).toBe(200)
        expect(attempts).toMatchObject([{ outcome: "delivered", backend: `localhost:${port}` }])
      }
      expect(received.map((body, n) => body === bodies[n])).toEqual([true, true])
    }))

  it.live("is unreachable when nobody vouches for it, and sees no delivery", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("localhost", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--forwarding-retries", "0"])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ outcome: "unreachable", error: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" }])
      expect(received).toEqual([])
    }))

  it.live("with a certificate for another name is unreachable", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("other", received)
      const flags = ["--forwarding-retries", "0", "--backend-ca", fixture("ca.pem")]
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, ...flags])
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply.status).toBe(502)
      expect(attempts).toMatchObject([{ outcome: "unreachable", error: "ERR_TLS_CERT_ALTNAME_INVALID" }])
      expect(received).toEqual([])
    }))

  it.live("is taken as it is with --insecure-skip-tls-verify", () =>
    Effect.gen(function*() {
      const received: Array<string> = []
      const port = yield* startTls("other", received)
      const program = yield* startProgram(["--backend", `https://localhost:${port}`, "--insecure-skip-tls-verify"])
      const { reply } = yield* promise(() => spray(program, "insecure"))
      expect(reply.status).toBe(200)
      expect(received).toEqual(["insecure"])
    }))
})

describe("a dynamic backend", () => {
  it.live("can't be our own listener, however its URL is written", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--enable-dynamic-backends"])
      for (const host of ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::1]", "[::ffff:7f00:1]"]) {
        const reply = yield* register(program.port, `http://${host}:${program.port}`)
        expect([host, reply.status]).toEqual([host, 422])
      }
    }))

  it.live("can't be a link-local or metadata address, however its URL is written", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--enable-dynamic-backends"])
      for (
        const host of ["169.254.169.254", "0xa9fea9fe", "2852039166", "[::ffff:a9fe:a9fe]", "[fe80::1]", "0.0.0.0"]
      ) {
        const reply = yield* register(program.port, `http://${host}`)
        expect([host, reply.status]).toEqual([host, 422])
      }
    }))

  it.live("whose name leads to a forbidden address later is refused when it is connected to", () =>
    Effect.gen(function*() {
      // A name server that knows the name only after it was registered.
      const preload = `
        import dns from "node:dns"
        import { syncBuiltinESMExports } from "node:module"
        const { lookup } = dns
        let asked = 0
        dns.lookup = (host, options, callback) => {
          if (host !== "rebinding.test") return lookup(host, options, callback)
          asked += 1
          if (asked === 1) callback(Object.assign(new Error("not yet"), { code: "ENOTFOUND" }))
          else callback(null, [{ address: "169.254.169.254", family: 4 }])
        }
        syncBuiltinESMExports()`
      const program = yield* startProgram(["--enable-dynamic-backends", "--forwarding-retries", "0"], {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(preload)}`
      })
      expect((yield* register(program.port, "http://rebinding.test")).status).toBe(200)
      const { attempts, reply } = yield* promise(() => spray(program))
      expect(reply).toMatchObject({ status: 502, text: "failed to proxy" })
      expect(attempts).toMatchObject([{
        outcome: "unreachable",
        error: "address refused: link-local addresses are not allowed"
      }])
    }))
})
