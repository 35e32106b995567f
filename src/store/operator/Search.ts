/**
 * Searches for the deliveries or rows that a filter matches, in the order of deliveries' ids.
 *
 * **Details**
 *
 * - The rarest thing that a filter names has an index. The deliveries that it leads to are looked at in steps, each a
 *   statement of its own. So no statement takes long, whatever the filter and however large the store, and others can
 *   write in between.
 * - Nobody knows before how many match. So the first step is small, and each next one is larger.
 * - After some seconds a search ends where it is. There may be more behind that.
 *
 * **Gotchas**
 *
 * An id's time is that of the process that made it, which may be days off. A filter's time is compared with the
 * store's.
 */
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import type { RowFilter, RowName } from "../contract/Operator.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import * as StoreFilters from "./Filters.ts"
import { commonEvents, isRareEvent } from "./RareEvents.ts"

/** The result of a search. */
export interface Search<Row> {
  /** Up to one more than asked for. The one more says that there are more. */
  readonly found: ReadonlyArray<Row>
  /** The last delivery that was looked at. Undefined: there are no others. */
  readonly reached: string | undefined
}

/** A way to deliveries by an index: ids in its order that come before or after a given one. */
type Path = (range: ReadonlyArray<(id: Fragment) => Fragment>, order: Fragment) => Fragment

type Order = "newest" | "oldest"

type RowsOf<Row> = ReturnType<typeof Question.rowsOf<Row>>

const boundsOf = Question.rowOf(Schema.Struct({ reached: Schema.NullOr(Schema.String), looked: Schema.Finite }))
const lowestOf = Question.rowOf(Schema.Struct({ id: Schema.NullOr(Schema.String) }))
const countOf = Question.rowOf(Schema.Struct({ n: Schema.Finite }))
const countsOf = Question.rowsOf(Schema.Struct({ id: Schema.String, n: Schema.Finite }))
const namesOf = Question.rowsOf(Schema.Struct({ id: Schema.String, key: Schema.String }))

