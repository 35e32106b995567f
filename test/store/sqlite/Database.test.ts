/**
 * The troubles that a store in a SQLite file survives: of its disk, of a file that is removed, of a death while the
 * file is made, and of clocks.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { TestClock } from "effect/testing"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as pause } from "node:timers/promises"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import { StoreUnusable } from "../../../src/store/contract/Unavailable.ts"
import { keyOf, newDelivery, opened } from "../../support/StoreDatabases.ts"
import { hours, keep } from "../contract/Subject.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "sprayproxy-sqlite-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const fileIn = Effect.map(directory, (path) => join(path, "deliveries.db"))

const open = (path: string, owner = "one") => opened(SqlDeliveryStore.layer({ kind: "sqlite", path }, { owner }))

type Store = Effect.Success<ReturnType<typeof open>>

const write = (store: Store, ...deliveries: ReadonlyArray<ReturnType<typeof newDelivery>>) =>
  store.write({ deliveries, settlements: [] })

const reasonFor = (store: Store) => Effect.map(Effect.flip(write(store, newDelivery())), ({ reason }) => reason)

const listed = (store: Store) => Effect.map(store.list({}, { limit: 100 }), ({ deliveries }) => deliveries.length)

/** A store that was used, and whose process was killed: a row of each delivery is under way. */
const used = (path: string, count = 1) =>
  Effect.scoped(Effect.gen(function*() {
    const store = yield* open(path, "before")
    yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
    yield* write(store, ...Array.from({ length: count }, () => newDelivery()))
  }))

/** Checks that writes fail and that the backends can be read. */
const readable = Effect.fnUntraced(function*(store: Store, reason: string) {
  assert.strictEqual(yield* reasonFor(store), reason)
  assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), [keyOf("a")])
  assert.strictEqual(yield* listed(store), 1)
})

/** The test's clock warns of who waits for it a second, which a slow disk may take: not once it has been set. */
const quietClock = TestClock.adjust(0)

const eventually = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("100 millis"), times: 300 })

describe("a start without its store", () => {
  it.effect("serves while the file can't be opened, says why, and uses it when it can", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      yield* used(path)
      Fs.rmSync(`${path}-lock`)
      Fs.mkdirSync(`${path}-lock`)
      const store = yield* open(path)
      assert.strictEqual(yield* reasonFor(store), "the file can't be opened")
      Fs.rmdirSync(`${path}-lock`)
      // Each attempt begins a thread.
      assert.strictEqual(yield* reasonFor(store), "the file can't be opened")
      yield* TestClock.adjust("1 second")
      yield* write(store, newDelivery())
      assert.strictEqual((yield* store.claim(keyOf("a"), 10, "oldest")).length, 1)
      assert.strictEqual(yield* listed(store), 2)
    }))

  it.effect("stays without a file that turns out to be something else, and says so once", () =>
    Effect.gen(function*() {
      yield* quietClock
      const path = yield* fileIn
      Fs.mkdirSync(`${path}-lock`)
      const store = yield* open(path)
      yield* reasonFor(store)
      Fs.writeFileSync(path, "something else\n".repeat(100))
      for (let attempt = 0; attempt < 3; attempt += 1) {
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* reasonFor(store), "it is not a SQLite database")
      }
      const { entries } = yield* LogEntries
      assert.deepStrictEqual(entries.map(({ level, message }) => [level, message]), [
        ["error", "the store can't be used: it is not a SQLite database"]
      ])
      Fs.rmSync(path)
      Fs.rmdirSync(`${path}-lock`)
      yield* TestClock.adjust("1 second")
      yield* write(store, newDelivery())
    }).pipe(Effect.provide(Log.layerTest)))
})

/** Why no disk of a test's own can be made; undefined: it can. */
const mountUnavailable = (() => {
  const path = Fs.mkdtempSync(join(tmpdir(), "sprayproxy-mount-"))
  try {
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", path], { stdio: "ignore" })
    execFileSync("umount", [path])
    return undefined
  } catch {
    return "a disk of its own (skipped: nothing may be mounted here)"
  } finally {
    Fs.rmdirSync(path)
  }
})()

