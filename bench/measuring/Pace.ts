/** How much is measured, in a full or a quick run. */
import type { Options } from "../command/Options.ts"

export interface Pace {
  /** How often the contenders are started anew. */
  readonly starts: number
  /** The slots of each contender after each start. */
  readonly turns: number
  /** Milliseconds. */
  readonly slot: number
  /** Milliseconds. */
  readonly warmUp: number
}

/**
 * The pace of a loop. A closed loop is measured in CPU time, a rate by the clock. Builds are compared in more slots and
 * fewer scenarios, because they may differ by only a few percent.
 */
export const pace = ({ builds, quick, starts }: Options, loop: "closed" | "open" | "store"): Pace => {
  const { [quick ? "quick" : "full"]: own } = (builds.length > 1 ? comparisons : surveys)[loop]
  return { ...own, starts: starts ?? own.starts }
}

const open = {
  full: { starts: 2, turns: 3, slot: 3_000, warmUp: 3_000 },
  quick: { starts: 1, turns: 2, slot: 1_500, warmUp: 1_000 }
}

const surveys = {
  closed: {
    full: { starts: 4, turns: 14, slot: 100, warmUp: 1_000 },
    quick: { starts: 2, turns: 8, slot: 80, warmUp: 500 }
  },
  store: {
    full: { starts: 4, turns: 12, slot: 250, warmUp: 1_500 },
    quick: { starts: 2, turns: 6, slot: 150, warmUp: 500 }
  },
  open
}

const comparisons = {
  closed: {
    full: { starts: 6, turns: 25, slot: 100, warmUp: 1_500 },
    quick: { starts: 3, turns: 12, slot: 100, warmUp: 800 }
  },
  store: {
    full: { starts: 5, turns: 15, slot: 250, warmUp: 1_500 },
    quick: { starts: 3, turns: 8, slot: 200, warmUp: 800 }
  },
  open
}

/** The pace in words, for the reader of a report. */
export const paceText = ({ slot, starts, turns }: Pace): string =>
  `${starts} ${starts === 1 ? "start" : "starts"} of ${turns} slots of about ${
    slot < 1_000 ? `${slot} ms` : `${slot / 1_000} s`
  }`
