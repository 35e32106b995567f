import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { afterEach, describe, expect, it, vi } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { readFileSync } from "node:fs"
import * as http from "node:http"
import * as http2 from "node:http2"
import * as https from "node:https"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import type { Dispatcher } from "undici"
import { BackendPolicy, BackendRefused } from "../../../src/backends/Policy.ts"
import { BackendConnections } from "../../../src/backends/connections/Connections.ts"
import { InvalidProxy } from "../../../src/backends/connections/ProxyRules.ts"
import { Resolver } from "../../../src/backends/connections/Resolver.ts"
import type { Sender } from "../../../src/backends/connections/Sender.ts"
import { InvalidBackendCa } from "../../../src/backends/connections/Trust.ts"
import { type Backend, type BackendSource, parse } from "../../../src/domain/Backend.ts"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import type { Environment } from "../../../src/settings/Variables.ts"
import { type Files, filesInMemory } from "../../support/FilesInMemory.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))
const ca = fixture("ca.pem")
const certificate = (name: "localhost" | "other") => ({
  cert: readFileSync(fixture(`${name}.pem`)),
  key: readFileSync(fixture(`${name}-key.pem`))
})

const backend = (url: string, source: BackendSource = "static") => Result.getOrThrow(parse(url, source))

/** Names of the tests. `forbidden.test` has one address that dynamic backends may have and one that they may not. */
const names: Record<string, ReadonlyArray<string>> = {
  "localhost": ["127.0.0.1"],
  "pac.test": ["127.0.0.1"],
  "localhost.": ["127.0.0.1"],
  "forbidden.test": ["127.0.0.1", "127.0.0.66"]
}

const connections = (options: {
  readonly static?: ReadonlyArray<string>
  readonly env?: Environment
  readonly backendCa?: string
  readonly insecureSkipTlsVerify?: boolean
  readonly forwardingTimeout?: Duration.Input
  /** In the place of the real ones. */
  readonly files?: Files
} = {}) =>
  BackendConnections.layerFrom(options.env ?? {}).pipe(
    Layer.provideMerge(Log.layerTest),
    Layer.provide(Layer.mergeAll(
      options.files === undefined ? NodeFileSystem.layer : filesInMemory(options.files),
      Timers.layerClock,
      Layer.succeed(
        Settings,
        {
          backends: (options.static ?? []).map((url) => backend(url)),
          backendCa: Option.fromUndefinedOr(options.backendCa),
          insecureSkipTlsVerify: options.insecureSkipTlsVerify ?? false,
          forwardingTimeout: Duration.fromInputUnsafe(options.forwardingTimeout ?? "15 seconds")
        } as Partial<Settings["Service"]> as Settings["Service"]
      ),
      Layer.succeed(
        BackendPolicy,
        {
          refusalOf: () => undefined,
          checkAddress: (address) =>
            address === "127.0.0.66" || address === "::1" ? new BackendRefused({ reason: "not allowed" }) : undefined,
          admit: () => Effect.void
        } satisfies BackendPolicy["Service"]
      ),
      Resolver.layerFrom((host, answer) => {
        const addresses = names[host]
        if (addresses === undefined) answer(Object.assign(new Error("no such host"), { code: "ENOTFOUND" }), [])
        else answer(null, addresses.map((address) => ({ address, family: 4 })))
      })
    ))
  )

interface Answer {
  readonly status: number
  readonly body: string
}

const headers = ["X-GitHub-Event", "push", "Accept", "a", "X-Many", "1", "Other", "o", "X-Many", "2", "accept", "b"]

/** Each backend is asked for once, as its lane does. */
const senders = new WeakMap<BackendConnections["Service"], Map<string, Sender>>()
const senderTo = (service: BackendConnections["Service"], to: Backend): Sender => {
  const known = senders.get(service) ?? new Map<string, Sender>()
  senders.set(service, known)
  const key = `${to.source} ${to.origin}`
  const sender = known.get(key) ?? service.dispatcherFor(to)
  known.set(key, sender)
  return sender
}

