/** How the starts that these tests look at are told where to listen and what the secret is. */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { secret } from "../../support/GitHub.ts"

export const withSecret = { GH_APP_WEBHOOK_SECRET: secret }

export const loopback = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]

export const directory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sprayproxy-startup-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true }))
)
