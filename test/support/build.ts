import { execSync } from "node:child_process"

/** The end-to-end tests drive the built program: it is built anew before each run. */
export const setup = (): void => {
  execSync("npm run --silent build", { stdio: "inherit" })
}
