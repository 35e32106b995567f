/** Scripts that register and clean up with the real curl, as they run in pipelines. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import * as Https from "node:https"
import { fileURLToPath } from "node:url"
import { listen, startBackend } from "../../support/Backend.ts"
import { runToEnd } from "../../support/Program.ts"
import { closedPort } from "../../support/edges.ts"
import { reach, type Reached, token, ways } from "./Reaching.ts"

const missing = ["bash", "curl", "grep", "sed"].filter((tool) => spawnSync(tool, ["--version"]).status !== 0)
if (missing.length > 0) {
  console.warn(
    `SKIPPED: there is no ${missing.join(", no ")} on this machine, the scripts that register are not tested`
  )
}

/** Takes three statuses alone. curl tries again by itself after a 5xx. */
const retrying = `
set -o nounset -o pipefail
answer=$(curl -k -s --retry 3 -w '\\n%{http_code}' -X "$1" -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"url": "'"$2"'"}' "$PROXY/backends")
echo "\${answer##*$'\\n'} \${answer%%$'\\n'*}"
case "\${answer##*$'\\n'}" in
  200 | 201 | 302) ;;
  *) exit 1 ;;
esac
`

/** Its body goes as a form, and it looks only at curl's own exit code: any answer ends it. */
const task = `
set -o errexit -o nounset -o pipefail
tries=0
for _ in {1..5}; do
  tries=$((tries + 1))
  if curl -k -sS -X "$1" -H "Authorization: Bearer $TOKEN" "$PROXY"/backends --data '{"url": "'"$2"'"}'; then
    break
  fi
  sleep 0.1
done
echo " after $tries"
`

/** Knows an empty list by its exact text, and takes the list apart with grep. */
const cleaning = `
set -o errexit -o nounset -o pipefail
servers=$(curl -k -sS -X GET -H "Authorization: Bearer $TOKEN" "$PROXY/backends")
if [[ "$servers" == "Backend urls: " ]]; then
  echo "nothing is registered"
  exit 0
fi
for url in $(echo "$servers" | grep -o 'https://[^,]*' | sed 's/,//g'); do
  address=\${url#https://}
  if (exec 3<>"/dev/tcp/\${address%:*}/\${address#*:}") 2> /dev/null; then
    echo "$url is there"
    continue
  fi
  echo "$url: $(curl -k -sS -X DELETE -H "Authorization: Bearer $TOKEN" "$PROXY/backends" --data '{"url": "'"$url"'"}')"
done
`

const run = async ({ url }: Reached, script: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const { code, stderr, stdout } = await runToEnd(["-c", script, "script", ...args], { PROXY: url, TOKEN: token }, [
    "bash"
  ])
  assert.strictEqual(stderr, "")
  return `${stdout.trimEnd()}, exit ${code}`
}

const pem = (name: string) => readFileSync(fileURLToPath(new URL(`../../fixtures/tls/${name}.pem`, import.meta.url)))

const startTlsBackend = Effect.suspend(() => {
  const server = Https.createServer({ cert: pem("localhost"), key: pem("localhost-key") }, (request, response) => {
    request.resume().on("end", () => response.writeHead(202).end())
  })
  return Effect.map(listen(server), (port) => `https://localhost:${port}`)
})

const deadTlsBackend = Effect.map(closedPort, (port) => `https://localhost:${port}`)

const promise = <A>(f: () => Promise<A>) => Effect.promise(f)

