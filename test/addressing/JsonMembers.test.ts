import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { JsonMembers } from "../../src/addressing/JsonMembers.ts"

const names = new Set(["repository", "a"])

/** The sought members, read in slices of so many bytes. Undefined: it is no JSON object. */
const read = (json: Buffer, sliceBytes: number): Record<string, unknown> | undefined => {
  const members = new JsonMembers(names)
  for (let at = 0; at < json.length; at += sliceBytes) {
    if (!members.write(json.subarray(at, at + sliceBytes))) return undefined
  }
  const found = members.end()
  return found && Object.fromEntries(found)
}

/** The same by `JSON.parse`. */
const expected = (json: Buffer): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(json.toString())
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined
    return Object.fromEntries(Object.entries(value).filter(([name]) => names.has(name)))
  } catch {
    return undefined
  }
}

const agree = (text: string | Buffer) => {
  const json = Buffer.from(text as string)
  for (const sliceBytes of [1, 2, 7, 1_000_000]) assert.deepStrictEqual(read(json, sliceBytes), expected(json))
}

const leaf = Schema.Union([
  Schema.String,
  Schema.Finite,
  Schema.Boolean,
  Schema.Null,
  Schema.Literals([1e21, -1.5e-7, `"`, "\\", "\u0001", "\u2028", "a/b"])
])
const key = Schema.Union([Schema.Literals(["repository", "a", "__proto__", "constructor", ""]), Schema.String])
const nested = Schema.Union([leaf, Schema.Array(leaf), Schema.Record(key, Schema.Union([leaf, Schema.Array(leaf)]))])
const payloads = Arbitrary.schema(Schema.Record(key, nested))
const spaces = Schema.Literals(["", " ", "\t", "\n", "\r\n  "])
/** What may go wrong in JSON: bytes that are put in, taken out, or put in place of others. */
const fault = Arbitrary.schema(Schema.Struct({
  at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 200 })),
  removed: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 })),
  added: Schema.Literals([
    ..."{}[],:\"\\+-.0159eEutrfn\t\n \u0000",
    "\u00e9",
    "\ufeff",
    "\\u00",
    "tru",
    "null",
    "1e",
    "-"
  ])
}))

const nest = (deep: number) => Buffer.from(`{"b":${"[".repeat(deep)}${"]".repeat(deep)},"a":1}`)
const withText = (length: number) => Buffer.from(`{"a":"${"x".repeat(length)}"}`)

describe("the sought members of a JSON object", () => {
  it.prop("are those of JSON.parse", { payload: payloads, space: Arbitrary.schema(spaces) }, ({ payload, space }) => {
    agree(space + JSON.stringify(payload, undefined, space) + space)
  })

  it.prop(
    "are none if JSON.parse would refuse it",
    { payload: payloads, one: fault, other: fault },
    ({ one, other, payload }) => {
      let json = JSON.stringify(payload)
      for (const { added, at, removed } of [one, other]) {
        const from = at % (json.length + 1)
        json = json.slice(0, from) + added + json.slice(from + removed)
        agree(json)
      }
    }
  )

  it.each([
    ``,
    ` `,
    `{}`,
    ` {} `,
    `{}{}`,
    `{},`,
    `}`,
    `[]`,
    `1`,
    `"a"`,
    `null`,
    `{"a":01}`,
    `{"a":-}`,
    `{"a":1.}`,
    `{"a":.5}`,
    `{"a":1e}`,
    `{"a":1e+}`,
    `{"a":1E-2,"repository":-0}`,
    `{"a":0}`,
    `{"a":00}`,
    `{"a":truex}`,
    `{"a":tru}`,
    `{"a":nul`,
    `{"a":NaN}`,
    `{"a":[1,]}`,
    `{"a":[,1]}`,
    `{"a":[1 2]}`,
    `{"a":[}]}`,
    `{"a":[{]}}`,
    `{"a" 1}`,
    `{"a"}`,
    `{"a":}`,
    `{"a":1,}`,
    `{,}`,
    `{a:1}`,
    `{'a':1}`,
    `{"a":1 "b":2}`,
    `{"a":"\\x"}`,
    `{"a":"\\u12g4"}`,
    `{"a":"\\ud800"}`,
    `{"a":"\t"}`,
    `{"\\u0061":1}`,
    `{"\\u0072\\u0065\\u0070\\u006f\\u0073\\u0069\\u0074\\u006f\\u0072\\u0079":{"full_name":"a/b"}}`,
    `{"a":{"a":1},"b":{"a":2},"c":[{"repository":3}]}`,
    `{"a":1,"a":{"x":[]},"a":"last"}`,
    `{"a":{"a":{"a":"x"}},"a":[]}`,
    `{"${"long".repeat(100)}":1,"a":2}`,
    `\ufeff{"a":1}`,
    `{"a":1}\u0000`,
    `{"a":1}//`,
    `{"A":1,"Repository":2}`
  ])("agree with JSON.parse: %s", (json) => agree(json))

  it("agree with JSON.parse on bytes that are no UTF-8", () => {
    agree(Buffer.from([...Buffer.from(`{"a":"`), 0xff, 0xc0, 0x80, ...Buffer.from(`"}`)]))
    agree(Buffer.from([...Buffer.from(`{"a`), 0xff, ...Buffer.from(`":1,"a":2}`)]))
  })

  it("are read past values 10,000 deep, and refused below", () => {
    assert.deepStrictEqual(read(nest(9_999), 1_000), { a: 1 })
    assert.isUndefined(read(nest(10_000), 1_000))
  })

  it("are refused if one is larger than anything of GitHub's", () => {
    assert.isDefined(read(withText(10_000), 1_000))
    assert.isUndefined(read(withText(300_000), 1_000))
  })
})
