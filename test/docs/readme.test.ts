import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { type Report, withTable as withBenchmark } from "../../bench/Report.ts"
import { settingsTable } from "../../src/settings/Help.ts"

const path = new URL("../../README.md", import.meta.url)
const readme = readFileSync(path, "utf8")

const withTable = (text: string): string =>
  text.replace(
    /<!-- settings -->[^]*<!-- \/settings -->/,
    () => `<!-- settings -->\n\n${settingsTable()}\n\n<!-- /settings -->`
  )

describe("README", () => {
  it("shows the settings as the program has them", () => {
    if (process.env["UPDATE_README"] === "1") writeFileSync(path, withTable(readme))
    assert.strictEqual(
      readFileSync(path, "utf8"),
      withTable(readme),
      "the settings table is not that of the code: `npm run readme` renews it"
    )
  })

  it("has a settings table to renew", () => {
    assert.match(readme, /<!-- settings -->[^]*<!-- \/settings -->/)
  })

  it("shows the benchmark as it was measured last", () => {
    assert.match(readme, /<!-- benchmark -->[^]*<!-- \/benchmark -->/, "it has no place for the benchmark")
    const report: Report = JSON.parse(readFileSync(new URL("../../docs/benchmark.json", import.meta.url), "utf8"))
    assert.isNotEmpty(report.scenarios)
    assert.strictEqual(
      readme,
      withBenchmark(readme, report),
      "the benchmark's table is not that of docs/benchmark.json: `npm run bench -- --report` renews both"
    )
  })

  it("names the two commands that a reader starts with", () => {
    assert.include(readme, "\nnpm ci && npm run demo\n")
    assert.include(readme, "\nnpm ci && npm test\n")
  })

  it("names no npm script that is not there", () => {
    const { scripts } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
    const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, script]) => script ?? "")
    assert.deepStrictEqual(named.filter((script) => !(script in scripts)), [])
  })

  it("has a map of the sources with each room on it, and none that is gone", () => {
    const map = readFileSync(new URL("../../src/README.md", import.meta.url), "utf8")
    const mapped = [...map.matchAll(/^\| `(\w+)\/`/gm)].map(([, room]) => room!)
    const rooms = readdirSync(new URL("../../src", import.meta.url), { withFileTypes: true })
      .flatMap((entry) => entry.isDirectory() ? [entry.name] : [])
    assert.deepStrictEqual(mapped.toSorted(), rooms.toSorted())
  })

  it("links only to files that are there", () => {
    const targets = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, target]) => target!)
    assert.deepStrictEqual(targets.filter((target) => !existsSync(new URL(`../../${target}`, import.meta.url))), [])
  })
})
