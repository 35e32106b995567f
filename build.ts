/**
 * `npm run build` bundles the program into `dist/`: the small file that hears signals, the program in parts, and the
 * worker that SQLite runs in. It prints each file with its size, unless npm is told to be silent.
 */
import { build, type BuildOptions } from "esbuild"
import { readdirSync, rmSync, statSync } from "node:fs"

const nodeCheck = `#!/usr/bin/env node
if (Number(process.versions.node.split(".")[0]) < 24) { console.error(\`sprayproxy: needs Node 24 or newer, and this is \${process.version}\`); process.exit(1) }`

/** For packages that are CommonJS. The alias keeps out of the way of packages that do the same. */
const requireForModules =
  "import { createRequire as __createRequire } from \"node:module\"; const require = __createRequire(import.meta.url);"

const root = import.meta.dirname
const dist = `${root}/dist`

const common: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  logLevel: "warning"
}

rmSync(dist, { recursive: true, force: true })
await build({
  ...common,
  entryPoints: ["src/sprayproxy.ts"],
  external: ["./main.js"],
  outfile: "dist/sprayproxy.js",
  banner: { js: nodeCheck }
})
await build({
  ...common,
  entryPoints: ["src/main.ts"],
  splitting: true,
  mainFields: ["module", "main"],
  external: ["./getMachineId-*"],
  outdir: "dist",
  banner: { js: requireForModules }
})
await build({ ...common, entryPoints: ["src/store/sqlite/Worker.ts"], outfile: "dist/SqliteWorker.js" })

if (process.env["npm_config_loglevel"] !== "silent") {
  for (const file of readdirSync(dist)) {
    const kibibytes = (statSync(`${dist}/${file}`).size / 1024).toFixed(1)
    console.log(`${kibibytes.padStart(8)} KiB  dist/${file}`)
  }
}
