import { execFileSync, execSync } from "node:child_process"
import { programFile } from "./Program.ts"

/** The end-to-end tests drive the built program, so it is built anew before each run. */
export const setup = (): void => {
  execSync("npm run --silent build", { stdio: "inherit" })
  // A program that ends by itself leaves its compiled code behind for the others. Programs that a test kills do not.
  execFileSync(process.execPath, [programFile, "--version"], { stdio: "ignore" })
}
