import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { FormPayload } from "../../src/addressing/FormPayload.ts"

/** The payload that is read from a form that comes in slices of this size. */
const read = (form: string | Uint8Array, sliceBytes: number): string => {
  const bytes = Buffer.from(form)
  const payload = new FormPayload()
  const parts: Array<Buffer> = []
  for (let at = 0; at < bytes.length; at += sliceBytes) parts.push(payload.write(bytes.subarray(at, at + sliceBytes)))
  return Buffer.concat([...parts, payload.end()]).toString()
}

/**
 * What the platform reads. Beside a `%` that begins no escape it mangles what is not ASCII, so it is given that as escapes,
 * which say the same. https://url.spec.whatwg.org/#urlencoded-parsing
 */
const readByPlatform = (form: string): string =>
  new URLSearchParams(form.replaceAll(/[^\0-\x7f]+/g, encodeURIComponent)).get("payload") ?? ""

const piece = Schema.Literals([
  "payload",
  "payload=",
  "&payload=",
  "&other=",
  "pay%6Coad=",
  "payloads=",
  "&",
  "=",
  "+",
  "%",
  "%%",
  "%7",
  "%7B",
  "%7d",
  "%zz",
  "%C3%A9",
  "é",
  "%F0%9F%9A%80",
  "a",
  "{\"a\":1}",
  "1"
])

describe("the payload of a form", () => {
  it.prop(
    "is what the platform reads, wherever the form is cut",
    {
      pieces: Arbitrary.array(Arbitrary.schema(piece), { maxLength: 12 }),
      sliceBytes: Arbitrary.schema(Schema.Literals([1, 2, 3, 7, 1000]))
    },
    ({ pieces, sliceBytes }) => {
      const form = pieces.join("")
      assert.strictEqual(read(form, sliceBytes), readByPlatform(form))
    }
  )

  it("is the first one, also if it has no value", () => {
    assert.strictEqual(read("payload=a&payload=b", 4), "a")
    assert.strictEqual(read("payload&payload=b", 4), "")
  })
})
