/** The schema that this program knows. */
export const newestSchema = 5

/** Why a store of this schema can't be used. */
export const tooNew = (schema: number): string =>
  `its schema ${schema} is newer than this program, which knows ${newestSchema}`