export const make = (session: StoreSession) => {
  const { dialect, reading: sql } = session
  const { ofDelivery, ofRow, received } = StoreFilters.make(dialect)
  const number = (value: number) => sql.literal(String(value))

  const ofDeliveries = (index: string | undefined, conditions: ReadonlyArray<Fragment>): Path => (range, order) =>
    sql`SELECT d.id AS id FROM deliveries d ${index === undefined ? sql.literal("") : dialect.using(index)}
      WHERE ${sql.and([...conditions, ...range.map((bound) => bound(sql`d.id`))])} ORDER BY d.id ${order}`
  const ofRows = (index: string, conditions: ReadonlyArray<Fragment>): Path => (range, order) =>
    sql`SELECT DISTINCT r.delivery_id AS id FROM delivery_rows r ${dialect.using(index)}
      WHERE ${sql.and([...conditions, ...range.map((bound) => bound(sql`r.delivery_id`))])}
      ORDER BY r.delivery_id ${order}`

  /** Counts up to `most`. */
  const count = (source: Fragment, most: number) =>
    Effect.map(
      countOf(sql`SELECT count(*) AS n FROM (SELECT 1 AS one FROM ${source} LIMIT ${number(most)}) AS c`),
      ({ n }) => n
    )

  const pathOf = Effect.fnUntraced(function*(filter: RowFilter): Effect.fn.Return<Path, SqlError | StoreUnavailable> {
    const { event, guid, id, state } = filter
    if (id !== undefined) return ofDeliveries(undefined, [sql`d.id = ${id}`])
    if (guid !== undefined) return ofDeliveries("deliveries_fingerprint", [sql`d.guid = ${guid}`])
    const ofEvent = sql`d.event = ${event} AND d.${sql.literal(isRareEvent)}`
    const byEvent = event === undefined || commonEvents.has(event)
      ? undefined
      : ofDeliveries("deliveries_event", [ofEvent])
    if (StoreFilters.isFailed(state)) {
      const index = "delivery_rows_failed_by_id"
      const rows = sql`delivery_rows r ${dialect.using(index)} WHERE ${sql.and(ofRow(filter))}`
      const deliveries = sql`deliveries d ${dialect.using("deliveries_event")} WHERE ${ofEvent}`
      const isByEvent = byEvent !== undefined && (yield* count(deliveries, some)) < (yield* count(rows, some))
      return isByEvent ? byEvent : ofRows(index, ofRow(filter))
    }
    // These indexes have another order. A few rows are sorted, and among many the newest are not far.
    if (state === "pending") {
      const index = "delivery_rows_pending"
      const rows = sql`delivery_rows r ${dialect.using(index)} WHERE ${sql.and(ofRow(filter))}`
      if ((yield* count(rows, some)) < some) {
        // Otherwise PostgreSQL would look for them among all rows, in the order asked for.
        const few = sql`(SELECT r.delivery_id AS id FROM ${rows} LIMIT ${number(some)}) AS few`
        return (range, order) =>
          sql`SELECT DISTINCT few.id AS id FROM ${few} WHERE ${
            sql.and([sql`1 = 1`, ...range.map((bound) => bound(sql`few.id`))])
          } ORDER BY few.id ${order}`
      }
    }
    return byEvent ?? ofDeliveries(undefined, [sql`1 = 1`])
  })

  /** The first id of the deliveries received in the filter's time. Undefined: there are none. */
  const floorOf = (filter: RowFilter) =>
    Effect.map(
      // With plain ids PostgreSQL would look for the lowest in their own order, through all that is older.
      lowestOf(sql`SELECT min(d.id || '') AS id FROM deliveries d
        ${dialect.using("deliveries_received")} WHERE ${received(filter)!} AND ${dialect.inTime(sql`d.id`)}`),
      ({ id }) => id ?? undefined
    )

  /** `page` selects the rows to find, among the ids of a table `picked`. `rowsOf` reads them. */
  const walk = Effect.fnUntraced(function*<Row extends { readonly id: string }>(
    filter: RowFilter,
    order: Order,
    after: string | undefined,
    page: Fragment,
    rowsOf: RowsOf<Row>,
    isEnough: (found: ReadonlyArray<Row>) => boolean,
    longest = longestSearch
  ): Effect.fn.Return<Search<Row>, SqlError | StoreUnavailable> {
    const clock = yield* Clock
    const end = clock.monotonicTimeNanosUnsafe() + longest
    const path = yield* pathOf(filter)
    const isNewest = order === "newest"
    const direction = sql.literal(isNewest ? "DESC" : "ASC")
    const furthest = sql.literal(isNewest ? "min" : "max")
    const found: Array<Row> = []
    let floor: string | undefined
    let isFloorKnown = received(filter) === undefined
    let reached = after
    for (let step = firstStep, steps = 0;; step = Math.min(longestStep, 4 * step), steps += 1) {
      // The newest are mostly recent, and finding the floor costs as much as was received in the filter's time.
      if (!isFloorKnown && (steps > 0 || !isNewest)) {
        floor = yield* floorOf(filter)
        isFloorKnown = true
        if (floor === undefined) return { found, reached: undefined }
      }
      const from = reached
      const lowest = floor
      const range = [
        ...(from === undefined ? [] : [(id: Fragment) =>
          isNewest
            ? sql`${id} < ${from}`
            : steps === 0
            ? sql`${id} >= ${from}`
            : sql`${id} > ${from}`]),
        ...(lowest === undefined ? [] : [(id: Fragment) => sql`${id} >= ${lowest}`])
      ]
      const rows = yield* sql<{ readonly id: string | null }>`WITH
        picked AS MATERIALIZED (${path(range, direction)} LIMIT ${number(step)}),
        bounds AS (SELECT ${furthest}(id) AS reached, count(*) AS looked FROM picked),
        page AS (${page})
        SELECT b.reached AS reached, b.looked AS looked, page.* FROM bounds b LEFT JOIN page ON 1 = 1`
      const { looked, reached: last } = yield* boundsOf(Effect.succeed(rows))
      found.push(...(yield* rowsOf(Effect.succeed(rows.filter(({ id }) => id !== null)))))
      const isOver = looked < step
      if (isOver || isEnough(found) || clock.monotonicTimeNanosUnsafe() > end) {
        return { found, reached: isOver ? undefined : last ?? undefined }
      }
      reached = last ?? undefined
    }
  })

  const rowsToSend = (filter: RowFilter, after: RowName | undefined): Fragment => {
    const conditions = [
      sql`d.id = p.id`,
      sql`r.delivery_id = p.id`,
      sql`d.has_payload = 1`,
      // A row that is due or under way gains nothing from being asked for again.
      sql`(r.state <> 'pending' OR (r.owner IS NULL AND r.due_at > ${dialect.now()}))`,
      ...ofDelivery(filter),
      ...ofRow(filter),
      ...(filter.among === undefined
        ? []
        : [sql`r.backend_key IN (SELECT value FROM ${dialect.strings(filter.among)})`]),
      ...(after === undefined ? [] : [sql`(r.delivery_id, r.backend_key) > (${after.id}, ${after.key})`])
    ]
    return sql`FROM picked p CROSS JOIN deliveries d CROSS JOIN delivery_rows r WHERE ${sql.and(conditions)}`
  }

  return {
    /** Deliveries before `after`, newest first. `fields` are those of `d`, with `id` among them. `rowsOf` reads them. */
    deliveries: <Row extends { readonly id: string }>(
      filter: RowFilter,
      { after, limit }: { readonly limit: number; readonly after: string | undefined },
      fields: string,
      rowsOf: RowsOf<Row>
    ) => {
      const rows = ofRow(filter)
      // A delivery has at most one row for a backend.
      const isJoined = filter.backend !== undefined
      const from = isJoined
        ? sql`FROM picked p CROSS JOIN delivery_rows r CROSS JOIN deliveries d`
        : sql`FROM picked p CROSS JOIN deliveries d`
      const conditions = [
        sql`d.id = p.id`,
        ...ofDelivery(filter),
        ...(isJoined
          ? [sql`r.delivery_id = p.id`, ...rows]
          : rows.length === 0
          ? []
          : [sql`EXISTS (SELECT 1 FROM delivery_rows r WHERE r.delivery_id = d.id AND ${sql.and(rows)})`])
      ]
      const page = sql`SELECT ${sql.literal(fields)} ${from} WHERE ${sql.and(conditions)}
        ORDER BY d.id DESC LIMIT ${number(limit + 1)}`
      return Effect.map(
        walk(filter, "newest", after, page, rowsOf, (found) => found.length > limit),
        ({ found, reached }): Search<Row> => ({
          found: found.toSorted((a, b) => a.id < b.id ? 1 : -1).slice(0, limit + 1),
          reached
        })
      )
    },

    /** Rows after `after` that can be sent again. */
    rows: (filter: RowFilter, { after, limit }: { readonly limit: number; readonly after: RowName | undefined }) => {
      const page = sql`SELECT r.delivery_id AS id, r.backend_key AS key ${rowsToSend(filter, after)}
        ORDER BY r.delivery_id, r.backend_key LIMIT ${number(limit + 1)}`
      return Effect.map(
        walk(filter, "oldest", after?.id, page, namesOf, (found) => found.length > limit),
        ({ found, reached }): Search<RowName> => ({
          found: found.toSorted(byName).slice(0, limit + 1),
          reached
        })
      )
    },

    /** How many rows can be sent again. Undefined: it takes too long to count them. */
    countRows: (filter: RowFilter) => {
      const page = sql`SELECT '' AS id, count(*) AS n ${rowsToSend(filter, undefined)}`
      return Effect.map(
        walk(filter, "oldest", undefined, page, countsOf, () => false, longestCount),
        ({ found, reached }) => reached === undefined ? found.reduce((sum, { n }) => sum + n, 0) : undefined
      )
    }
  }
}

const byName = (one: RowName, other: RowName) =>
  one.id === other.id ? (one.key < other.key ? -1 : 1) : one.id < other.id ? -1 : 1

/** Anything with fewer rows than this is rare, and looked at first. */
const some = 1_000

/** The deliveries that one statement looks at. */
const firstStep = 200
const longestStep = 10_000

/** Nanoseconds. */
const longestSearch = 2_000_000_000n
const longestCount = 1_000_000_000n
