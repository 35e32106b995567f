/** Builds an image from its Dockerfile without an engine: as far as this project's Dockerfile needs one. */
import { execFile, type ExecFileException } from "node:child_process"
import { cpSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { promisify } from "node:util"

export interface Instruction {
  readonly keyword: string
  /** Options such as `--from=build`. */
  readonly options: Readonly<Record<string, string>>
  readonly rest: string
}

export interface Stage {
  readonly base: string
  readonly name: string
  /** Where its file tree is: what the instructions put into it, without the base image's files. */
  readonly root: string
  readonly env: Record<string, string>
  readonly labels: Record<string, string>
  workdir: string
  user: string
  entrypoint: ReadonlyArray<string>
}

/** The instructions in order, without comments, continued lines joined. */
export const parseDockerfile = (text: string): ReadonlyArray<Instruction> =>
  text.replaceAll(/^\s*#.*\n/gm, "").replaceAll(/\\\n/g, " ").split("\n").filter((line) => line.trim() !== "").map(
    (line) => {
      const [, keyword, flags, rest] = /^\s*(\w+)((?:\s+--[\w-]+=\S+)*)\s+(.*?)\s*$/.exec(line)!
      const takesOptions = keyword === "FROM" || keyword === "COPY"
      const options = takesOptions ? Array.from(flags!.matchAll(/--([\w-]+)=(\S+)/g), ([, k, v]) => [k, v]) : []
      return { keyword: keyword!, options: Object.fromEntries(options), rest: takesOptions ? rest! : flags! + rest! }
    }
  )

/** Whether a `.dockerignore` keeps `file` (with slashes, relative) out of the build's context. The last rule that fits counts. */
export const isIgnored = (rules: ReadonlyArray<string>, file: string): boolean => {
  let ignored = false
  for (const rule of rules) {
    const pattern = rule.replace(/^!/, "").replaceAll(/[.+^${}()|[\]]/g, "\\$&").replaceAll("*", "[^/]*")
    if (new RegExp(`^${pattern}(?:/|$)`).test(file)) ignored = !rule.startsWith("!")
  }
  return ignored
}

/**
 * Runs every instruction for the stages under `directory`; the last stage is the image. `context` is only read. What an
 * engine takes from its cache, the installed packages, comes from `earlier`, the directory of another build.
 */
export const build = async (context: string, directory: string, earlier?: string): Promise<Stage> => {
  const rules = readLines(path.join(context, ".dockerignore"))
  const stages: Array<Stage> = []
  let args: Record<string, string> = {}
  for (const { keyword, options, rest } of parseDockerfile(readFileSync(path.join(context, "Dockerfile"), "utf8"))) {
    if (keyword === "FROM") {
      const [base, , name = String(stages.length)] = rest.split(/\s+/)
      const root = path.join(directory, name)
      mkdirSync(root, { recursive: true })
      args = {}
      stages.push({ base: base!, name, root, env: {}, labels: {}, workdir: "/", user: "root", entrypoint: [] })
      continue
    }
    const stage = stages.at(-1)!
    const expanded = () => rest.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => args[name] ?? stage.env[name] ?? "")
    switch (keyword) {
      case "ARG":
        Object.assign(args, pairs(rest))
        break
      case "ENV":
        Object.assign(stage.env, pairs(expanded()))
        break
      case "LABEL":
        Object.assign(stage.labels, pairs(expanded()))
        break
      case "WORKDIR":
        stage.workdir = path.posix.resolve(stage.workdir, rest)
        mkdirSync(inside(stage, "."), { recursive: true })
        break
      case "USER":
        stage.user = rest
        break
      case "EXPOSE":
        break
      case "ENTRYPOINT":
        stage.entrypoint = JSON.parse(rest) as Array<string>
        break
      case "COPY":
        copy(rest.split(/\s+/), stage, options["from"], stages, context, rules)
        break
      case "RUN":
        // oxlint-disable-next-line no-await-in-loop -- each step builds on the one before
        await run(rest, stage, args, earlier)
        break
      default:
        throw new Error(`no idea of ${keyword}`)
    }
  }
  return stages.at(-1)!
}

/** Where a path of the stage is on this machine. */
export const inside = (stage: Stage, file: string): string =>
  path.join(stage.root, path.posix.resolve(stage.workdir, file))

const readLines = (file: string): ReadonlyArray<string> =>
  readFileSync(file, "utf8").split("\n").map((line) => line.trim()).filter((line) =>
    line !== "" && !line.startsWith("#")
  )

/** `A=1 B="two words"` */
const pairs = (text: string): Record<string, string> =>
  Object.fromEntries(Array.from(text.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S*))/g), ([, name, quoted, plain]) => [
    name!,
    quoted ?? plain!
  ]))

const copy = (
  words: ReadonlyArray<string>,
  stage: Stage,
  from: string | undefined,
  stages: ReadonlyArray<Stage>,
  context: string,
  rules: ReadonlyArray<string>
): void => {
  const source = from === undefined ? undefined : stages.find(({ name }) => name === from)!
  const target = words.at(-1)!
  for (const word of words.slice(0, -1)) {
    const file = source === undefined ? path.join(context, word) : inside(source, word)
    const isFile = !readdirSync(path.dirname(file), { withFileTypes: true })
      .some((entry) => entry.name === path.basename(file) && entry.isDirectory())
    // A directory's content is copied, not the directory.
    const to = inside(stage, isFile && target.endsWith("/") ? target + path.basename(file) : target)
    cpSync(file, to, {
      recursive: true,
      preserveTimestamps: true,
      filter: (one) => source !== undefined || !isIgnored(rules, path.relative(context, one).replaceAll(path.sep, "/"))
    })
  }
}

const execute = promisify(execFile)

/** With the shell of this machine, and with this project's Node first on the PATH in the place of the base image's. */
const run = async (
  command: string,
  stage: Stage,
  args: Record<string, string>,
  earlier: string | undefined
): Promise<void> => {
  if (earlier !== undefined && command.startsWith("npm ci")) {
    const installed = path.join(earlier, stage.name, stage.workdir, "node_modules")
    await execute("cp", ["-al", installed, inside(stage, ".")])
    return
  }
  const PATH = `${path.dirname(process.execPath)}:${process.env["PATH"]}`
  const env = { HOME: process.env["HOME"], npm_config_prefer_offline: "true", ...args, ...stage.env, PATH }
  await execute("/bin/sh", ["-c", command], { cwd: inside(stage, "."), env, maxBuffer: 64 * 1024 * 1024 }).catch(
    (error: ExecFileException) => {
      throw new Error(`RUN ${command}\n${error.stdout}\n${error.stderr}`)
    }
  )
}
