/**
 * A rule for oxlint: a room of `src/` imports only from itself and from rooms above it in the table of `src/README.md`.
 *
 * **Details**
 *
 * Type imports count, and so do imports that are made while the program runs. The files in `src/` itself may import
 * from every room, and no room may import from them.
 */
import { readFileSync } from "node:fs"
import { dirname, join, relative, sep } from "node:path"
import type { RuleTester } from "oxlint/plugins-dev"

type Rule = Parameters<RuleTester["run"]>[1]

const source = join(import.meta.dirname, "../src")

/** The names of the rooms, in the order of the table. */
const roomsOf = (readme: string): ReadonlyArray<string> =>
  Array.from(readme.matchAll(/^\| `([a-z]+)\/` \|/gm), ([, name]) => name!)

const rooms = roomsOf(readFileSync(join(source, "README.md"), "utf8"))

/** The room of a file. `undefined` for a file outside `src/`, `""` for a file directly in it. */
const roomOf = (path: string): string | undefined => {
  const parts = relative(source, path).split(sep)
  return parts[0] === ".." ? undefined : parts.length === 1 ? "" : parts[0]
}

const placeOf = (room: string): number => room === "" ? rooms.length : rooms.indexOf(room)

/** The fault of an import of `specifier` in `file`. Undefined: there is none. */
const faultOf = (file: string, specifier: unknown): string | undefined => {
  const room = roomOf(file)
  if (room === undefined || typeof specifier !== "string" || !specifier.startsWith(".")) return undefined
  const imported = roomOf(join(dirname(file), specifier))
  if (imported === undefined || imported === room) return undefined
  const missing = [room, imported].find((name) => placeOf(name) < 0)
  if (missing !== undefined) return `src/README.md has no room ${missing}/`
  if (placeOf(imported) < placeOf(room)) return undefined
  const from = imported === "" ? "the files of the process" : `${imported}/`
  return `${room}/ may not import from ${from}, below it in src/README.md`
}

const order: Rule = {
  meta: { type: "problem", docs: { description: "Rooms import only from rooms above them" } },
  create: (context) => {
    const check = (node: { readonly source?: unknown } & Parameters<typeof context.report>[0]["node"]) => {
      const literal = node.source as { readonly value?: unknown } | null | undefined
      const message = faultOf(context.filename, literal?.value)
      if (message !== undefined) context.report({ node, message })
    }
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      TSImportType: check
    }
  }
}

export default { meta: { name: "rooms" }, rules: { order } }
