/**
 * Who is under way: members come and go with every delivery.
 *
 * With three `Set`s in its place, 13 % of all that was allocated lived on until the next full collection (with this, 0.2 %),
 * and each collection of young objects took 20 ms instead of 2: a `Set` copies its table over and over, and tables that have
 * grown old seem to keep what was in them.
 */

/** What may be in one set. */
export interface Member {
  /** The set's own: where the member stands. */
  place: number
}

export class LiveSet<A extends Member> implements Iterable<A> {
  readonly #members: Array<A> = []

  get size(): number {
    return this.#members.length
  }

  /** Takes in one who isn't in it. */
  add(member: A): void {
    member.place = this.#members.length
    this.#members.push(member)
  }

  /** Idempotent. */
  delete(member: A): void {
    if (this.#members[member.place] !== member) return
    const last = this.#members.pop()!
    if (last === member) return
    last.place = member.place
    this.#members[last.place] = last
  }

  /** Whoever is in it now, in no particular order; members may leave meanwhile. */
  [Symbol.iterator](): Iterator<A> {
    return [...this.#members].values()
  }
}
