import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createRequire } from "node:module"
import * as Payload from "../../src/addressing/Payload.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Subject } from "../../src/domain/RepositoryPattern.ts"

const examples = createRequire(import.meta.url)("@octokit/webhooks-examples") as ReadonlyArray<{
  readonly name: string
  readonly examples: ReadonlyArray<Record<string, { readonly [K in string]?: unknown }>>
}>

const form = (json: string) => new URLSearchParams({ payload: json }).toString()

const slowly = (text: string, isForm: boolean): Promise<Subject | undefined> =>
  new Promise((resolve) => Payload.readSlowly(Body.of(Buffer.from(text)), isForm, resolve))

/** What both ways of reading say of a payload, as JSON and in a form. They have to say the same. */
const subjectOf = async (json: string): Promise<Subject | undefined> => {
  const quick = Payload.read(Body.of(Buffer.from(json)), false)
  const others = [
    Payload.read(Body.of(Buffer.from(form(json))), true),
    await slowly(json, false),
    await slowly(form(json), true)
  ]
  for (const other of others) assert.deepStrictEqual(other, quick, json.slice(0, 200))
  return quick
}

const owned = (owner: string) => ({ owner, name: undefined })

describe("what a payload belongs to", () => {
  it.effect("is read from each of GitHub's payloads", () =>
    Effect.promise(async () => {
      const read = examples.flatMap(({ examples: payloads, name }) =>
        payloads.map(async (payload) => {
          const subject = await subjectOf(JSON.stringify(payload))
          const fullName = (payload["repository"] as { full_name?: string } | undefined)?.full_name
          if (fullName === undefined) return false
          const [owner, repository] = fullName.toLowerCase().split("/")
          assert.deepStrictEqual(subject, { owner: owner!, name: repository }, name)
          return true
        })
      )
      const withRepository = (await Promise.all(read)).filter((hasOne) => hasOne).length
      assert.isAbove(withRepository, 250)
    }))

  it.effect.each<[string, string, Subject | undefined]>([
    ["a repository before all else", `{"organization":{"login":"o"},"repository":{"full_name":"A/B"}}`, {
      owner: "a",
      name: "b"
    }],
    ["an organization", `{"organization":{"login":"Org"},"installation":{"account":{"login":"x"}}}`, owned("org")],
    ["the account of an installation", `{"installation":{"id":1,"account":{"login":"Someone"}}}`, owned("someone")],
    ["nobody, where the installation has no account", `{"installation":{"id":1}}`, undefined],
    ["nobody, where the repository has no name", `{"repository":{},"organization":{"login":"o"}}`, undefined],
    ["nobody, where the repository is a text", `{"repository":"a/b","organization":{"login":"o"}}`, undefined],
    ["the organization, where the repository is null", `{"repository":null,"organization":{"login":"o"}}`, owned("o")],
    ["nobody, where the name is no name", `{"repository":{"full_name":"a/b/c"}}`, undefined],
    ["nobody, where the login is no login", `{"organization":{"login":"a/b"}}`, undefined],
    ["the last of equal members", `{"repository":{"full_name":"a/b"},"repository":{"full_name":"c/d"}}`, {
      owner: "c",
      name: "d"
    }],
    ["the last of equal members, even without a name", `{"repository":{"full_name":"a/b"},"repository":{}}`, undefined],
    [
      "the outermost repository",
      `{"x":{"repository":{"full_name":"a/b"}},"commits":[{"repository":{"full_name":"c/d"}}]}`,
      undefined
    ],
    ["a repository with escapes in its name", `{"repo\\u0073itory":{"full\\u005fname":"\\u0061/b"}}`, {
      owner: "a",
      name: "b"
    }],
    ["nobody, where the JSON is cut off", `{"repository":{"full_name":"a/b"},"x":`, undefined],
    ["nobody, where something follows the JSON", `{"repository":{"full_name":"a/b"}} x`, undefined],
    ["nobody, where the payload is a list", `[{"repository":{"full_name":"a/b"}}]`, undefined],
    ["nobody, where it is empty", ``, undefined],
    ["nobody, where it is no JSON", `payload`, undefined]
  ])(
    "is %s",
    ([, json, expected]) => Effect.promise(async () => assert.deepStrictEqual(await subjectOf(json), expected))
  )

  const member = Schema.Literals(["repository", "organization", "installation", "full_name", "login", "account", "a"])
  const leaf = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean, Schema.Null, Schema.Literals(["a/b", "o"])])
  const inner = Schema.Record(member, Schema.Union([leaf, Schema.Array(leaf), Schema.Record(member, leaf)]))

  it.effect.prop(
    "is the same read at once and in slices",
    { payload: Arbitrary.schema(Schema.Record(member, Schema.Union([leaf, inner]))) },
    ({ payload }) => Effect.promise(() => subjectOf(JSON.stringify(payload)))
  )

  it.effect("of 25 MiB is read in many turns of the event loop", () =>
    Effect.promise(async () => {
      const commit = { message: "x".repeat(200), added: ["a", "b"], n: 1.5, at: null }
      const json = JSON.stringify({
        commits: Array.from({ length: 90_000 }, () => commit),
        repository: { full_name: "Org/Repo" }
      })
      assert.isAbove(json.length, 20 * 1024 * 1024)
      let turns = 0
      let isDone = false
      const count = () => {
        turns += 1
        if (!isDone) setImmediate(count)
      }
      setImmediate(count)
      assert.deepStrictEqual(await slowly(json, false), { owner: "org", name: "repo" })
      isDone = true
      // No machine reads it all in five turns of 10 ms.
      assert.isAbove(turns, 5)
    }))
})
