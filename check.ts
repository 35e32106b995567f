/** `npm run check`: all of package.json's `check:…` scripts at once. Each says its words when it has ended, and one that fails fails all. */
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
