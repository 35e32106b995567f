/** A request target (`/proxy?x=1`), taken apart at its first `?`. */

/** Where the path ends: at the `?`, or at the end of all. */
export const pathEnd = (target: string): number => {
  const queryAt = target.indexOf("?")
  return queryAt < 0 ? target.length : queryAt
}

export const pathOf = (target: string): string => target.slice(0, pathEnd(target))

/** Without its `?`. */
export const queryOf = (target: string): string => target.slice(pathEnd(target) + 1)
