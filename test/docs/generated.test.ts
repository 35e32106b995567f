import { assert, describe, it } from "@effect/vitest"
import * as OpenApi from "effect/http-api/OpenApi"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Report, withHeadline, withTable } from "../../bench/report/Report.ts"
import { OperatorApi } from "../../src/operator/Api.ts"
import { settingsTable } from "../../src/settings/Help.ts"
import { root } from "./Pages.ts"

const read = (path: string) => readFileSync(join(root, path), "utf8")

const withSettings = (text: string): string =>
  text.replace(
    /<!-- settings -->[^]*<!-- \/settings -->/,
    () => `<!-- settings -->\n\n${settingsTable()}\n\n<!-- /settings -->`
  )

describe("what the docs show of the code", () => {
  it("is the settings as the program has them", () => {
    const path = "docs/settings.md"
    assert.match(read(path), /<!-- settings -->[^]*<!-- \/settings -->/, "it has no place for the settings")
    if (process.env["UPDATE_DOCS"] === "1") writeFileSync(join(root, path), withSettings(read(path)))
    assert.strictEqual(
      read(path),
      withSettings(read(path)),
      "the table is not that of the code: `npm run docs` renews it"
    )
  })

  it("is the operators' API as the program has it", () => {
    const path = "docs/openapi.json"
    const document = `${JSON.stringify(OpenApi.fromApi(OperatorApi), null, 2)}\n`
    if (process.env["UPDATE_DOCS"] === "1") writeFileSync(join(root, path), document)
    assert.strictEqual(read(path), document, "the document is not that of the code: `npm run docs` renews it")
  })

  it.each(
    [
      ["docs/performance.md", "benchmark", withTable],
      ["README.md", "speed", withHeadline]
    ] as const
  )("is in %s the benchmark as it was measured last", (path, place, renew) => {
    const shown = read(path)
    assert.match(shown, new RegExp(`<!-- ${place} -->[^]*<!-- /${place} -->`), "it has no place for the benchmark")
    const report: Report = JSON.parse(read("docs/benchmark.json"))
    assert.isNotEmpty(report.scenarios)
    assert.strictEqual(
      shown,
      renew(shown, report),
      "the figures are not those of docs/benchmark.json: `npm run bench -- --report` renews both"
    )
  })
})