const fill = (path: string) => {
  const file = Fs.openSync(join(path, "filling"), "w")
  try {
    while (true) Fs.writeSync(file, Buffer.alloc(4_096))
  } catch (error) {
    assert.strictEqual((error as NodeJS.ErrnoException).code, "ENOSPC")
  } finally {
    Fs.closeSync(file)
  }
}

describe.skipIf(mountUnavailable !== undefined)(mountUnavailable ?? "a start on a disk", () => {
  const disk = Effect.acquireRelease(
    Effect.sync(() => {
      const path = Fs.mkdtempSync(join(tmpdir(), "sprayproxy-disk-"))
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", path])
      return path
    }),
    (path) =>
      Effect.sync(() => {
        execFileSync("umount", ["--lazy", path])
        Fs.rmdirSync(path)
      })
  )

  it.live.each(["with", "without"])(
    "that is full is without the store, %s a file, until there is room",
    (has) =>
      Effect.gen(function*() {
        const path = yield* disk
        const file = join(path, "deliveries.db")
        if (has === "with") yield* used(file)
        fill(path)
        const store = yield* open(file)
        assert.match(yield* reasonFor(store), /^the disk (?:is full|failed)$/)
        assert.deepStrictEqual(Fs.readdirSync(path).filter((name) => name.includes("-new")), [])
        Fs.rmSync(join(path, "filling"))
        yield* eventually(write(store, newDelivery()))
        // Those of the process before are due again, with nobody's help.
        if (has === "with") {
          yield* eventually(Effect.filterOrFail(store.claim(keyOf("a"), 10, "oldest"), (rows) => rows.length === 1))
        }
      })
  )

  it.live("that is read-only is without the store until it can be written to", () =>
    Effect.gen(function*() {
      const path = yield* disk
      const file = join(path, "deliveries.db")
      yield* used(file)
      execFileSync("mount", ["-o", "remount,ro", path])
      const store = yield* open(file)
      yield* readable(store, "its directory is read-only")
      execFileSync("mount", ["-o", "remount,rw", path])
      yield* eventually(write(store, newDelivery()))
    }))
})

const nobody = 65_534

/** Root may do anything: another user is needed. */
const isRoot = process.getuid?.() === 0

const asNobody = Effect.acquireRelease(
  Effect.sync(() => {
    if (isRoot) process.seteuid!(nobody)
  }),
  () => Effect.sync(() => isRoot && process.seteuid!(0))
)

describe("a file that this user", () => {
  it.live.each([["only read", 0o400], ["not even read", 0o000]] as const)(
    "may %s is done without, until it may be written to",
    ([, mode]) =>
      Effect.gen(function*() {
        const path = yield* fileIn
        yield* used(path)
        if (isRoot) { for (const name of [join(path, ".."), path, `${path}-lock`]) Fs.chownSync(name, nobody, nobody) }
        yield* asNobody
        Fs.chmodSync(path, mode)
        const store = yield* open(path)
        const reason = "its directory or file is not accessible to this user"
        if (mode === 0o400) yield* readable(store, reason)
        else assert.strictEqual(yield* reasonFor(store), reason)
        Fs.chmodSync(path, 0o600)
        yield* eventually(write(store, newDelivery()))
      })
  )

  it.effect.skipIf(!isRoot)(
    "has restored for another warns where others may read it, and is used (only as root)",
    () =>
      Effect.gen(function*() {
        yield* quietClock
        const path = yield* fileIn
        yield* used(path)
        Fs.chmodSync(path, 0o666)
        for (const name of [join(path, ".."), `${path}-lock`]) Fs.chownSync(name, nobody, nobody)
        yield* asNobody
        const store = yield* open(path)
        yield* write(store, newDelivery())
        const { entries } = yield* LogEntries
        assert.deepStrictEqual(entries.map(({ level, message }) => [level, message]), [
          ["warn", "others may read or write the store's deliveries.db, and its mode can't be changed: chmod 600"]
        ])
      }).pipe(Effect.provide(Log.layerTest))
  )
})

