import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { type Report, withTable as withBenchmark } from "../bench/Report.ts"
import { settingsTable } from "../src/SettingsHelp.ts"

const path = new URL("../README.md", import.meta.url)
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
    const report: Report = JSON.parse(readFileSync(new URL("../docs/benchmark.json", import.meta.url), "utf8"))
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
    const { scripts } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))
    const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, script]) => script ?? "")
    assert.deepStrictEqual(named.filter((script) => !(script in scripts)), [])
  })

  it("maps every source file to its place, and none that is gone", () => {
    const map = readme.slice(readme.indexOf("| in `src/` | is |"), readme.indexOf("`test/` mirrors"))
    const mapped = [...map.matchAll(/`([\w*]+\.ts)`/g)].map(([, name]) => name!)
    const files = readdirSync(new URL("../src", import.meta.url))
    const isMapped = (file: string) => mapped.some((name) => name === file || isBelow(file, name))
    assert.deepStrictEqual(files.filter((file) => !isMapped(file)), [], "not in the README's map of src/")
    assert.deepStrictEqual(mapped.filter((name) => !name.includes("*") && !files.includes(name)), [], "not in src/")
  })

  it("links only to files that are there", () => {
    const targets = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, target]) => target!)
    assert.deepStrictEqual(targets.filter((target) => !existsSync(new URL(`../${target}`, import.meta.url))), [])
  })
})

/** Whether a name with one asterisk stands for the file. */
const isBelow = (file: string, name: string): boolean => {
  const [start, end] = name.split("*")
  return end !== undefined && file.startsWith(start!) && file.endsWith(end)
}
