import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { LiveSet, type Member } from "../../src/runtime/LiveSet.ts"

const below = (count: number) =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: count - 1 })))

const candidates = (count: number): ReadonlyArray<Member & { readonly name: number }> =>
  Array.from({ length: count }, (_, name) => ({ name, place: -1 }))

const namesOf = (set: LiveSet<Member & { readonly name: number }>) =>
  Array.from(set, ({ name }) => name).toSorted((a, b) => a - b)

describe("LiveSet", () => {
  it("is empty at first", () => {
    const set = new LiveSet()
    assert.strictEqual(set.size, 0)
    assert.deepStrictEqual(Array.from(set), [])
  })

  it.prop(
    "has who was added and not deleted, each once, whoever leaves twice or was never in it",
    {
      steps: Arbitrary.array(Arbitrary.all([Arbitrary.schema(Schema.Literals(["add", "delete"])), below(6)]), {
        maxLength: 60
      })
    },
    ({ steps }) => {
      const set = new LiveSet<Member & { readonly name: number }>()
      const model = new Set<number>()
      const everyone = candidates(6)
      for (const [what, name] of steps) {
        if (what === "delete") {
          set.delete(everyone[name]!)
          model.delete(name)
        } else if (!model.has(name)) {
          set.add(everyone[name]!)
          model.add(name)
        }
        assert.strictEqual(set.size, model.size)
        assert.deepStrictEqual(namesOf(set), Array.from(model).toSorted((a, b) => a - b))
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "shows whoever stays exactly once, and nobody twice, while others leave",
    {
      count: below(12),
      // The members that leave while the first one is visited, the second, and so on.
      leaving: Arbitrary.array(Arbitrary.array(below(12), { maxLength: 4 }), { maxLength: 12 })
    },
    ({ count, leaving }) => {
      const set = new LiveSet<Member & { readonly name: number }>()
      const everyone = candidates(12)
      for (const member of everyone.slice(0, count)) set.add(member)
      const visited: Array<number> = []
      const left = new Set<number>()
      for (const { name } of set) {
        for (const other of leaving[visited.length] ?? []) {
          set.delete(everyone[other]!)
          left.add(other)
        }
        visited.push(name)
      }
      assert.strictEqual(new Set(visited).size, visited.length)
      const stayed = everyone.slice(0, count).map(({ name }) => name).filter((name) => !left.has(name))
      assert.includeMembers(visited, stayed)
      assert.deepStrictEqual(namesOf(set), stayed)
    },
    { arbitrary: { runs: 500 } }
  )

  it("shows everyone, although each leaves when it is shown", () => {
    const set = new LiveSet<Member & { readonly name: number }>()
    for (const member of candidates(5)) set.add(member)
    const visited: Array<number> = []
    for (const member of set) {
      set.delete(member)
      visited.push(member.name)
    }
    assert.sameMembers(visited, [0, 1, 2, 3, 4])
    assert.strictEqual(set.size, 0)
  })
})
