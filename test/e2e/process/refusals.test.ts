/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createServer } from "node:net"
import { fileURLToPath } from "node:url"
import { listen } from "../../support/Backend.ts"
import { secret } from "../../support/GitHub.ts"
import { runToEnd, startProgram } from "../../support/Program.ts"
import { loopback, withSecret } from "./Starting.ts"

/** The start ends with one line on stderr, and nothing else. */
const refused = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  expected: string | RegExp
) =>
  Effect.promise(async () => {
    const { code, stderr, stdout } = await runToEnd(args, env)
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
    if (typeof expected === "string") assert.strictEqual(stderr, `sprayproxy: ${expected}\n`)
    else assert.match(stderr, expected)
    assert.match(stderr, /^[^\n]+\n$/)
    assert.notInclude(stderr, secret)
  })

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))

describe("a start that is refused says why in one line", () => {
  const port = "a port is a whole number from 0 to 65535"

  it.live("a bad flag", () => refused(["server", "--port", "x"], withSecret, `invalid --port "x": ${port}`))

  it.live("a bad variable", () =>
    refused(
      [],
      { ...withSecret, SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT: "15" },
      "invalid SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT \"15\": a duration is like 15s, 1m30s or 700ms, above 0s, at most 596h"
    ))

  it.live("a bad size, count, switch and word", () =>
    Effect.all([
      refused(["--max-request-size", "25M"], withSecret, /^sprayproxy: invalid --max-request-size "25M": a size is /),
      refused(
        ["--backend-concurrency", "0"],
        withSecret,
        /^sprayproxy: invalid --backend-concurrency "0": a count is /
      ),
      refused(
        ["--enable-dynamic-backends=yes"],
        withSecret,
        /^sprayproxy: invalid --enable-dynamic-backends "yes": a switch /
      ),
      refused(
        ["--log-level", "loud"],
        withSecret,
        /^sprayproxy: invalid --log-level "loud": it is one of debug, info, /
      )
    ], { concurrency: 2 }))

  it.live("a backend that is none, without its password", () =>
    refused(
      ["--backend", "https://me:hunter2@pac.example.com"],
      withSecret,
      "invalid --backend \"https://***@pac.example.com\": a backend url has no credentials"
    ))

  it.live("a value that tries to be two lines", () =>
    refused(
      ["--port", "1\nsprayproxy: all is well"],
      withSecret,
      /^sprayproxy: invalid --port "1\\nsprayproxy: all is well"/
    ))

  it.live("no secret", () =>
    refused(
      loopback,
      {},
      "missing GH_APP_WEBHOOK_SECRET or --webhook-secret-file: one of the two is required, unless " +
        "--insecure-skip-webhook-verify is set"
    ))

  it.live("an unknown flag", () =>
    refused(["server", "--prot", "80"], withSecret, "unknown flag --prot, did you mean --port?"))

  it.live("an unknown command", () => refused(["serve"], withSecret, "unknown command \"serve\", did you mean server?"))

  it.live("a port that is in use", () =>
    Effect.gen(function*() {
      const taken = yield* listen(createServer())
      yield* refused(
        ["--host", "127.0.0.1", "--port", String(taken)],
        withSecret,
        `can't listen on --port ${taken} (--host 127.0.0.1): the port is in use already`
      )
    }))

  it.live("an address that is not ours", () =>
    refused(
      ["--host", "192.0.2.1", "--port", "0"],
      withSecret,
      "can't listen on --host 192.0.2.1: no interface of this machine has the address"
    ))

  it.live("a --backend-ca that is missing, has no certificate, or a broken one", () =>
    Effect.all([
      refused(
        [...loopback, "--backend-ca", "/nonexistent/ca.pem"],
        withSecret,
        "--backend-ca: \"/nonexistent/ca.pem\" is not there; it takes a readable PEM file of certificates"
      ),
      refused([...loopback, "--backend-ca", fixture("localhost-key.pem")], withSecret, /has no certificate in it/),
      refused(
        [...loopback, "--backend-ca", fixture("broken-ca.pem")],
        withSecret,
        /a certificate \(number 2\) that can't be parsed/
      )
    ], { concurrency: 2 }))

  it.live("an HTTP_PROXY that can't be used for an http backend, without its password", () =>
    Effect.promise(async () => {
      const { code, stderr, stdout } = await runToEnd([...loopback, "--backend", "http://pac.example.com"], {
        ...withSecret,
        HTTP_PROXY: "ftp://me:hunter2@proxy.example.com"
      })
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^sprayproxy: HTTP_PROXY can't be used: a proxy is [^\n]+\n$/)
      assert.notInclude(stderr, "hunter2")
    }))

  it.live("a store that can't be meant, without its password", () =>
    Effect.promise(async () => {
      const { code, stderr } = await runToEnd(loopback, { ...withSecret, SPRAYPROXY_STORE: "postgres://u:hunter2@db" })
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^sprayproxy: invalid SPRAYPROXY_STORE "postgres:\/\/\*\*\*@db": it names no database: [^\n]+\n$/
      )
    }))

  it.live("what is set in vain is no reason, and is told among the first lines", () =>
    Effect.gen(function*() {
      const program = yield* startProgram(["--backend", "https://pac.example.com"], {
        HTTP_PROXY: "ftp://me:hunter2@x",
        SPRAYPROXY_SERVER_BACKENDS: "hunter2",
        SPRAYPROXY_SERVER_SERVICE_HOST: "10.0.0.5",
        SPRAYPROXY_SERVER_PORT: "tcp://10.0.0.5:8443"
      })
      assert.strictEqual(program.stderr(), "")
      const said = program.logs.flatMap(({ level, msg }) => level === "warn" ? [msg.split(" ", 1)[0]] : [])
      assert.deepStrictEqual(said, ["SPRAYPROXY_SERVER_PORT", "SPRAYPROXY_SERVER_BACKENDS", "HTTP_PROXY"])
      assert.notInclude(JSON.stringify(program.logs), "hunter2")
    }))
})
