import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import { BodyAssembly } from "../../src/domain/Body.ts"

const anySizes = Arbitrary.array(
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 70_000 }))),
  {
    maxLength: 12
  }
)

const dispatched = (body: Buffer | Iterable<Buffer>) => Buffer.isBuffer(body) ? [body] : [...body]

describe("Body", () => {
  it.prop("goes out byte for byte, whatever chunks it came in", { sizes: anySizes }, ({ sizes }) => {
    const chunks = sizes.map((size) => randomBytes(size))
    const assembly = new BodyAssembly()
    for (const chunk of chunks) assembly.append(chunk)
    const body = assembly.body()
    const sent = dispatched(body.toDispatch())
    assert.strictEqual(body.length, Buffer.concat(chunks).length)
    assert.isTrue(Buffer.concat(sent).equals(Buffer.concat(chunks)))
    assert.isTrue(sent.every((slice) => slice.length <= 70_000))
  })

  it("sets aside no more than twice of what came in single bytes, beyond the first kB", () => {
    const assembly = new BodyAssembly()
    for (let i = 0; i < 200_000; i++) assembly.append(Buffer.from([i % 256]))
    const slices = dispatched(assembly.body().toDispatch())
    const setAside = new Set(slices.map((slice) => slice.buffer))
    assert.isAtMost([...setAside].reduce((sum, { byteLength }) => sum + byteLength, 0), 2 * 200_000)
    assert.isAtMost(slices.length, 20)
    assert.isTrue(Buffer.concat(slices).equals(Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 256))))
  })

  it("an empty body is an empty buffer", () => {
    const body = new BodyAssembly().body()
    assert.strictEqual(body.length, 0)
    assert.deepStrictEqual(body.toDispatch(), Buffer.alloc(0))
  })
})
