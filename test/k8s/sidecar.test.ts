/** The program, started as the manifests say, behind the sidecars that they describe. */
import { assert, describe, it as test, layer } from "@effect/vitest"
import { sign } from "@octokit/webhooks-methods"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { networkInterfaces, tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { send } from "../support/GitHub.ts"
import { startGitHub } from "../support/github/StandIn.ts"
import { kustomize, render, root, type Target } from "./kustomize.ts"
import { type ClusterRoleBinding, environmentOf, serviceOf } from "./objects.ts"
import { type Account, refusal, sidecarsOf } from "./sidecar.ts"

const secret = "It's a Secret to Everybody"
const body = "{}"

class Deployed extends Context.Service<Deployed, {
  readonly target: Target
  readonly address: string
  readonly port: number
  readonly metricsPort: number
}>()("sprayproxy/test/k8s/sidecar.test/Deployed") {
  /** The program with the manifests' arguments and environment; only ports and the places of files differ. */
  static readonly layer = (target: Target) =>
    Layer.effect(
      Deployed,
      Effect.gen(function*() {
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-k8s-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true }))
        )
        const secretFile = join(directory, "webhook.secret")
        writeFileSync(secretFile, `${secret}\n`)
        const metricsPort = yield* Effect.promise(freePort)
        const given = environmentOf(render(target))
        const github = "SPRAYPROXY_GITHUB_APP_ID" in given ? yield* startGitHub() : undefined
        const keyFile = join(directory, "github-private-key")
        if (github !== undefined) writeFileSync(keyFile, github.app.privateKey())
        const env = {
          ...given,
          ...("SPRAYPROXY_STORE" in given ? { SPRAYPROXY_STORE: `sqlite:${join(directory, "deliveries.db")}` } : {}),
          ...(github === undefined ? {} : {
            SPRAYPROXY_GITHUB_APP_ID: github.app.identity.appId,
            SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE: keyFile,
            SPRAYPROXY_GITHUB_API_URL: github.url
          }),
          GH_APP_WEBHOOK_SECRET_FILE: secretFile,
          SPRAYPROXY_SERVER_PORT: "0",
          SPRAYPROXY_SERVER_METRICS_PORT: String(metricsPort)
        }
        const args = [join(root, "dist/sprayproxy.js"), ...serviceOf(render(target)).args]
        const child = yield* Effect.acquireRelease(
          Effect.sync(() => spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] })),
          (process) => Effect.promise(() => (process.kill("SIGKILL"), once(process, "exit")))
        )
        const { address, port } = yield* Effect.promise(async () => {
          for await (const line of createInterface({ input: child.stdout })) {
            const entry = JSON.parse(line) as { msg: string; address: string; port: number }
            if (entry.msg === "listening") return entry
          }
          throw new Error("the program ended before it listened")
        })
        child.stdout.resume()
        return { target, address, port, metricsPort }
      })
    )
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

/** Accounts that somebody has bound to a role of ours, which the manifests bind to nobody. Each has its role's name. */
const operators = ["sprayproxy-deliveries-read", "sprayproxy-deliveries-redeliver"].map((role): ClusterRoleBinding => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRoleBinding",
  metadata: { name: role },
  roleRef: { kind: "ClusterRole", name: role },
  subjects: [{ kind: "ServiceAccount", name: role, namespace: "sprayproxy" }]
}))

/** The answer that a client gets: the sidecar's, or through it the program's. */
const ask = Effect.fnUntraced(function*(
  port: number,
  request: { readonly method: string; readonly path: string; readonly signed: boolean; readonly account: Account }
) {
  const deployed = yield* Deployed
  const objects = [...render(deployed.target), ...operators]
  const sidecar = sidecarsOf(objects).find((candidate) => candidate.port === port)!
  const refused = refusal(sidecar, objects, request)
  if (refused !== undefined) return refused
  const sent = request.path === "/backends" ? JSON.stringify({ url: "https://pac.apps.example.com" }) : body
  const headers: Record<string, string> = request.signed
    ? { "x-hub-signature-256": yield* Effect.promise(() => sign(secret, sent)) }
    : {}
  const { method, path } = request
  const upstream = sidecar.name === "kube-rbac-proxy" ? deployed.port : deployed.metricsPort
  const reply = yield* Effect.promise(() =>
    send(upstream, { method, path, headers, ...(method === "GET" ? {} : { body: sent }) })
  )
  return reply.status
})

/** The rows of a table of the manifests' README: of what there always is, of `/deliveries`, and of `/recovery`. */
const matrix = (index: number) => {
  const lines = readFileSync(join(root, "k8s/README.md"), "utf8").split("\n").filter((line) =>
    /^\| (port|\d+) \|/.test(line)
  )
  const heads = lines.flatMap((line, at) => line.startsWith("| port |") ? [at] : [])
  const rows = lines.slice(heads[index], heads[index + 1]).map((line) => line.slice(2, -2).split(" | "))
  const [[, , ...columns] = [], ...requests] = rows
  const accounts = columns.map((column): Account =>
    column === "no token" ? undefined : column === "any other account" ? "stranger" : column.replaceAll("`", "")
  )
  return requests.map(([port, request = "", ...answers]) => {
    const [, method = "", path = ""] = /^`(\w+) (\S+)`/.exec(request) ?? []
    return { port: Number(port), request, method, path, signed: request.endsWith("signed"), accounts, answers }
  })
}

