import { assert, describe, it } from "@effect/vitest"
import { Validator } from "@seriousme/openapi-schema-validator"
import document from "../../docs/openapi.json" with { type: "json" }

describe("docs/openapi.json", () => {
  it("is a valid OpenAPI document", async () => {
    const { errors, valid } = await new Validator().validate(structuredClone(document))
    assert.isTrue(valid, JSON.stringify(errors))
  })
})
