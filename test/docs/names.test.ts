/** Names in the docs: of settings, commands, metrics, alerts and files. Each has to be one that there is. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { metricNames, recoveryMetricNames, storeMetricNames } from "../../src/observability/metrics/Names.ts"
import { clientVariables, definitions } from "../../src/settings/Table.ts"
import { filesBelow, pages, root, target } from "./Pages.ts"

const read = (path: string) => readFileSync(join(root, path), "utf8")

/** Those that `find` finds in a page and that are not `known`, each once and with its page. */
const unknown = (pattern: RegExp, isKnown: (name: string) => boolean): ReadonlyArray<string> =>
  pages.flatMap(({ path, text }) =>
    [...new Set([...text.matchAll(pattern)].map(([all, name]) => name ?? all))].filter((name) => !isKnown(name))
      .map((name) => `${path}: ${name}`)
  )

const settings = Object.values(definitions)

/** Flags of other programs: kube-rbac-proxy, kubectl, Node. */
const foreignFlags = new Set(["--ignore-paths", "--max-semi-space-size", "--server-side"])

/** Where flags and variables are read that are no settings. */
const readers = filesBelow("src").concat(
  ...["bench", "demo", "test/chaos", "test/crash", "test/e2e/recovery"].map(filesBelow)
)
  .filter((path) => path.endsWith(".ts")).map(read).join("\n")

describe("names in the docs", () => {
  it("of npm scripts", () => {
    const { scripts } = JSON.parse(read("package.json"))
    assert.deepStrictEqual(unknown(/npm run (?:--silent )?([\w:-]+)/g, (name) => name in scripts), [])
  })

  it("of flags", () => {
    const flags = new Set(settings.map(({ flag }) => `--${flag}`))
    const isKnown = (flag: string) =>
      flags.has(flag) || foreignFlags.has(flag) || readers.includes(`"${flag.slice(2)}"`) ||
      readers.includes(`"${flag}"`)
    const unknownFlags = pages.flatMap(({ names, path }) =>
      names.flatMap((name) => /^--[a-z-]+/.exec(name)?.[0] ?? []).filter((flag) => !isKnown(flag))
        .map((flag) => `${path}: ${flag}`)
    )
    assert.deepStrictEqual(unknownFlags, [])
  })

  it("of environment variables", () => {
    const variables = new Set([...settings.map(({ variable }) => variable), ...Object.values(clientVariables)])
    assert.deepStrictEqual(
      unknown(
        /\b(?:SPRAYPROXY|GH_APP)_[A-Z_]*[A-Z]\b/g,
        (name) => variables.has(name) || readers.includes(`"${name}"`)
      ),
      []
    )
  })

  it("of metrics", () => {
    const names = new Set([...metricNames, ...storeMetricNames, ...recoveryMetricNames])
    assert.deepStrictEqual(
      unknown(/\bsprayproxy_[a-z_]+[a-z]\b/g, (name) => names.has(name) || names.has(name.replace(/_bucket$/, ""))),
      []
    )
  })

  it("of alerts", () => {
    const alerts = new Set(
      filesBelow("k8s").filter((path) => basename(path) === "alerts.yaml")
        .flatMap((path) => [...read(path).matchAll(/alert: (\w+)/g)].map(([, alert]) => alert!))
    )
    assert.deepStrictEqual(unknown(/\bSprayproxy[A-Z]\w+/g, (name) => alerts.has(name)), [])
  })

  it("of log lines", () => {
    const sources = filesBelow("src").filter((path) => path.endsWith(".ts")).map(read).join("\n")
    const lines = pages.flatMap(({ text }) => [...text.matchAll(/\bline\s+[*`]([^*`]+)[*`]/g)].map(([, line]) => line!))
    assert.isAtLeast(lines.length, 6)
    assert.deepStrictEqual(lines.filter((line) => !sources.includes(line.replaceAll(/\s+/g, " "))), [])
  })

  it("of files", () => {
    const files = filesBelow("")
    const isThere = (from: typeof pages[number], name: string) =>
      existsSync(join(root, name)) || existsSync(join(root, target(from, name))) ||
      (!name.includes("/") && files.some((file) => basename(file) === name))
    const gone = pages.flatMap((from) =>
      from.names.filter((name) =>
        (/^[\w./-]+\.(?:ts|md|json|yaml|svg|patch)$/.test(name) ||
          /^(?:src|test|bench|demo|docs|k8s)\/[\w./-]*$/.test(name)) &&
        !isThere(from, name)
      ).map((name) => `${from.path}: ${name}`)
    )
    assert.deepStrictEqual(gone, [])
  })
})