describe.skipIf(missing.length > 0).each(ways)("with curl, %s", (way) => {
  const isGuarded = way !== "directly"

  it.live("a script that takes 200, 201 and 302 alone goes on when it registers and when it registers again", () =>
    Effect.gen(function*() {
      const { url } = yield* startBackend()
      const reached = yield* reach(way, "--dynamic-backend-limit", "1")
      yield* promise(async () => {
        assert.strictEqual(await run(reached, retrying, "POST", url), "200 registered the backend server, exit 0")
        assert.strictEqual(await run(reached, retrying, "POST", url), "302 backend server already registered, exit 0")
        assert.strictEqual(await run(reached, retrying, "GET", url), `200 Backend urls: ${url}, exit 0`)
        // Refused: curl does not try again, the script ends and shows the reason.
        assert.strictEqual(
          await run(reached, retrying, "POST", "https://localhost:1"),
          "409 no more than 1 dynamic backends are allowed, exit 1"
        )
        assert.strictEqual(
          await run(reached, retrying, "POST", "localhost"),
          "422 a backend url starts with http:// or https://, exit 1"
        )
        assert.strictEqual(await run(reached, retrying, "DELETE", url), "200 backend server unregistered, exit 0")
        assert.strictEqual(
          await run(reached, retrying, "DELETE", url),
          "404 backend server not found in the list, exit 1"
        )
        await reached.endLoad()
      })
    }))

  it.live.skipIf(!isGuarded)(
    "it goes on when a request was lost, and when the answer was: the retry is told 302",
    () =>
      Effect.gen(function*() {
        const backends = yield* Effect.forEach([1, 2], () => startBackend())
        const [one, two] = backends.map(({ url }) => url)
        const reached = yield* reach(way)
        yield* promise(async () => {
          reached.befall("request lost")
          const registered = await run(reached, retrying, "POST", one!)
          assert.strictEqual(registered, "200 registered the backend server, exit 0")
          reached.befall("answer lost")
          const again = await run(reached, retrying, "POST", two!)
          assert.strictEqual(again, "302 backend server already registered, exit 0")
          assert.strictEqual(await run(reached, retrying, "GET", ""), `200 Backend urls: ${one}, ${two}, exit 0`)
          await reached.endLoad()
        })
      })
  )

  it.live("a task that sends a form gets its answer at the first of its five tries", () =>
    Effect.gen(function*() {
      const { url } = yield* startBackend()
      const reached = yield* reach(way)
      yield* promise(async () => {
        const tried = (method: string) => run(reached, task, method, url)
        assert.strictEqual(await tried("POST"), "registered the backend server after 1, exit 0")
        assert.strictEqual(await tried("POST"), "backend server already registered after 1, exit 0")
        assert.strictEqual(await tried("GET"), `Backend urls: ${url} after 1, exit 0`)
        assert.strictEqual(await tried("DELETE"), "backend server unregistered after 1, exit 0")
        assert.strictEqual(await tried("DELETE"), "backend server not found in the list after 1, exit 0")
        assert.strictEqual(await tried("GET"), "Backend urls:  after 1, exit 0")
        await reached.endLoad()
      })
    }))

  it.live("a script that takes the list apart with grep unregisters what is dead, and knows the empty list", () =>
    Effect.gen(function*() {
      const [first, last] = yield* Effect.forEach([1, 2], () => startTlsBackend)
      const dead = yield* Effect.forEach([1, 2], () => deadTlsBackend)
      const reached = yield* reach(way)
      yield* promise(async () => {
        assert.strictEqual(await run(reached, cleaning), "nothing is registered, exit 0")
        for (const url of [first!, dead[0]!, last!, dead[1]!]) {
          // oxlint-disable-next-line no-await-in-loop -- the list has them in this order
          assert.strictEqual(await run(reached, task, "POST", url), "registered the backend server after 1, exit 0")
        }
        assert.deepStrictEqual((await run(reached, cleaning)).split("\n"), [
          `${first} is there`,
          `${dead[0]}: backend server unregistered`,
          `${last} is there`,
          `${dead[1]}: backend server unregistered, exit 0`
        ])
        assert.strictEqual(await run(reached, cleaning), `${first} is there\n${last} is there, exit 0`)
        for (const url of [first!, last!]) {
          // oxlint-disable-next-line no-await-in-loop -- as above
          assert.strictEqual(await run(reached, task, "DELETE", url), "backend server unregistered after 1, exit 0")
        }
        assert.strictEqual(await run(reached, cleaning), "nothing is registered, exit 0")
        await reached.endLoad("502 failed to proxy")
      })
    }))

  it.live.skipIf(!isGuarded)(
    "a token that may not register, or none, is answered by the sidecar, and nothing changes",
    () =>
      Effect.gen(function*() {
        const { url } = yield* startBackend()
        const reached = yield* reach(way)
        yield* promise(async () => {
          const as = async (account: string) => {
            const args = ["-c", task, "script", "POST", url]
            const { stdout } = await runToEnd(args, { PROXY: reached.url, TOKEN: account }, ["bash"])
            return stdout.trim()
          }
          assert.strictEqual(await as(""), "Unauthorized after 1")
          assert.strictEqual(await as("stranger"), "Forbidden after 1")
          assert.strictEqual(await run(reached, task, "GET", url), "Backend urls:  after 1, exit 0")
          await reached.endLoad()
        })
      })
  )
})
