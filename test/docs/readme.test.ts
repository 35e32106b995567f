import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { filesBelow, page, root } from "./Pages.ts"

const rooms = readdirSync(join(root, "src"), { withFileTypes: true })
  .flatMap((entry) => entry.isDirectory() ? [entry.name] : [])

describe("the README", () => {
  it("names the two commands that a reader starts with", () => {
    assert.include(page("README.md").text, "\nnpm ci && npm run demo\n")
    assert.include(page("README.md").text, "\nnpm ci && npm test\n")
  })

  it("is short enough to be read", () => {
    assert.isAtMost(page("README.md").text.split("\n").length, 201)
  })
})

describe("the glossary", () => {
  const words = [...page("CONTEXT.md").text.matchAll(/^\| \*\*(.+?)\*\*/gm)].map(([, word]) => word!)

  it("has each word once", () => {
    assert.isAbove(words.length, 30)
    assert.deepStrictEqual(words.filter((word, at) => words.indexOf(word) !== at), [])
  })

  it("has no word that the sources do not use", () => {
    const letters = (text: string) => text.toLowerCase().replaceAll(/[^a-z]/g, "")
    const sources = letters(
      filesBelow("src").filter((path) => path.endsWith(".ts")).map((path) => readFileSync(join(root, path), "utf8"))
        .join()
    )
    assert.deepStrictEqual(words.filter((word) => !sources.includes(letters(word.replace(/^to /, "")))), [])
  })
})

describe("the map of the sources", () => {
  it("has each room on it, and none that is gone", () => {
    const mapped = [...page("src/README.md").text.matchAll(/^\| `(\w+)\/`/gm)].map(([, room]) => room!)
    assert.deepStrictEqual(mapped.toSorted(), rooms.toSorted())
  })

  it("answers a stranger's questions in two steps: a room on it, and a file in that room", () => {
    const { text } = page("CONTRIBUTING.md")
    const steps = [...text.matchAll(/^\| [^|]+\? \| (?:`(\w+)\/`|the files of `src\/`)[^|]*\| \[\S+\]\((\S+)\) \|$/gm)]
    assert.lengthOf(steps, 6)
    for (const [, room, file] of steps) {
      assert.isTrue(existsSync(join(root, file!)), file)
      assert.strictEqual(file!.split("/").slice(1, -1)[0], room)
      assert.isTrue(room === undefined || rooms.includes(room), room)
    }
  })
})
