import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import packageJson from "../../package.json" with { type: "json" }
import { page, root } from "./Pages.ts"

const { version } = packageJson

describe("the newest release", () => {
  const [unreleased, newest] = [...page("CHANGELOG.md").text.matchAll(/^## \[([^\]]+)\](?: - (\S+))?$/gm)]

  it("is the program's version, with its date, below what is not released yet", () => {
    assert.strictEqual(unreleased?.[1], "Unreleased")
    assert.strictEqual(newest?.[1], version)
    assert.match(newest?.[2] ?? "", /^\d{4}-\d\d-\d\d$/)
  })

  it("is what the image is called, and what the manifests' page takes", () => {
    assert.include(readFileSync(join(root, "Dockerfile"), "utf8"), `\nARG VERSION=${version}\n`)
    assert.include(page("k8s/README.md").text, `?ref=v${version}\n`)
    assert.include(page("k8s/README.md").text, `newTag: "${version}"\n`)
  })
})
