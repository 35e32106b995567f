import { assert, describe, it } from "@effect/vitest"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const demo = fileURLToPath(new URL("../../../demo/demo.ts", import.meta.url))

const start = (...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [demo, ...args], { stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => output += text)
  return { child, output: () => output, exit: once(child, "close").then(([code]) => code as number | null) }
}

const seen = (child: ChildProcess, output: () => string, words: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const check = () => output().includes(words) && resolve()
    child.stdout!.on("data", check).on("close", () => reject(new Error(output())))
    check()
  })

/** Whether the port that the demo's server had is free again: nobody is left behind. */
const answers = (output: string): Promise<boolean> =>
  fetch(`${/http:\/\/127\.0\.0\.1:\d+/.exec(output)![0]}/healthz`).then(() => true, () => false)

describe("the demo", () => {
  it("ends with exit code 0 when all went as it should", async () => {
    const { exit, output } = start("--once")
    assert.strictEqual(await exit, 0, output())
    assert.include(output(), "✓ 12 deliveries × 3 backends: each arrived once, byte for byte, signature valid")
    assert.include(output(), "✓ 4 refused requests reached no backend")
    assert.match(output(), /ping .* 503 503 ✓ .* 200 proxied/)
    assert.match(output(), /push, wrong secret .* refused: signature mismatch .* 400 bad request/)
    assert.match(output(), /push, over the limit .* refused: body too large .* 413 request body too large/)
    assert.include(output(), "✓ 2 deliveries were answered while pac-1 was down; it got each once when it came up")
    assert.match(output(), /pull_request opened .* ✓ .* ✓ .* ✓ .* 202 accepted/)
    assert.match(output(), /check_run rerequested .* no answer\n.*pull_request opened .* no answer\n/)
    assert.match(output(), /3 deliveries failed at GitHub since .* UTC: 3 missing\n/)
    assert.include(output(), "\nrecovered 3\n")
    assert.match(output(), /recovery +failed at GitHub .* UTC; asked for once .* UTC; recovered 10m\d+s late\n/)
    assert.include(output(), "✓ 3 deliveries that failed at GitHub were asked for once, and each backend got each once")
    assert.include(output(), "✓ SIGTERM: what was under way was finished")
    assert.notInclude(output(), "✗")
    assert.notInclude(output(), "\u001b", "no escape sequences where there is no terminal")
    assert.isFalse(await answers(output()))
  })

  it("stays up until Ctrl-C, then stops its server, and what it says to paste works", async () => {
    const { child, exit, output } = start()
    await seen(child, output, "Ctrl-C stops everything.")
    const [good, bad] = [...output().matchAll(/^curl -i [^]*?^ -d .*$/gm)].map(([command]) => command)
    assert.include(await shell(good!), "proxied")
    assert.include(await shell(bad!), "bad request")
    await seen(child, output, "refused: signature mismatch           400\n")
    child.kill("SIGINT")
    assert.strictEqual(await exit, 0, output())
    assert.match(output(), /check_run rerequested .* no answer\n.*pull_request opened .* no answer\n/)
    assert.match(output(), /3 deliveries failed at GitHub since .* UTC: 3 missing\n/)
    assert.include(output(), "\nrecovered 3\n")
    assert.match(output(), /recovery +failed at GitHub .* UTC; asked for once .* UTC; recovered 10m\d+s late\n/)
    assert.include(output(), "✓ 3 deliveries that failed at GitHub were asked for once, and each backend got each once")
    assert.include(output(), "✓ SIGTERM: what was under way was finished")
    assert.isFalse(await answers(output()))
  })

  it("leaves nobody behind when it is interrupted at once", async () => {
    const { child, exit, output } = start("--once")
    await seen(child, output, "sprayproxy")
    child.kill("SIGINT")
    await exit
    assert.isFalse(await answers(output()))
  })
})

const shell = async (command: string): Promise<string> => {
  const child = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "ignore"] })
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (text) => output += text)
  await once(child, "close")
  return output
}
