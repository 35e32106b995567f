import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { programFile, startProgram } from "../../support/Program.ts"
import { directory } from "../process/Starting.ts"

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

  it.live("does without a key until there is one, and the server starts", () =>
    Effect.gen(function*() {
      const path = yield* directory
      const program = yield* startProgram([
        `--store=sqlite:${path}/deliveries.db`,
        "--github-app-id=17",
        `--github-private-key-file=${path}/key.pem`,
        "--github-api-url=http://127.0.0.1:9"
      ])
      const { level, path: named } = yield* Effect.promise(() =>
        program.logged(({ msg }) => msg === "GitHub App key not loaded")
      )
      assert.deepStrictEqual([level, named], ["warn", `${path}/key.pem`])
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
      assert.strictEqual(program.stderr(), "")
    }))
})
