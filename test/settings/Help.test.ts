import { assert, describe, it } from "@effect/vitest"
import { settingsHelp, settingsTable } from "../../src/settings/Help.ts"
import { definitions } from "../../src/settings/Table.ts"

describe("in words", () => {
  const words = { help: settingsHelp(), table: settingsTable() }

  it.each(Object.entries(definitions))(
    "%s has its flag, variable and default in the help and the docs' table",
    (_, { defaultText, flag, variable }) => {
      const row = words.table.split("\n").filter((line) => line.includes(`| \`${variable}\` |`))
      assert.lengthOf(row, 1)
      assert.include(row[0], ` | ${defaultText} | `)
      if (flag !== undefined) assert.include(row[0], `| \`--${flag}`)
      const blocks = words.help.split(/\n(?= {2}\S)/).filter((block) => block.includes(variable) && block.endsWith("]"))
      const own = blocks.filter((block) => block.split(/[ [\n]+/)[1] === (flag === undefined ? variable : `--${flag}`))
      assert.lengthOf(own, 1)
      assert.include(own[0], `[default: ${defaultText}]`)
    }
  )

  it("the help fits 80 columns", () => {
    assert.deepStrictEqual(words.help.split("\n").filter((line) => line.length > 80), [])
  })

  it("the table has as many cells in each row", () => {
    const cells = words.table.split("\n").map((line) => line.split(/(?<!\\)\|/).length)
    assert.deepStrictEqual(new Set(cells), new Set([6]))
  })
})