const send = Effect.fnUntraced(function*(
  url: string,
  options: { readonly source?: BackendSource; readonly path?: string } = {}
) {
  const sender = senderTo(yield* BackendConnections, backend(url, options.source))
  const to = backend(url, options.source)
  const answer = yield* Effect.callback<Answer, Error>((resume) => {
    let status = 0
    let body = ""
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: () => {},
      onResponseStart: (_controller, code) => void (status = code),
      onResponseData: (_controller, chunk) => void (body += chunk.toString()),
      onResponseEnd: () => resume(Effect.succeed({ status, body })),
      onResponseError: (_controller, error) => resume(Effect.fail(error))
    }
    sender.dispatch(
      {
        origin: to.origin,
        path: options.path ?? "/hook?x=1",
        method: "POST",
        headers: [...headers, "Content-Length", "7"],
        body: Buffer.from("payload")
      },
      handler
    )
  })
  // undici lets a connection rest for a turn of the event loop before it takes the next request.
  yield* Effect.promise(() => new Promise((resolve) => setImmediate(() => setImmediate(resolve))))
  return answer
})

const listening = <S extends net.Server>(server: S): Effect.Effect<S & { readonly port: number }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<S & { readonly port: number; readonly stop: () => void }>((resume) => {
      const sockets = new Set<net.Socket>()
      server.on("connection", (socket: net.Socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
      })
      const stop = () => sockets.forEach((socket) => socket.destroy())
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as net.AddressInfo
        resume(Effect.succeed(Object.assign(server, { port, stop })))
      })
    }),
    ({ stop }) =>
      Effect.callback<void>((resume) => {
        stop()
        server.close(() => resume(Effect.void))
      })
  )

interface Received {
  readonly url: string | undefined
  readonly httpVersion: string
  readonly rawHeaders: ReadonlyArray<string>
  readonly body: string
  /** Tells connections apart. */
  readonly port: number | undefined
}

/** Answers with what it got, as JSON. */
const echo: http.RequestListener = (request, response) => {
  let body = ""
  request.on("data", (chunk: Buffer) => void (body += chunk.toString()))
  request.on("end", () => {
    const { httpVersion, rawHeaders, url } = request
    response.end(JSON.stringify({ url, httpVersion, rawHeaders, body, port: request.socket.remotePort }))
  })
}

const echoAfterContinue: http.RequestListener = (request, response) => {
  response.writeContinue()
  echo(request, response)
}

const received = (answer: Answer): Received => JSON.parse(answer.body) as Received

const valuesOf = (name: string, { rawHeaders }: Received) =>
  rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name)

const plainBackend = Effect.suspend(() => listening(http.createServer(echo)))
const tlsBackend = (name: "localhost" | "other" = "localhost") =>
  Effect.suspend(() => listening(https.createServer(certificate(name), echo)))

const withoutCredentials = (rawHeaders: ReadonlyArray<string>) =>
  rawHeaders.filter((_, at) => rawHeaders[at - (at % 2)] !== "Proxy-Authorization")

const relay = (one: net.Socket, other: net.Socket) => {
  one.on("error", () => other.destroy())
  other.on("error", () => one.destroy())
  one.pipe(other)
  other.pipe(one)
}

/**
 * A forward proxy on the given server: every host is `target`. `asked` has each request line and its `Proxy-Authorization`.
 */