describe("a file that is open", () => {
  it.effect("and is removed takes nothing more: a new one does, and that is told", () =>
    Effect.gen(function*() {
      yield* quietClock
      const path = yield* fileIn
      const store = yield* open(path)
      yield* write(store, newDelivery())
      Fs.rmSync(path)
      assert.strictEqual(yield* reasonFor(store), "its file was removed or replaced")
      yield* write(store, newDelivery())
      assert.strictEqual(yield* listed(store), 1)
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
      const { entries } = yield* LogEntries
      assert.deepStrictEqual(entries.map(({ level, message }) => [level, message]), [
        ["error", "the store was opened anew: its file was removed or replaced"]
      ])
    }).pipe(Effect.provide(Log.layerTest)))

  it.effect("and is replaced takes nothing more: what took its place does", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      const other = yield* fileIn
      yield* used(other, 3)
      const store = yield* open(path)
      Fs.rmSync(path)
      Fs.copyFileSync(other, path)
      assert.strictEqual(yield* reasonFor(store), "its file was removed or replaced")
      yield* write(store, newDelivery())
      assert.strictEqual(yield* listed(store), 4)
    }))

  it.effect("is made anew only where its directory is", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      const store = yield* open(path)
      const aside = `${join(path, "..")}-aside`
      Fs.renameSync(join(path, ".."), aside)
      assert.strictEqual(yield* reasonFor(store), "its file was removed or replaced")
      assert.strictEqual(yield* reasonFor(store), "its directory does not exist")
      Fs.renameSync(aside, join(path, ".."))
      yield* TestClock.adjust("1 second")
      yield* write(store, newDelivery())
    }))
})

