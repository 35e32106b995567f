import { execFileSync, execSync } from "node:child_process"
import { programFile } from "./Program.ts"

/** The end-to-end tests drive the built program: it is built anew before each run. */
export const setup = (): void => {
  execSync("npm run --silent build", { stdio: "inherit" })
  // One that ends by itself leaves behind what it has compiled; those that a test kills do not.
  execFileSync(process.execPath, [programFile, "--version"], { stdio: "ignore" })
}
