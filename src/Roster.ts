/**
 * Who is under way: members come and go with every delivery.
 *
 * A `Set` that lives as long as the process keeps what was in it from the garbage collector: it grows by making new tables,
 * and the old ones, once they are old enough, hold on to all that was in them until the next full collection.
 */

/** What may be in one roster. */
export interface Member {
  /** The roster's own: where the member stands. */
  place: number
}

export class Roster<A extends Member> implements Iterable<A> {
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
