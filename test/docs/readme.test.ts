import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { page, root } from "./Pages.ts"

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

describe("the map of the sources", () => {
  it("has each room on it, and none that is gone", () => {
    const mapped = [...page("src/README.md").text.matchAll(/^\| `(\w+)\/`/gm)].map(([, room]) => room!)
    assert.deepStrictEqual(mapped.toSorted(), rooms.toSorted())
  })

  it("answers a stranger's questions in two steps: a room on it, and a file in that room", () => {
    const { text } = page("CONTRIBUTING.md")
    const steps = [...text.matchAll(/^\| [^|]+\? \| (?:`(\w+)\/`|the files of `src\/`)[^|]*\| \[\S+\]\((\S+)\) \|$/gm)]
    assert.lengthOf(steps, 8)
    for (const [, room, file] of steps) {
      assert.isTrue(existsSync(join(root, file!)), file)
      assert.strictEqual(file!.split("/").slice(1, -1)[0], room)
      assert.isTrue(room === undefined || rooms.includes(room), room)
    }
  })
})
