import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { build, inside, isIgnored, parseDockerfile, type Stage } from "./Image.ts"

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly integrity?: string; readonly dev?: boolean; readonly optional?: boolean }>
  >
}

/** A checker's builds for platforms that not every registry serves. `npm ci` wants them named all the same. */
const notServed = ["darwin-arm64", "darwin-x64", "linux-arm", "linux-arm64", "win32-arm64", "win32-x64"]
  .map((platform) => `node_modules/@effect/tsgo-${platform}`)

const project = fileURLToPath(new URL("../..", import.meta.url))
const rules = readFileSync(path.join(project, ".dockerignore"), "utf8").split("\n").filter((line) => /^[^#]/.test(line))

/** Every file of a tree with all that goes into a layer. */
const filesOf = (root: string) =>
  readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory()).map((entry) => {
    const file = path.join(entry.parentPath, entry.name)
    const { mode, mtimeMs, size } = statSync(file)
    const hash = createHash("sha256").update(readFileSync(file)).digest("hex")
    return { path: path.relative(root, file), mode: (mode & 0o777).toString(8), modified: mtimeMs, size, hash }
  }).toSorted((a, b) => a.path < b.path ? -1 : 1)

describe("the image", () => {
  const directories: Array<string> = []
  let image: Stage
  let again: Stage

  beforeAll(async () => {
    for (let i = 0; i < 2; i++) directories.push(mkdtempSync(path.join(tmpdir(), "sprayproxy-image-")))
    image = await build(project, directories[0]!)
    again = await build(project, directories[1]!, directories[0])
  }, 180_000)

  afterAll(() => directories.forEach((directory) => rmSync(directory, { recursive: true, force: true })))

  it("holds the bundle, its worker and nothing else beside Node", () => {
    const files = filesOf(image.root)
    // Parts have a hash of their content in their names.
    assert.deepStrictEqual(files.map((file) => file.path).filter((file) => !/^app\/\w+-[0-9A-Z]{8}\.js$/.test(file)), [
      "app/SqliteWorker.js",
      "app/main.js",
      "app/sprayproxy.js"
    ])
    for (const { size } of files) assert.isBelow(size, 5_000_000)
  })

  it("has an empty directory for deliveries that its user may write to, and no volume that nobody asked for", () => {
    const directory = inside(image, "/var/lib/sprayproxy")
    assert.deepStrictEqual(readdirSync(directory), [])
    assert.strictEqual((statSync(directory).mode & 0o777).toString(8), "755")
    const instructions = parseDockerfile(readFileSync(path.join(project, "Dockerfile"), "utf8"))
    const copy = instructions.find(({ keyword, rest }) => keyword === "COPY" && rest.endsWith(" /var/lib/sprayproxy"))
    assert.strictEqual(copy?.options["chown"], image.user)
    assert.notInclude(instructions.map(({ keyword }) => keyword), "VOLUME")
  })

  it("has the same bytes, modes and times when it is built again elsewhere", () => {
    assert.deepStrictEqual(filesOf(again.root), filesOf(image.root))
    assert.deepStrictEqual([...new Set(filesOf(image.root).map(({ modified }) => modified))], [0])
  })

  it("runs without a shell, as nobody", () => {
    assert.strictEqual(image.user, "65532:65532")
    assert.match(image.base, /^gcr\.io\/distroless\/nodejs24-debian12:nonroot$/)
    assert.deepStrictEqual(image.entrypoint, ["/nodejs/bin/node", "/app/sprayproxy.js"])
    assert.strictEqual(image.labels["org.opencontainers.image.licenses"], "Apache-2.0")
    assert.strictEqual(image.labels["org.opencontainers.image.version"], "0.1.0")
  })

  it("is built with the Node that the project is tested with", () => {
    const [from] = parseDockerfile(readFileSync(path.join(project, "Dockerfile"), "utf8"))
    assert.include(from!.rest, `node:${process.versions.node}-`)
  })

  it.each([
    ["server", ["server"]],
    ["no arguments", []],
    ["flags alone", ["--log-level", "debug"]]
  ])("serves with %s, and ends well on SIGTERM", async (_, args) => {
    const [, ...entrypoint] = image.entrypoint
    const child = spawn(process.execPath, [...entrypoint.map((file) => inside(image, file)), ...args], {
      cwd: inside(image, "."),
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        ...image.env,
        GH_APP_WEBHOOK_SECRET: "secret",
        SPRAYPROXY_SERVER_HOST: "127.0.0.1",
        SPRAYPROXY_SERVER_PORT: "0",
        SPRAYPROXY_SERVER_METRICS_PORT: "0"
      }
    })
    const exit = once(child, "exit")
    let port = 0
    for await (const line of createInterface({ input: child.stdout })) {
      const { msg, port: listening } = JSON.parse(line) as { readonly msg: string; readonly port: number }
      if (msg !== "listening") continue
      port = listening
      break
    }
    const { status } = await fetch(`http://127.0.0.1:${port}/readyz`)
    assert.strictEqual(status, 200)
    child.stdout.resume()
    child.kill("SIGTERM")
    assert.deepStrictEqual(await exit, [0, null])
  })

  it("is made of packages that the lock file has a hash of, each of them", () => {
    const { packages } = JSON.parse(readFileSync(path.join(project, "package-lock.json"), "utf8")) as Lock
    const unhashed = Object.entries(packages).filter(([name, { integrity }]) => name !== "" && integrity === undefined)
    assert.deepStrictEqual(unhashed.map(([name]) => name), notServed)
    for (const [, { dev, optional }] of unhashed) {
      assert.deepStrictEqual({ dev, optional }, { dev: true, optional: true })
    }
    const runs = parseDockerfile(readFileSync(path.join(project, "Dockerfile"), "utf8")).map(({ rest }) => rest)
    assert.match(runs.find((rest) => rest.startsWith("npm ")) ?? "", /^npm ci --omit=dev /)
  })

  it("is built from the sources and the lock file alone", () => {
    for (const file of ["package.json", "package-lock.json", "build.ts", "src/main.ts"]) {
      assert.isFalse(isIgnored(rules, file), file)
    }
    for (
      const file of [".git/config", "node_modules/effect/package.json", "dist/sprayproxy.js", "test/support/build.ts"]
    ) {
      assert.isTrue(isIgnored(rules, file), file)
    }
  })
})
