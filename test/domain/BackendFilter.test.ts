import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import * as BackendFilter from "../../src/domain/BackendFilter.ts"

const names = ["a", "b", "*"] as const
const pattern = Schema.Literals(["org", "team"].flatMap((owner) => names.map((name) => `${owner}/${name}`)))
const event = Schema.Literals(["push", "ping"])
const maybe = <A>(values: Schema.Codec<A>) =>
  Schema.Union([Schema.Undefined, Schema.Array(values).check(Schema.isMaxLength(3))])
const filter = Arbitrary.map(
  Arbitrary.schema(Schema.Tuple([maybe(pattern), maybe(event)])),
  ([patterns, events]) => BackendFilter.make(patterns, events)
)
const bounds = Arbitrary.schema(maybe(pattern))

/** All that may come, with nobody's deliveries among it. */
const subjects = [
  undefined,
  ...["org", "team"].flatMap((owner) => [undefined, "a", "b"].map((name) => ({ owner, name })))
]
const deliveries = subjects.flatMap((subject) => [undefined, "push", "ping"].map((each) => ({ subject, event: each })))

const taken = (by: BackendFilter.BackendFilter | undefined) =>
  deliveries.filter((delivery) =>
    by === undefined ||
    (BackendFilter.takesEvent(by, delivery.event) && BackendFilter.takesSubject(by, delivery.subject))
  )

describe("a filter within a bound", () => {
  it.prop("takes what both take, and no more", { asked: filter, bound: bounds }, ({ asked, bound }) => {
    const most = bound === undefined ? undefined : new Set(bound)
    const inBound = taken(BackendFilter.make(bound, undefined))
    assert.deepStrictEqual(
      taken(BackendFilter.within(asked, most)),
      taken(asked).filter((delivery) => inBound.includes(delivery))
    )
  })
})

describe("filters", () => {
  it.prop("that are the same take the same", { one: filter, other: filter }, ({ one, other }) => {
    if (BackendFilter.isSame(one, other)) assert.deepStrictEqual(taken(one), taken(other))
    assert.isTrue(BackendFilter.isSame(one, one))
  })

  it("of nothing take nothing", () => assert.deepStrictEqual(taken(BackendFilter.nothing), []))

  it("that ask for nothing are none", () => assert.isUndefined(BackendFilter.make(undefined, undefined)))
})
