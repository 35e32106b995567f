/**
 * How many deliveries or rows one request is for, and which rows. The command line's help names these values, so this
 * file is loaded at each start of the server, and is small.
 */
import type { RowState } from "../store/contract/Row.ts"

/** The most deliveries on a page, and the most rows that one request redelivers. */
export const highestLimit = 500

/** The deliveries on a page if no limit is given. */
export const usualLimit = 50

/** The state of the rows that are redelivered in bulk if no state is given. */
export const redeliveredState = "dead" satisfies RowState
