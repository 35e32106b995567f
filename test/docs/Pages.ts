/** The markdown files of the tree, as GitHub shows them. */
import GithubSlugger from "github-slugger"
import { fromMarkdown } from "mdast-util-from-markdown"
import { toString } from "mdast-util-to-string"
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

export interface Page {
  /** From the root of the tree. */
  readonly path: string
  readonly text: string
  readonly links: ReadonlyArray<string>
  /** The anchors by which its headings can be linked to. */
  readonly anchors: ReadonlyArray<string>
  /** Each piece of code within a sentence. */
  readonly names: ReadonlyArray<string>
  /** All code, blocks too. */
  readonly code: string
}

/** Folders whose content is built, fetched or not ours. */
const elsewhere = new Set(["node_modules", "dist", ".git"])

/** Every file below a directory of the tree, from the root on. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    if (elsewhere.has(entry.name)) return []
    const path = join(directory, entry.name)
    return entry.isDirectory() ? filesBelow(path) : [path]
  })

type Node = ReturnType<typeof fromMarkdown>["children"][number] | ReturnType<typeof fromMarkdown>

const nodesOf = (node: Node): ReadonlyArray<Node> => [
  node,
  ...("children" in node ? node.children.flatMap((child) => nodesOf(child as Node)) : [])
]

const pageOf = (path: string): Page => {
  const text = readFileSync(join(root, path), "utf8")
  const nodes = nodesOf(fromMarkdown(text))
  const slugger = new GithubSlugger()
  return {
    path,
    text,
    links: nodes.flatMap((node) =>
      node.type === "link" || node.type === "image" || node.type === "definition" ? [node.url] : []
    ),
    anchors: nodes.flatMap((node) => node.type === "heading" ? [slugger.slug(toString(node))] : []),
    names: nodes.flatMap((node) => node.type === "inlineCode" ? [node.value] : []),
    code: nodes.flatMap((node) => node.type === "inlineCode" || node.type === "code" ? [node.value] : []).join("\n")
  }
}

export const pages: ReadonlyArray<Page> = filesBelow("").filter((path) => path.endsWith(".md")).map(pageOf)

export const page = (path: string): Page => pages.find((one) => one.path === path)!

/** The path from the root of what a page's link names. */
export const target = ({ path }: Page, link: string): string => relative(root, join(root, dirname(path), link))
