import { assert, describe, it } from "@effect/vitest"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { page, pages, root, target } from "./Pages.ts"

describe("links", () => {
  it.each(pages.map((one) => [one.path, one] as const))(
    "of %s lead to files and headings that are there",
    (_, from) => {
      const broken = from.links.filter((link) => !/^[a-z][\w+.-]*:/i.test(link)).filter((link) => {
        const [file = "", anchor] = link.split("#")
        const path = file === "" ? from.path : target(from, decodeURI(file))
        if (path.startsWith("..") || !existsSync(join(root, path))) return true
        return anchor !== undefined && !page(path)?.anchors.includes(anchor)
      })
      assert.deepStrictEqual(broken, [])
    }
  )

  it("lead from the README to every page of docs/", () => {
    const linked = new Set(
      [page("README.md"), page("docs/adr/README.md")].flatMap((from) =>
        from.links.map((link) => target(from, link.split("#")[0]!))
      )
    )
    const unlinked = pages.map(({ path }) => path).filter((path) => path.startsWith("docs/") && !linked.has(path))
    assert.deepStrictEqual(unlinked, [])
  })
})