const proxyOn = Effect.fnUntraced(function*(server: http.Server | https.Server, target: { readonly port: number }) {
  const asked: Array<string> = []
  const note = (request: http.IncomingMessage) =>
    asked.push(`${request.method} ${request.url} ${request.headers["proxy-authorization"] ?? "-"}`)
  server.on("request", (request: http.IncomingMessage, response: http.ServerResponse) => {
    note(request)
    const { pathname, search } = new URL(request.url ?? "")
    const onward = http.request({
      port: target.port,
      host: "127.0.0.1",
      method: request.method,
      path: pathname + search,
      headers: withoutCredentials(request.rawHeaders) as unknown as http.OutgoingHttpHeaders,
      agent: false
    }, (answer) => {
      response.writeHead(answer.statusCode ?? 500)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  server.on("connect", (request: http.IncomingMessage, client: net.Socket) => {
    note(request)
    const onward = net.connect(target.port, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n")
      relay(onward, client)
    })
  })
  const { port } = yield* listening(server)
  return { asked, port }
})

const plainProxy = (target: { readonly port: number }) => Effect.suspend(() => proxyOn(http.createServer(), target))

/** RFC 1928 and 1929, no more than the tests need: every host is `target`. */
const socksProxy = Effect.fnUntraced(function*(target: { readonly port: number }) {
  const asked: Array<string> = []
  const server = net.createServer((client) => {
    const steps = [
      () => client.write(Buffer.from([5, 2])),
      (login: Buffer) => {
        asked.push(login.subarray(2, 2 + login[1]!).toString())
        client.write(Buffer.from([1, 0]))
      },
      (connect: Buffer) => {
        asked.push(`${connect.subarray(5, 5 + connect[4]!).toString()}:${connect.readUInt16BE(connect.length - 2)}`)
        client.removeListener("data", next)
        const onward = net.connect(target.port, "127.0.0.1", () => {
          client.write(Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 0]))
          relay(onward, client)
        })
      }
    ]
    const next = (chunk: Buffer) => void steps.shift()?.(chunk)
    client.on("data", next)
  })
  const { port } = yield* listening(server)
  return { asked, port }
})

const failureThrough = (proxyPort: number) =>
  Effect.flip(send("https://pac.example.com")).pipe(
    Effect.provide(
      connections({ env: { HTTPS_PROXY: `http://u:secret@127.0.0.1:${proxyPort}` }, forwardingTimeout: 100 })
    )
  )

const startWithBadProxy = (url: string) =>
  Effect.scoped(Layer.build(connections({ static: [url], env: { HTTPS_PROXY: "ftp://u:secret@proxy" } })))

const failedStart = (backendCa: string) =>
  Effect.flip(Effect.scoped(Layer.build(connections({ backendCa })))).pipe(Effect.map((error) => error.message))

const expectOurRequest = (request: Received, host: string) => {
  expect(request.body).toBe("payload")
  expect(request.url).toBe("/hook?x=1")
  expect(valuesOf("host", request)).toEqual([host])
  expect(valuesOf("x-many", request)).toEqual(["1", "2"])
  expect(valuesOf("accept", request)).toEqual(["a", "b"])
  expect(valuesOf("x-github-event", request)).toEqual(["push"])
  expect(valuesOf("proxy-authorization", request)).toEqual([])
}

describe("direct connections", () => {
  it.effect("carry the headers as they are, and are used again", () =>
    Effect.gen(function*() {
      const { port } = yield* plainBackend
      yield* Effect.gen(function*() {
        const first = received(yield* send(`http://pac.test:${port}`))
        expectOurRequest(first, `pac.test:${port}`)
        expect(first.rawHeaders.slice(2, 2 + headers.length)).not.toContain("Host")
        const second = received(yield* send(`http://pac.test:${port}`))
        expect(second.port).toBe(first.port)
      }).pipe(Effect.provide(connections()))
    }))

  it.effect("are HTTP/1.1 even when the backend offers HTTP/2", () =>
    Effect.gen(function*() {
      const server = http2.createSecureServer(
        { ...certificate("localhost"), allowHTTP1: true },
        (request, response) => {
          request.resume()
          response.end(request.httpVersion)
        }
      )
      const { port } = yield* listening(server)
      const answer = yield* send(`https://localhost:${port}`).pipe(Effect.provide(connections({ backendCa: ca })))
      expect(answer.body).toBe("1.1")
    }))

  it.effect("fail when nothing resolves or listens", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(plainBackend)
      yield* Effect.gen(function*() {
        expect(yield* Effect.flip(send("http://nowhere.test"))).toMatchObject({ code: "ENOTFOUND" })
        expect(yield* Effect.flip(send(`http://pac.test:${port}`))).toMatchObject({ code: "ECONNREFUSED" })
      }).pipe(Effect.provide(connections()))
    }))

  describe("after five minutes", () => {
    afterEach(() => void vi.useRealTimers())

    it.effect("take no new request, and finish the one they carry", () =>
      Effect.gen(function*() {
        const finish = Promise.withResolvers<void>()
        const started = Promise.withResolvers<void>()
        const server = http.createServer((request, response) => {
          if (request.url !== "/slow") return echo(request, response)
          request.resume()
          void finish.promise.then(() => response.end("finished"))
          started.resolve()
        })
        const { port } = yield* listening(server)
        yield* Effect.gen(function*() {
          vi.useFakeTimers({ toFake: ["Date"] })
          const first = received(yield* send(`http://pac.test:${port}`))
          vi.setSystemTime(Date.now() + 299_000)
          expect(received(yield* send(`http://pac.test:${port}`)).port).toBe(first.port)

          const slow = yield* Effect.forkChild(send(`http://pac.test:${port}`, { path: "/slow" }))
          yield* Effect.promise(() => started.promise)
          vi.setSystemTime(Date.now() + 2_000)
          expect(received(yield* send(`http://pac.test:${port}`)).port).not.toBe(first.port)
          finish.resolve()
          expect(yield* Fiber.join(slow)).toEqual({ status: 200, body: "finished" })
        }).pipe(Effect.provide(connections()))
      }))
  })

  it.effect("are destroyed with the layer", () =>
    Effect.gen(function*() {
      const started = Promise.withResolvers<void>()
      const { port } = yield* listening(http.createServer(() => started.resolve()))
      const pending = yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkDetach(Effect.flip(send(`http://pac.test:${port}`)))
        yield* Effect.promise(() => started.promise)
        return fiber
      }).pipe(Effect.provide(connections()))
      expect(yield* Fiber.join(pending)).toMatchObject({ code: "UND_ERR_DESTROYED" })
    }))
})

