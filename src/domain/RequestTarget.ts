/** A request target (`/proxy?x=1`), taken apart at its first `?`. */

/** The index at which the path ends: that of the `?`, or the length of the target. */
export const pathEnd = (target: string): number => {
  const queryAt = target.indexOf("?")
  return queryAt < 0 ? target.length : queryAt
}

/** The path, without the query. */
export const pathOf = (target: string): string => target.slice(0, pathEnd(target))

/** The query, without its `?`. */
export const queryOf = (target: string): string => target.slice(pathEnd(target) + 1)
