import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { programFile } from "../../support/Program.ts"

const textOf = (file: string) => readFileSync(join(dirname(programFile), file), "utf8")

/** The files that are loaded together with this one. */
const loadedWith = (file: string, known = new Set<string>()): ReadonlySet<string> => {
  if (known.has(file)) return known
  known.add(file)
  // An import that is made later has a parenthesis: `import("./…")`.
  for (const [, name] of textOf(file).matchAll(/\b(?:from|import) *"\.\/([^"]+)"/g)) loadedWith(name!, known)
  return known
}

const hasOctokit = (file: string) => [...loadedWith(file)].some((loaded) => textOf(loaded).includes("octokit-core.js/"))

describe("the client of GitHub's API", () => {
  it("is loaded with recovery, and with nothing else", () => {
    const later = [...textOf("main.js").matchAll(/\bimport\("\.\/([^"]+)"\)/g)].map(([, file]) => file!)
    assert.isFalse(hasOctokit("main.js"))
    assert.isAtLeast(later.length, 4)
    assert.lengthOf(later.filter(hasOctokit), 1)
  })
})