describe("trust", () => {
  it.effect("is not given to a certificate of an unknown authority", () =>
    Effect.gen(function*() {
      const { port } = yield* tlsBackend()
      const error = yield* Effect.flip(send(`https://localhost:${port}`)).pipe(Effect.provide(connections()))
      expect(error).toMatchObject({ code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" })
    }))

  it.effect("is given to the authorities of --backend-ca, for names and addresses", () =>
    Effect.gen(function*() {
      const { port } = yield* tlsBackend()
      yield* Effect.gen(function*() {
        for (const host of ["localhost", "127.0.0.1"]) {
          const request = received(yield* send(`https://${host}:${port}`))
          expectOurRequest(request, `${host}:${port}`)
        }
      }).pipe(Effect.provide(connections({ backendCa: ca })))
    }))

  it.effect("is not given to a certificate for another name", () =>
    Effect.gen(function*() {
      const { port } = yield* tlsBackend("other")
      const error = yield* Effect.flip(send(`https://localhost:${port}`)).pipe(
        Effect.provide(connections({ backendCa: ca }))
      )
      expect(error).toMatchObject({ code: "ERR_TLS_CERT_ALTNAME_INVALID" })
    }))

  it.effect("is given to every certificate with --insecure-skip-tls-verify", () =>
    Effect.gen(function*() {
      const { port } = yield* tlsBackend("other")
      const answer = yield* send(`https://localhost:${port}`).pipe(
        Effect.provide(connections({ insecureSkipTlsVerify: true }))
      )
      expect(answer.status).toBe(200)
    }))

  it.effect("asks the backend for its certificate by its host name", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const server = https.createServer({
        ...certificate("localhost"),
        SNICallback: (name, done) => {
          asked.push(name)
          done(null)
        }
      }, echo)
      const { port } = yield* listening(server)
      yield* send(`https://localhost:${port}`).pipe(Effect.provide(connections({ backendCa: ca })))
      expect(asked).toEqual(["localhost"])
    }))

  it.effect("leaves the dot at the end of a host name out, which the backend's Host keeps, through proxies too", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const server = https.createServer({
        ...certificate("localhost"),
        SNICallback: (name, done) => {
          asked.push(name)
          done(null)
        }
      }, echo)
      const { port } = yield* listening(server)
      const proxy = yield* plainProxy({ port })
      const socks = yield* socksProxy({ port })
      for (const HTTPS_PROXY of ["", `http://127.0.0.1:${proxy.port}`, `socks5://u:p@127.0.0.1:${socks.port}`]) {
        // `localhost` is never reached through a proxy.
        const host = HTTPS_PROXY === "" ? "localhost." : "pac.localhost."
        const flags = {
          env: { HTTPS_PROXY },
          ...(HTTPS_PROXY === "" ? { backendCa: ca } : { insecureSkipTlsVerify: true })
        }
        const answer = yield* send(`https://${host}:${port}`).pipe(Effect.provide(connections(flags)))
        expect(valuesOf("host", received(answer))).toEqual([`${host}:${port}`])
      }
      expect(asked).toEqual(["localhost", "pac.localhost", "pac.localhost"])
      expect(proxy.asked).toEqual([`CONNECT pac.localhost.:${port} -`])
    }))

  it.effect("stops the start when the file of --backend-ca is missing, empty of certificates or broken", () =>
    Effect.gen(function*() {
      expect(yield* failedStart("/nowhere/ca.pem")).toBe(
        `--backend-ca: "/nowhere/ca.pem" is not there; it takes a readable PEM file of certificates`
      )
      expect(yield* failedStart(fixture("localhost-key.pem"))).toContain("has no certificate in it")
      expect(yield* failedStart(fixture("broken-ca.pem"))).toContain(
        "has a certificate (number 2) that can't be parsed"
      )
      const missing = connections({ backendCa: "/nowhere" })
      expect(yield* Effect.flip(Effect.scoped(Layer.build(missing)))).toBeInstanceOf(InvalidBackendCa)
    }))
})

