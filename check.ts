/**
 * `npm run check` runs all `check:…` scripts of package.json at once. It prints the output of each when that has ended,
 * and fails if one fails.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { text } from "node:stream/consumers"

const { scripts } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"))

const passes = async (script: string): Promise<boolean> => {
  const child = spawn("sh", ["-c", `npm run --silent ${script} 2>&1`], { stdio: ["ignore", "pipe", "inherit"] })
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "close")])
  process.stdout.write(`${code === 0 ? "✓" : "✗"} ${script}\n${output}`)
  return code === 0
}

const results = await Promise.all(Object.keys(scripts).filter((name) => name.startsWith("check:")).map(passes))
if (results.includes(false)) process.exitCode = 1
