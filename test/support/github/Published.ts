/** The schemas that GitHub publishes of its API, for github.com and for a GitHub Enterprise Server. */
import formats from "ajv-formats"
import { Ajv2019, type ValidateFunction } from "ajv/dist/2019.js"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

type Node = Readonly<Record<string, any>>

export class Published {
  readonly #document: Node
  readonly #ajv: Ajv2019
  readonly #validators = new Map<string, ValidateFunction>()

  constructor(name: "api.github.com" | "ghes-3.19") {
    const file = fileURLToPath(import.meta.resolve(`@octokit/openapi/generated/${name}.json`))
    this.#document = JSON.parse(readFileSync(file, "utf8")) as Node
    // The document is OpenAPI 3.0: of its words `nullable` and the formats mean something to the validator.
    this.#ajv = new Ajv2019({ strict: false, validateSchema: false, allErrors: true })
    formats.default(this.#ajv)
    this.#ajv.addSchema({ $id: "github", components: this.#document["components"] as Node })
  }

  /**
   * The faults of an answer. A field that no schema names is one of them. An error that any request may get is published
   * for none: it has the form of all errors.
   */
  faults(method: string, path: string, status: number, body: unknown): ReadonlyArray<string> {
    const key = `${method} ${path} ${status}`
    let validate = this.#validators.get(key)
    if (validate === undefined) {
      validate = this.#ajv.compile(closed(this.#schemaOf(method, path, status)))
      this.#validators.set(key, validate)
    }
    if (validate(body)) return []
    return validate.errors!.map(({ instancePath, message, params }) =>
      `${key}: ${instancePath} ${message} ${JSON.stringify(params)}`
    )
  }

  #schemaOf(method: string, path: string, status: number): Node {
    const responses = (this.#document["paths"] as Node)[path]?.[method.toLowerCase()]?.responses as Node | undefined
    if (responses === undefined) throw new Error(`${method} ${path} is not published`)
    const response = this.#resolved(responses[status] as Node | undefined)
    if (response !== undefined) return absolute(response["content"]["application/json"].schema) as Node
    if (status < 400) throw new Error(`${method} ${path} is not published to answer ${status}`)
    return { $ref: "github#/components/schemas/basic-error" }
  }

  #resolved(node: Node | undefined): Node | undefined {
    const reference = node?.["$ref"] as string | undefined
    if (reference === undefined) return node
    return reference.slice(2).split("/").reduce<Node>((at, name) => at[name] as Node, this.#document)
  }
}

/** No other fields than those that are named, in the object or in each object of the list. */
const closed = (schema: Node): Node =>
  schema["type"] === "array"
    ? { ...schema, items: closed(schema["items"] as Node) }
    : { ...schema, unevaluatedProperties: false }

/** References that lead into the whole document. */
const absolute = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(absolute)
  if (typeof schema !== "object" || schema === null) return schema
  return Object.fromEntries(
    Object.entries(schema).map(([name, value]) =>
      name === "$ref" ? [name, `github${String(value)}`] : [name, absolute(value)]
    )
  )
}