const untrusted = "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
const pem = (name: string) => readFileSync(fixture(name), "utf8")

const round = TestClock.adjust("2 seconds")
const said = Effect.map(LogEntries, ({ entries }) => entries.map(({ level, message }) => `${level} ${message}`))

describe("--backend-ca that changes", () => {
  const loaded = "info certificate authorities of backends loaded"
  const kept = "warn certificate authorities of backends not loaded, keeping the last ones"

  it.effect("is followed: new connections are made with the new trust, old ones are kept", () =>
    Effect.gen(function*() {
      const { port } = yield* tlsBackend()
      const files: Files = new Map([["/ca.pem", pem("other.pem")]])
      yield* Effect.gen(function*() {
        const url = `https://localhost:${port}`
        expect(yield* Effect.flip(send(url))).toMatchObject({ code: untrusted })

        files.set("/ca.pem", pem("ca.pem"))
        yield* round
        const first = received(yield* send(url))

        files.set("/ca.pem", "no certificate")
        yield* round
        files.delete("/ca.pem")
        yield* round
        yield* round
        expect(received(yield* send(url, { source: "dynamic" })).port).not.toBe(first.port)

        files.set("/ca.pem", pem("other.pem"))
        yield* round
        expect(received(yield* send(url)).port).toBe(first.port)
        expect(yield* Effect.flip(send(`https://127.0.0.1:${port}`))).toMatchObject({ code: untrusted })
        expect(yield* said).toEqual([loaded, kept, kept, loaded])
      }).pipe(Effect.provide(connections({ backendCa: "/ca.pem", files })))
    }))

  it.effect("is followed through proxies", () =>
    Effect.gen(function*() {
      const tunnels = yield* plainProxy(yield* tlsBackend("other"))
      const forwards = yield* proxyOn(https.createServer(certificate("localhost")), yield* plainBackend)
      const files: Files = new Map([["/ca.pem", pem("other.pem")]])
      const env = {
        HTTPS_PROXY: `http://127.0.0.1:${tunnels.port}`,
        HTTP_PROXY: `https://localhost:${forwards.port}`
      }
      yield* Effect.gen(function*() {
        const urls = ["https://other.example.com", "http://pac.example.com"]
        for (const url of urls) expect(yield* Effect.flip(send(url))).toMatchObject({ code: untrusted })
        files.set("/ca.pem", pem("ca.pem"))
        yield* round
        for (const url of urls) expect((yield* send(url)).status).toBe(200)
        files.set("/ca.pem", pem("ca.pem") + pem("other.pem"))
        yield* round
        for (const url of urls) expect((yield* send(url)).status).toBe(200)
      }).pipe(Effect.provide(connections({ backendCa: "/ca.pem", env, files })))
    }))
})

