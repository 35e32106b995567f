import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { LongestFirst } from "./test/support/LongestFirst.ts"

/** Node keeps compiled code here, so that a thread of a store, and a program, start in half the time. */
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("node_modules/.cache/node", import.meta.url))

/** These tests drive built programs, tools of clusters and whole outages, and take minutes. */
const slow = ["chaos", "crash", "e2e", "k8s"]

/** Most of these tests wait more than they compute. */
const maxWorkers = Math.min(8, 2 * availableParallelism())

export default defineConfig({
  test: {
    maxWorkers,
    sequence: { sequencer: LongestFirst },
    // No test waits that long, but a busy machine may need it.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [`test/{${slow.join(",")}}/**`, "test/**/postgres/**"],
          // Loading Effect and the sources takes longer than the tests of most files.
          isolate: false
        }
      },
      {
        extends: true,
        test: {
          name: "postgres",
          include: ["test/**/postgres/**/*.test.ts"],
          globalSetup: ["test/support/postgres/setup.ts"]
        }
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: [`test/{${slow.join(",")}}/**/*.test.ts`],
          globalSetup: ["test/support/build.ts", "test/support/postgres/setup.ts"]
        }
      }
    ]
  }
})
