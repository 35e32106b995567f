/**
 * The table on stdout. A line is written for good when its row and all rows above it are done. On a terminal the other
 * rows follow below, and are written anew with every change.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { isDone, type Row } from "./Row.ts"
import { rowLine, tableWidth } from "./Table.ts"

export class Screen extends Context.Service<Screen, {
  /** Rows are only added, and change only until they are done. */
  readonly show: (rows: ReadonlyArray<Row>) => Effect.Effect<void>
  readonly print: (text: string) => Effect.Effect<void>
}>()("sprayproxy/demo/Screen") {
  static readonly layer = Layer.sync(Screen, () => {
    const { stdout } = process
    let rows: ReadonlyArray<Row> = []
    let finished = 0
    let openLines = 0

    const draw = (text: string) => {
      const columns = stdout.isTTY ? stdout.columns : 100
      let drawn = openLines === 0 ? text : `\u001b[${openLines}A\r\u001b[J${text}`
      for (; finished < rows.length && isDone(rows[finished]!); finished++) {
        drawn += `${rowLine(rows[finished]!, columns)}\n`
      }
      // Above the top of the screen, or in lines that wrap, the cursor would lose its place.
      const isLive = stdout.isTTY && columns >= tableWidth
      const open = isLive ? rows.slice(finished).slice(-Math.max(1, stdout.rows - 1)) : []
      openLines = open.length
      for (const row of open) drawn += `${rowLine(row, columns)}\n`
      if (drawn !== "") stdout.write(drawn)
    }

    return Screen.of({
      show: (latest) =>
        Effect.sync(() => {
          rows = latest
          draw("")
        }),
      print: (text) => Effect.sync(() => draw(`${text}\n`))
    })
  })
}