describe.skipIf(kustomize() === undefined)("behind the sidecars", () => {
  layer(Deployed.layer("dynamic-backends"))("with dynamic backends", (it) => {
    for (const { accounts, answers, method, path, port, request, signed } of matrix(0)) {
      it.effect(
        `${port} ${request} is answered as the README says`,
        Effect.fnUntraced(function*() {
          const given = yield* Effect.forEach(accounts, (account) => ask(port, { method, path, signed, account }))
          assert.deepStrictEqual(given.map(String), answers)
        })
      )
    }

    it.effect(
      "the service is on loopback alone",
      Effect.fnUntraced(function*() {
        const { address, metricsPort, port } = yield* Deployed
        assert.strictEqual(address, "127.0.0.1")
        const others = Object.values(networkInterfaces()).flat().filter((other) =>
          other?.family === "IPv4" && !other.internal
        )
        for (const other of others) {
          for (const open of [port, metricsPort]) {
            const failure = yield* Effect.flip(
              Effect.tryPromise(() =>
                fetch(`http://${other!.address}:${open}/healthz`, { signal: AbortSignal.timeout(2_000) })
              )
            )
            assert.match(String(failure.cause), /fetch failed/)
          }
        }
      })
    )
  })

  layer(Deployed.layer("cert-manager, durable-sqlite, dynamic backends"))("with a store", (it) => {
    for (const { accounts, answers, method, path, port, request, signed } of matrix(1)) {
      it.effect(
        `${port} ${request} is answered as the README says`,
        Effect.fnUntraced(function*() {
          const given = yield* Effect.forEach(accounts, (account) => ask(port, { method, path, signed, account }))
          assert.deepStrictEqual(given.map(String), answers)
        })
      )
    }

    it.effect(
      "without recovery /recovery is not there, whoever is let through",
      Effect.fnUntraced(function*() {
        const request = { method: "POST", path: "/recovery", signed: false, account: "sprayproxy-deliveries-redeliver" }
        assert.strictEqual(yield* ask(8443, request), 404)
      })
    )

    // The roles grant all that begins with /deliveries/, as the sidecar reads a path. The service must not read it otherwise.
    for (const path of ["/deliveries/../backends", "/deliveries/%2e%2e/backends", "/deliveries/..%2fbackends"]) {
      it.effect(
        `whoever may redeliver does not get to the backends by ${path}`,
        Effect.fnUntraced(function*() {
          const { port, target } = yield* Deployed
          const objects = [...render(target), ...operators]
          const account = "sprayproxy-deliveries-redeliver"
          for (const method of ["GET", "POST"]) {
            assert.isUndefined(refusal(sidecarsOf(objects)[0]!, objects, { method, path, account }))
          }
          const url = "https://elsewhere.apps.example.com"
          const shown = yield* Effect.promise(() => send(port, { method: "GET", path }))
          assert.strictEqual(shown.status, 404)
          yield* Effect.promise(() => send(port, { method: "POST", path, body: JSON.stringify({ url }) }))
          const registered = yield* Effect.promise(() => send(port, { method: "GET", path: "/backends" }))
          assert.strictEqual(registered.status, 200)
          assert.notInclude(registered.text, url)
        })
      )
    }
  })

  layer(Deployed.layer("cert-manager, durable-sqlite, recovery"))("with recovery", (it) => {
    for (const { accounts, answers, method, path, port, request, signed } of matrix(2)) {
      it.effect(
        `${port} ${request} is answered as the README says`,
        Effect.fnUntraced(function*() {
          const given = yield* Effect.forEach(accounts, (account) => ask(port, { method, path, signed, account }))
          assert.deepStrictEqual(given.map(String), answers)
        })
      )
    }
  })

  layer(Deployed.layer("openshift"))("without dynamic backends", (it) => {
    it.effect.each(["/backends", "/deliveries", "/recovery", "/openapi.json"])(
      "%s is not there, whoever is let through",
      Effect.fnUntraced(function*(path) {
        const { port } = yield* Deployed
        const reply = yield* Effect.promise(() => send(port, { method: "GET", path }))
        assert.strictEqual(reply.status, 404)
      })
    )

    for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"] as const) {
      it.effect(
        `the ${probe} succeeds`,
        Effect.fnUntraced(function*() {
          const { httpGet } = serviceOf(render("openshift"))[probe]!
          const answer = yield* ask(httpGet.port, {
            method: "GET",
            path: httpGet.path,
            signed: false,
            account: undefined
          })
          assert.strictEqual(answer, 200)
        })
      )
    }
  })

  test("the matrix covers every path that needs no token", () => {
    const paths = new Set(matrix(0).map(({ path }) => path))
    for (const { allowPaths, ignorePaths } of sidecarsOf(render("openshift"))) {
      for (const path of [...ignorePaths, ...allowPaths]) assert.include([...paths], path)
    }
  })
})