describe("dynamic backends", () => {
  it.effect("connect where they may", () =>
    Effect.gen(function*() {
      const { port } = yield* plainBackend
      yield* Effect.gen(function*() {
        for (const host of ["pac.test", "127.0.0.1"]) {
          const answer = yield* send(`http://${host}:${port}`, { source: "dynamic" })
          expectOurRequest(received(answer), `${host}:${port}`)
        }
      }).pipe(Effect.provide(connections()))
    }))

  it.effect("don't connect to a name with a forbidden address, static ones do", () =>
    Effect.gen(function*() {
      const { port } = yield* plainBackend
      yield* Effect.gen(function*() {
        const error = yield* Effect.flip(send(`http://forbidden.test:${port}`, { source: "dynamic" }))
        expect(error.message).toBe("address refused: not allowed")
        expect(error.cause).toBeInstanceOf(BackendRefused)
        expect((yield* send(`http://forbidden.test:${port}`)).status).toBe(200)
      }).pipe(Effect.provide(connections()))
    }))

  it.effect("don't connect to a forbidden IP literal, static ones do", () =>
    Effect.gen(function*() {
      const { port } = yield* plainBackend
      yield* Effect.gen(function*() {
        for (const url of [`http://127.0.0.66:${port}`, `http://[::1]:${port}`, `https://127.0.0.66:${port}`]) {
          for (let n = 0; n < 2; n++) {
            const error = yield* Effect.flip(send(url, { source: "dynamic" }))
            expect(error.message).toBe("address refused: not allowed")
          }
        }
        // Nobody listens there: it got as far as connecting.
        const error = yield* Effect.flip(send(`http://127.0.0.66:${port}`))
        expect(error).toMatchObject({ code: "ECONNREFUSED" })
      }).pipe(Effect.provide(connections()))
    }))

  it.effect("are checked again on every connection", () =>
    Effect.gen(function*() {
      const { port } = yield* listening(http.createServer((request, response) => {
        response.setHeader("Connection", "close")
        echo(request, response)
      }))
      yield* Effect.gen(function*() {
        names["rebinding.test"] = ["127.0.0.1"]
        expect((yield* send(`http://rebinding.test:${port}`, { source: "dynamic" })).status).toBe(200)
        names["rebinding.test"] = ["127.0.0.66"]
        yield* TestClock.adjust("10 seconds")
        const error = yield* Effect.flip(send(`http://rebinding.test:${port}`, { source: "dynamic" }))
        expect(error.message).toBe("address refused: not allowed")
      }).pipe(Effect.provide(connections()))
    }))

  it.effect("bypass the proxy", () =>
    Effect.gen(function*() {
      const target = yield* plainBackend
      const proxy = yield* plainProxy(target)
      const answer = yield* send(`http://pac.test:${target.port}`, { source: "dynamic" }).pipe(
        Effect.provide(connections({ env: { HTTP_PROXY: `http://127.0.0.1:${proxy.port}` } }))
      )
      expect(answer.status).toBe(200)
      expect(proxy.asked).toEqual([])
    }))
})

