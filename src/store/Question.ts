/**
 * A question to the database for which an operator or a start waits. Each row of its answer is checked against a schema.
 * The question fails for a row that somebody has changed by hand, and does not take it for something that it is not.
 *
 * **Gotchas**
 *
 * The check costs a microsecond or two for each row. Claims and bulk writes go without it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as SqlSchema from "effect/sql/SqlSchema"
import { StoreUnavailable } from "./contract/Unavailable.ts"

type Asked = Effect.Effect<ReadonlyArray<unknown>, SqlError>

interface RowSchema<Row> extends Schema.Constraint {
  readonly Type: Row
  readonly DecodingServices: never
}

const execute = (statement: Asked) => statement

/** Asks for all rows of an answer. */
export const rowsOf = <Row>(Result: RowSchema<Row>) => {
  const find = SqlSchema.findAll({ Request: Schema.Any, Result, execute })
  return (statement: Asked): Effect.Effect<ReadonlyArray<Row>, SqlError | StoreUnavailable> =>
    Effect.catchTag(find(statement), "SchemaError", unreadable)
}

/** Asks for the first row of an answer that always has one. */
export const rowOf = <Row>(Result: RowSchema<Row>) => {
  const find = SqlSchema.findOne({ Request: Schema.Any, Result, execute })
  return (statement: Asked): Effect.Effect<Row, SqlError | StoreUnavailable> =>
    Effect.catchTags(find(statement), { SchemaError: unreadable, NoSuchElementError: unreadable })
}

/** The schema's own words are left out: they would show stored values. */
const unreadable = () =>
  Effect.fail(new StoreUnavailable({ reason: "something in it is not as this program writes it", fault: "content" }))
