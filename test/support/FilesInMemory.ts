/**
 * Files that a test changes while they are followed. Looking at them takes no time, so the `TestClock` alone decides
 * when.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as PlatformError from "effect/PlatformError"

export type Files = Map<string, string | Uint8Array>

export const filesInMemory = (files: Files) => {
  const bytesOf = (path: string, method: string) =>
    Effect.suspend(() => {
      const content = files.get(path)
      return content === undefined
        ? Effect.fail(
          PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method, pathOrDescriptor: path })
        )
        : Effect.succeed(Buffer.from(content))
    })
  return FileSystem.layerNoop({
    readFile: (path) => bytesOf(path, "readFile"),
    stat: (path) =>
      Effect.map(
        bytesOf(path, "stat"),
        (bytes) => ({ type: "File", size: ByteSize.bytes(bytes.length) }) as FileSystem.File.Info
      )
  })
}