describe("a proxy", () => {
  it.effect("is asked for the whole URL of http backends, on one connection", () =>
    Effect.gen(function*() {
      const target = yield* plainBackend
      const proxy = yield* plainProxy(target)
      yield* Effect.gen(function*() {
        expectOurRequest(received(yield* send("http://pac.example.com")), "pac.example.com")
        expectOurRequest(received(yield* send("http://two.example.com:8080")), "two.example.com:8080")
      }).pipe(Effect.provide(connections({ env: { HTTP_PROXY: `us%40er:p%3Ass@127.0.0.1:${proxy.port}` } })))
      const credentials = `Basic ${Buffer.from("us@er:p:ss").toString("base64")}`
      expect(proxy.asked).toEqual([
        `POST http://pac.example.com/hook?x=1 ${credentials}`,
        `POST http://two.example.com:8080/hook?x=1 ${credentials}`
      ])
    }))

  it.effect("tunnels to https backends, whose certificates are verified", () =>
    Effect.gen(function*() {
      const target = yield* tlsBackend("other")
      const proxy = yield* plainProxy(target)
      const env = { HTTPS_PROXY: `http://user@127.0.0.1:${proxy.port}` }
      yield* Effect.gen(function*() {
        const first = received(yield* send("https://other.example.com"))
        expectOurRequest(first, "other.example.com")
        expect(first.httpVersion).toBe("1.1")
        expect(received(yield* send("https://other.example.com")).port).toBe(first.port)
        const error = yield* Effect.flip(send("https://wrong.example.com:8443"))
        expect(error).toMatchObject({ code: "ERR_TLS_CERT_ALTNAME_INVALID" })
      }).pipe(Effect.provide(connections({ env, backendCa: ca })))
      const credentials = `Basic ${Buffer.from("user:").toString("base64")}`
      expect(proxy.asked).toEqual([
        `CONNECT other.example.com:443 ${credentials}`,
        `CONNECT wrong.example.com:8443 ${credentials}`
      ])
      const distrusting = yield* Effect.flip(send("https://other.example.com")).pipe(
        Effect.provide(connections({ env }))
      )
      expect(distrusting).toMatchObject({ code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" })
      const answer = yield* send("https://wrong.example.com").pipe(
        Effect.provide(connections({ env, insecureSkipTlsVerify: true }))
      )
      expect(answer.status).toBe(200)
    }))

  it.effect("may itself speak TLS, and is verified too", () =>
    Effect.gen(function*() {
      const plain = yield* plainBackend
      const tls = yield* tlsBackend("other")
      const forHttp = yield* proxyOn(https.createServer(certificate("localhost")), plain)
      const forHttps = yield* proxyOn(https.createServer(certificate("localhost")), tls)
      const env = { HTTP_PROXY: `https://localhost:${forHttp.port}`, HTTPS_PROXY: `https://localhost:${forHttps.port}` }
      yield* Effect.gen(function*() {
        expectOurRequest(received(yield* send("http://pac.example.com")), "pac.example.com")
        expectOurRequest(received(yield* send("https://other.example.com")), "other.example.com")
      }).pipe(Effect.provide(connections({ env, backendCa: ca })))
      yield* Effect.gen(function*() {
        for (const url of ["http://pac.example.com", "https://other.example.com"]) {
          expect(yield* Effect.flip(send(url))).toMatchObject({ code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" })
        }
      }).pipe(Effect.provide(connections({ env })))
    }))

  it.effect("with SOCKS5 tunnels to all backends", () =>
    Effect.gen(function*() {
      const plain = yield* plainBackend
      const tls = yield* tlsBackend("other")
      const forHttp = yield* socksProxy(plain)
      const forHttps = yield* socksProxy(tls)
      const env = {
        HTTP_PROXY: `socks5://user:password@127.0.0.1:${forHttp.port}`,
        HTTPS_PROXY: `socks5://user:password@127.0.0.1:${forHttps.port}`
      }
      yield* Effect.gen(function*() {
        expectOurRequest(received(yield* send("http://pac.example.com")), "pac.example.com")
        expectOurRequest(received(yield* send("https://other.example.com")), "other.example.com")
        const error = yield* Effect.flip(send("https://wrong.example.com"))
        expect(error).toMatchObject({ code: "ERR_TLS_CERT_ALTNAME_INVALID" })
      }).pipe(Effect.provide(connections({ env, backendCa: ca })))
      expect(forHttp.asked).toEqual(["user", "pac.example.com:80"])
      expect(forHttps.asked.slice(0, 2)).toEqual(["user", "other.example.com:443"])
    }))

  it.effect("may have backends behind it that send interim answers unasked", () =>
    Effect.gen(function*() {
      const plain = yield* listening(http.createServer(echoAfterContinue))
      const tls = yield* listening(https.createServer(certificate("other"), echoAfterContinue))
      const socks = { plain: yield* socksProxy(plain), tls: yield* socksProxy(tls) }
      const proxy = yield* plainProxy(tls)
      const throughSocks = {
        HTTP_PROXY: `socks5://user:password@127.0.0.1:${socks.plain.port}`,
        HTTPS_PROXY: `socks5://user:password@127.0.0.1:${socks.tls.port}`
      }
      yield* Effect.gen(function*() {
        expectOurRequest(received(yield* send("http://pac.example.com")), "pac.example.com")
        expectOurRequest(received(yield* send("https://other.example.com")), "other.example.com")
      }).pipe(Effect.provide(connections({ env: throughSocks, backendCa: ca })))
      yield* Effect.gen(function*() {
        expectOurRequest(received(yield* send("https://other.example.com")), "other.example.com")
      }).pipe(
        Effect.provide(connections({ env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` }, backendCa: ca }))
      )
    }))

  it.effect("is bypassed for the hosts of NO_PROXY", () =>
    Effect.gen(function*() {
      const target = yield* plainBackend
      const proxy = yield* plainProxy(target)
      const env = { HTTP_PROXY: `http://127.0.0.1:${proxy.port}`, NO_PROXY: ".example.com,pac.test" }
      const answer = yield* send(`http://pac.test:${target.port}`).pipe(Effect.provide(connections({ env })))
      expect(answer.status).toBe(200)
      expect(proxy.asked).toEqual([])
    }))

  it.effect("that is silent about a tunnel, refuses it or is not there fails the request", () =>
    Effect.gen(function*() {
      const silent = yield* listening(net.createServer())
      const refusing = yield* listening(
        http.createServer().on("connect", (_request, socket) => {
          socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        })
      )
      const gone = yield* Effect.scoped(plainBackend)
      const errors = yield* Effect.all([
        failureThrough(silent.port),
        failureThrough(refusing.port),
        failureThrough(gone.port)
      ])
      expect(errors[0]).toMatchObject({ code: "UND_ERR_HEADERS_TIMEOUT" })
      expect(errors[1].message).toContain("407")
      expect(errors[2]).toMatchObject({ code: "ECONNREFUSED" })
      for (const error of errors) expect(inspect(error, { depth: Infinity })).not.toContain("secret")
    }))

  it.effect("that is no proxy stops the start when a static backend would need it", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(startWithBadProxy("https://pac.example.com"))
      expect(error).toBeInstanceOf(InvalidProxy)
      expect(error.message).toContain("HTTPS_PROXY")
      expect(error.message).not.toContain("secret")
      yield* startWithBadProxy("http://pac.example.com")
    }))
})
