import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import * as RepositoryPattern from "../../src/domain/RepositoryPattern.ts"

const owners = ["org", "other", "a-b", "emu_corp"] as const
const names = ["repo", "repo.git", ".github", "x_y", "org"] as const
const repository = Arbitrary.map(
  Arbitrary.schema(Schema.Tuple([Schema.Literals(owners), Schema.Literals(names)])),
  ([owner, name]) => ({ owner, name })
)
const pattern = Arbitrary.map(
  Arbitrary.schema(Schema.Tuple([Schema.Literals(owners), Schema.Literals([...names, "*"])])),
  ([owner, name]) => `${owner}/${name}`
)
const patterns = Arbitrary.map(Arbitrary.array(pattern, { maxLength: 4 }), (list) => new Set(list))

/** All that there is. An owner's deliveries without a repository belong to nothing else. */
const everything: ReadonlyArray<RepositoryPattern.Subject> = owners.flatMap((owner) =>
  [undefined, ...names].map((name) => ({ owner, name }))
)
const taken = (by: ReadonlySet<string>) => everything.filter((subject) => RepositoryPattern.matches(by, subject))

describe("a pattern", () => {
  it.each([
    ["org/repo", "org/repo"],
    ["Org/Repo.Git", "org/repo.git"],
    ["ORG/*", "org/*"],
    ["emu_corp/.github", "emu_corp/.github"]
  ])("%s is read as %s", (text, expected) => assert.strictEqual(RepositoryPattern.parse(text), expected))

  it.each([
    "",
    "org",
    "org/",
    "/repo",
    "*",
    "*/*",
    "*/repo",
    "org/re*",
    "org/**",
    "org/repo/",
    "a/b/c",
    "org/..",
    "org/.",
    "-org/repo",
    "org /repo",
    "org/repo\n",
    "https://github.com/org/repo"
  ])("is not %j", (text) => assert.isUndefined(RepositoryPattern.parse(text)))

  it.prop(
    "of a repository takes that one alone, in any case",
    { own: repository, other: repository },
    ({ other, own }) => {
      const only = new Set([RepositoryPattern.parse(`${own.owner}/${own.name}`.toUpperCase())!])
      assert.strictEqual(
        RepositoryPattern.matches(only, other),
        own.owner === other.owner && own.name === other.name
      )
      assert.isFalse(RepositoryPattern.matches(only, { owner: own.owner, name: undefined }))
    }
  )

  it("of an owner takes all that is the owner's", () => {
    assert.deepStrictEqual(taken(new Set(["org/*"])), everything.filter(({ owner }) => owner === "org"))
  })
})

describe("sets of patterns", () => {
  it.prop("cover a pattern if they take all that it takes", { some: patterns, one: pattern }, ({ one, some }) => {
    if (!RepositoryPattern.covers(some, one)) return
    for (const subject of taken(new Set([one]))) assert.isTrue(RepositoryPattern.matches(some, subject))
  })

  it.prop("have in common what both take, and no more", { some: patterns, others: patterns }, ({ others, some }) => {
    assert.deepStrictEqual(
      taken(RepositoryPattern.common(some, others)),
      taken(some).filter((subject) => RepositoryPattern.matches(others, subject))
    )
  })
})

describe("a full name", () => {
  it("is compared in lower case", () => {
    assert.deepStrictEqual(RepositoryPattern.subjectOf("Org/Repo"), { owner: "org", name: "repo" })
  })

  // The Kelvin sign is a k in lower case.
  it.each(["", "org", "org/", "/repo", "a/b/c", "org/*", "\u212aonflux/repo", "org/re po", "org/repo\n"])(
    "is not %j",
    (text) => {
      assert.isUndefined(RepositoryPattern.subjectOf(text))
    }
  )
})
