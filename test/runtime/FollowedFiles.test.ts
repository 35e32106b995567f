import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import * as FollowedFiles from "../../src/runtime/FollowedFiles.ts"
import { type Files, filesInMemory } from "../support/FilesInMemory.ts"

const Services = UnexpectedFailures.layer.pipe(Layer.provideMerge(Log.layerTest))

const textOf = (readings: ReadonlyArray<FollowedFiles.Reading>) =>
  readings.map((reading) => reading.kind === "content" ? Buffer.from(reading.bytes).toString() : reading.kind)

const start = Effect.fnUntraced(function*(
  files: Files,
  options: {
    readonly onChanged?: (contents: ReadonlyArray<string>) => void
    readonly fileSystem?: Layer.Layer<FileSystem.FileSystem>
  } = {}
) {
  const changes: Array<ReadonlyArray<string>> = []
  const first = yield* FollowedFiles.follow([...files.keys()], {
    mostBytes: 1024,
    changed: (readings) => {
      changes.push(textOf(readings))
      options.onChanged?.(textOf(readings))
    }
  }).pipe(Effect.provide(options.fileSystem ?? filesInMemory(files)))
  return { first: textOf(first), changes }
})

const round = TestClock.adjust("2 seconds")

describe("files that are followed", () => {
  it.effect("are told at the start, and again when one of them has changed", () =>
    Effect.gen(function*() {
      const files: Files = new Map([["/a", "1"], ["/b", "2"]])
      const { changes, first } = yield* start(files)
      assert.deepStrictEqual(first, ["1", "2"])
      yield* round
      assert.deepStrictEqual(changes, [])
      files.set("/b", "3")
      yield* round
      yield* round
      files.delete("/a")
      files.set("/b", "x".repeat(1025))
      yield* round
      assert.deepStrictEqual(changes, [["1", "3"], ["gone", "unreadable"]])
    }).pipe(Effect.provide(Services)))

  it.effect("are never seen one before a swap and the other after it", () =>
    Effect.gen(function*() {
      const files: Files = new Map([["/a", "old"], ["/b", "old"]])
      let swapAfter = Infinity
      const swapping = Layer.effect(
        FileSystem.FileSystem,
        Effect.map(FileSystem.FileSystem, (fs) => ({
          ...fs,
          readFile: (path: string) =>
            Effect.tap(fs.readFile(path), () =>
              Effect.sync(() => {
                if (--swapAfter === 0) { for (const name of files.keys()) files.set(name, "new") }
              }))
        }))
      )
      const { changes } = yield* start(files, { fileSystem: Layer.provide(swapping, filesInMemory(files)) })
      swapAfter = 1
      yield* round
      assert.deepStrictEqual(changes, [["new", "new"]])
    }).pipe(Effect.provide(Services)))

  it.effect("are followed on after a defect, which is logged", () =>
    Effect.gen(function*() {
      const files: Files = new Map([["/a", "1"]])
      const { changes } = yield* start(files, {
        onChanged: ([content]) => {
          if (content === "bad") throw new Error("no such luck")
        }
      })
      for (const content of ["bad", "good"]) {
        files.set("/a", content)
        yield* round
      }
      assert.deepStrictEqual(changes, [["bad"], ["good"]])
      const { entries } = yield* LogEntries
      assert.deepStrictEqual(entries.map(({ message }) => message), ["unexpected failure"])
      assert.match(String(entries[0]!.fields["error"]), /no such luck/)
    }).pipe(Effect.provide(Services)))

  it.effect("are looked at no more when the scope has ended", () =>
    Effect.gen(function*() {
      const files: Files = new Map([["/a", "1"]])
      const scope = yield* Scope.make()
      const { changes } = yield* Scope.provide(start(files), scope)
      yield* Scope.close(scope, Exit.void)
      files.set("/a", "2")
      yield* round
      assert.deepStrictEqual(changes, [])
    }).pipe(Effect.provide(Services)))
})
