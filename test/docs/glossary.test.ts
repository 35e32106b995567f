import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { filesBelow, page, root } from "./Pages.ts"

const words = [...page("CONTEXT.md").text.matchAll(/^\| \*\*(.+?)\*\*/gm)].map(([, word]) => word!)

/** `to give way` is `giveWay` in the sources. */
const letters = (text: string) => text.replace(/^to /, "").toLowerCase().replaceAll(/[^a-z]/g, "")

describe("the glossary", () => {
  it("has each word once", () => {
    assert.isAbove(words.length, 30)
    assert.deepStrictEqual(words.filter((word, at) => words.indexOf(word) !== at), [])
  })

  it("has no word that the sources do not use", () => {
    const sources = filesBelow("src").filter((path) => path.endsWith(".ts"))
      .map((path) => letters(readFileSync(join(root, path), "utf8"))).join(" ")
    assert.deepStrictEqual(words.filter((word) => !sources.includes(letters(word))), [])
  })
})
