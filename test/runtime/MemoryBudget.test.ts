import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { make, type Reservation } from "../../src/runtime/MemoryBudget.ts"

const KiB = 1024
const MiB = 1024 * KiB

/** Reads all of `sizes`, in chunks, at once, and ends verified deliveries only when nobody can read on. */
const everyDeliveryEnds = (sizes: ReadonlyArray<number>) => {
  const capacity = 2 * MiB
  const budget = make(capacity)
  const chunk = 64 * KiB
  const runnable: Array<() => void> = []
  const verifiedOnes: Array<Reservation> = []
  let done = 0
  for (const chunks of sizes) {
    const reservation = budget.open()
    let left = chunks
    const read = () => {
      left -= 1
      const room = reservation.hold(chunk)
      if (left === 0) {
        reservation.verified()
        verifiedOnes.push(reservation)
      } else if (room) runnable.push(read)
      else reservation.wait(chunk, () => runnable.push(read))
    }
    runnable.push(read)
  }
  while (runnable.length > 0 || verifiedOnes.length > 0) {
    const next = runnable.shift()
    if (next !== undefined) next()
    else {
      verifiedOnes.shift()!.release()
      done += 1
    }
    // One goes beyond the budget; each of the others has at most the chunk that it was handed when there was no room.
    assert.isAtMost(budget.state().used, capacity + 40 * chunk + sizes.length * chunk)
  }
  assert.strictEqual(done, sizes.length)
  assert.deepStrictEqual(budget.state(), { capacity, used: 0, waiting: 0 })
}

describe("MemoryBudget", () => {
  it("charges what is held and gives it back once", () => {
    const budget = make(10 * MiB)
    const reservation = budget.open()
    assert.isTrue(reservation.hold(3 * KiB))
    assert.isTrue(reservation.hold(2 * KiB))
    assert.strictEqual(reservation.bytes, 5 * KiB)
    assert.strictEqual(budget.state().used, 5 * KiB)
    reservation.release()
    reservation.release()
    assert.strictEqual(budget.state().used, 0)
  })

  it("resumes the oldest waiter when there is room", () => {
    const budget = make(1 * MiB)
    const first = budget.open()
    first.verified()
    assert.isTrue(first.hold(MiB))
    const order: Array<string> = []
    const wait = (name: string) => {
      const reservation = budget.open()
      reservation.wait(64 * KiB, () => order.push(name))
      return reservation
    }
    wait("beyond the budget")
    wait("a")
    wait("b")
    assert.deepStrictEqual(order, ["beyond the budget"])
    first.release()
    assert.deepStrictEqual(order, ["beyond the budget", "a", "b"])
  })

  it("lets small deliveries pass large ones that wait", () => {
    const budget = make(1 * MiB)
    const busy = budget.open()
    busy.verified()
    busy.hold(MiB)
    budget.open().wait(64 * KiB, () => {})
    const order: Array<string> = []
    const large = budget.open()
    large.hold(300 * KiB)
    large.wait(64 * KiB, () => order.push("large"))
    budget.open().wait(64 * KiB, () => order.push("small"))
    busy.release()
    assert.deepStrictEqual(order, ["small", "large"])
  })

  it("unverified senders of large bodies hold at most half, and stop others of their kind only", () => {
    const budget = make(8 * MiB)
    const large = [budget.open(), budget.open()]
    assert.isTrue(large[0]!.hold(4 * MiB))
    assert.isFalse(large[1]!.hold(1 * MiB))
    assert.isTrue(budget.open().hold(200 * KiB))
    large[0]!.verified()
    let resumed = false
    large[1]!.wait(64 * KiB, () => resumed = true)
    assert.isTrue(resumed)
  })

  it("one waiter at a time goes beyond the unverified half, until it is verified", () => {
    const budget = make(8 * MiB)
    const readers = [budget.open(), budget.open(), budget.open()]
    for (const reader of readers) reader.hold(2 * MiB)
    const resumed: Array<number> = []
    readers.forEach((reader, i) => reader.wait(64 * KiB, () => resumed.push(i)))
    assert.deepStrictEqual(resumed, [0])
    readers[0]!.hold(64 * KiB)
    readers[0]!.verified()
    assert.deepStrictEqual(resumed, [0, 1])
  })

  it("waiters that release as soon as they are resumed are served one after the other, however many", () => {
    const budget = make(MiB)
    const busy = budget.open()
    busy.verified()
    busy.hold(MiB)
    budget.open().wait(1, () => {})
    let resumed = 0
    for (let n = 0; n < 20_000; n += 1) {
      const waiter = budget.open()
      waiter.verified()
      waiter.wait(1, () => {
        resumed += 1
        waiter.release()
      })
    }
    busy.release()
    assert.strictEqual(resumed, 20_000)
  })

  it("a waiter that leaves is not resumed", () => {
    const budget = make(1 * MiB)
    const busy = budget.open()
    busy.verified()
    busy.hold(MiB)
    budget.open().wait(1, () => {})
    let resumed = false
    const leave = budget.open().wait(1, () => resumed = true)
    leave()
    busy.release()
    assert.isFalse(resumed)
    assert.strictEqual(budget.state().waiting, 0)
  })

  it.each([[[10, 19, 6]], [[6, 7, 7, 16]], [[5, 10, 1, 10, 3, 7, 4]]])(
    "whoever may go beyond a limit waits for nobody who waits for it: %j",
    (sizes) => everyDeliveryEnds(sizes)
  )

  it.prop(
    "every delivery ends although all of them read at once, and the budget is exceeded by one of them at most",
    {
      sizes: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))), {
        minLength: 1,
        maxLength: 40
      })
    },
    ({ sizes }) => everyDeliveryEnds(sizes),
    { arbitrary: { runs: 500 } }
  )
})