/** As the file and its journal lie there when a process dies in a transaction that has reached the disk. */
const interrupted = (path: string, applicationId: number) => {
  const making = `${path}-making`
  const db = new DatabaseSync(making)
  db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA cache_size = 1; BEGIN;
    CREATE TABLE things (bytes blob); CREATE TABLE others (bytes blob)`)
  const insert = db.prepare("INSERT INTO things VALUES (zeroblob(3000))")
  for (let row = 0; row < 100; row += 1) insert.run()
  for (const ending of ["", "-journal"]) Fs.copyFileSync(`${making}${ending}`, `${path}${ending}`)
  db.close()
  for (const ending of ["", "-journal"]) Fs.rmSync(`${making}${ending}`, { force: true })
  assert.isAbove(Fs.statSync(`${path}-journal`).size, 512)
}

describe("a process that dies at its very first start", () => {
  const script = `import { openFile } from ${
    JSON.stringify(new URL("../../../src/store/sqlite/File.ts", import.meta.url).href)
  }
    process.stdout.write("begun")
    openFile({ path: process.argv[1], applicationId: 0x73707279, checkedBytes: 1e9, patience: 0 })
    setInterval(() => {}, 1_000)`

  it.live("at whatever instant leaves a file that the next start can use, or none", () =>
    Effect.gen(function*() {
      for (let kill = 0; kill < 36; kill += 1) {
        const path = yield* fileIn
        yield* Effect.promise(async () => {
          const child = spawn(process.execPath, ["--input-type=module", "--eval", script, path], {
            stdio: ["ignore", "pipe", "inherit"]
          })
          const exit = once(child, "exit")
          await once(child.stdout, "data")
          await pause(kill * 0.7)
          child.kill("SIGKILL")
          await exit
        })
        yield* used(path)
        assert.deepStrictEqual(Fs.readdirSync(join(path, "..")), ["deliveries.db", "deliveries.db-lock"])
      }
    }), 120_000)

  it.effect("is cleaned up after", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      for (const ending of ["-new", "-new-journal", "-new-wal", "-wal", "-shm", "-journal"]) {
        Fs.writeFileSync(`${path}${ending}`, "left behind")
      }
      yield* used(path)
      assert.deepStrictEqual(Fs.readdirSync(join(path, "..")), ["deliveries.db", "deliveries.db-lock"])
    }))

  it.effect("while it changes the file in place, as earlier releases did, is made good", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      interrupted(path, 0x73707279)
      yield* used(path)
      const store = yield* open(path)
      assert.strictEqual(yield* listed(store), 1)
    }))

  it.effect("leaves another program's file and journal alone", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      interrupted(path, 1)
      const before = ["", "-journal"].map((ending) => Fs.readFileSync(`${path}${ending}`))
      const error = yield* Effect.flip(
        Effect.scoped(Effect.provide(Effect.void, SqlDeliveryStore.layer({ kind: "sqlite", path }, { owner: "one" })))
      )
      assert.instanceOf(error, StoreUnusable)
      for (const [at, ending] of ["", "-journal"].entries()) {
        assert.isTrue(Fs.readFileSync(`${path}${ending}`).equals(before[at]!))
      }
    }))
})

describe("a large store", () => {
  it.effect("is not read from end to end at its start, and gives back all that was under way", () =>
    Effect.gen(function*() {
      const path = yield* fileIn
      yield* used(path, 2_500)
      const filling = new DatabaseSync(path)
      filling.exec("CREATE TABLE filling (bytes blob); INSERT INTO filling VALUES (zeroblob(50000000))")
      filling.close()
      // In what is only there to be large.
      const file = Fs.openSync(path, "r+")
      Fs.writeSync(file, Buffer.alloc(100_000, 0xff), 0, 100_000, 40_000_000)
      Fs.closeSync(file)
      const store = yield* open(path)
      assert.strictEqual((yield* store.claim(keyOf("a"), 5_000, "oldest")).length, 2_500)
    }))
})

const setBack = (millis: number) =>
  Effect.flatMap(Effect.clockWith((clock) => clock.currentTimeMillis), (now) => TestClock.setTime(now - millis))

describe("while a store is closed", () => {
  const retried = Effect.fnUntraced(function*(path: string) {
    const delivery = newDelivery()
    yield* Effect.scoped(Effect.gen(function*() {
      const store = yield* open(path)
      yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: hours(1) }, 10)
      yield* write(store, delivery)
      const become = { retryIn: 5_000 }
      yield* store.write({
        deliveries: [],
        settlements: [{ n: 1, id: delivery.id, key: keyOf("a"), attempt: undefined, become }]
      })
    }))
  })
  it.effect("its clock may be set back: what is due in seconds is due in seconds, and nobody's age changes", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(hours(1_000))
      const path = yield* fileIn
      yield* retried(path)
      yield* setBack(hours(1))
      const store = yield* open(path, "two")
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* store.due([keyOf("a")]), [])
      yield* TestClock.adjust("2 seconds")
      const [claimed] = yield* store.claim(keyOf("a"), 10, "oldest")
      assert.isBelow(claimed!.age, 10_000)
      const [backend] = yield* store.backends
      assert.isBelow(Math.abs(backend!.expiresIn! - hours(1)), 10_000)
    }))

  it.effect("after a crash, days may pass: what came just before it is no older for them", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(hours(1_000))
      const path = yield* fileIn
      const left = `${path}-left`
      const store = yield* open(path)
      yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: hours(1) }, 10)
      yield* write(store, newDelivery())
      yield* TestClock.adjust("2 seconds")
      yield* write(store, newDelivery())
      for (const ending of ["", "-wal"]) Fs.copyFileSync(`${path}${ending}`, `${left}${ending}`)
      yield* TestClock.adjust(hours(96))
      const next = yield* open(left, "two")
      const claimed = yield* next.claim(keyOf("a"), 10, "oldest")
      assert.strictEqual(claimed.length, 2)
      for (const { age } of claimed) assert.isBelow(age, 10_000)
    }))

  it.effect("days may pass, or be skipped by its clock, more than once: nothing is given up for it", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(hours(1_000))
      const path = yield* fileIn
      yield* retried(path)
      for (const owner of ["two", "three"]) {
        yield* TestClock.adjust(hours(96))
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* open(path, owner)
          yield* store.prune({ ...keep, maxAge: hours(72) }, 100)
          const [claimed] = yield* store.claim(keyOf("a"), 10, "oldest")
          assert.isBelow(claimed!.age, 10_000)
          const [backend] = yield* store.backends
          assert.isBelow(Math.abs(backend!.expiresIn! - hours(1)), 10_000)
        }))
      }
      // While it is open, time is what it is.
      const store = yield* open(path, "four")
      yield* TestClock.adjust(hours(73))
      yield* store.prune({ ...keep, maxAge: hours(72) }, 100)
      assert.deepStrictEqual(yield* store.claim(keyOf("a"), 10, "oldest"), [])
      assert.deepStrictEqual(yield* store.backends, [])
    }))
})
