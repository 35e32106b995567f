/**
 * The caller's side of a worker thread that has a SQLite file open.
 *
 * **Gotchas**
 *
 * A statement that was sent to the thread is carried out, even if nobody waits for it any more. A later statement comes
 * after it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { classifySqliteError, ConnectionError, SqlError, StatementTimeoutError } from "effect/sql/SqlError"
import { Worker } from "node:worker_threads"
import {
  monotonicMillis,
  type SqliteWorkerOptions,
  type WireError,
  type WireOpening,
  type WireReply,
  type WireRequest,
  type WireResult,
  type WireStatement
} from "./Messages.ts"

/** A statement with the values of all its runs, one after the other. */
export interface BulkStatement {
  readonly text: string
  /** How many values one run has. */
  readonly width: number
  /** A value of bytes may be in several chunks. */
  readonly values: ReadonlyArray<unknown>
  /** A run that writes no row fails, as `isUnwritten` says. */
  readonly writesEach?: boolean
}

/** Why something failed, as the `cause` of a `SqlError`. */
export interface SqliteCause {
  /** SQLite's result code. */
  readonly errno?: number | undefined
  /** Why the request was not done, if SQLite itself reported no error. */
  readonly refusal?: string | undefined
  /** Whether it may work the next time, without anybody's doing. */
  readonly isPassing: boolean
}

/** The most texts that are kept prepared. */
const mostTexts = 256

/** The options that all threads of a client share. */
export interface ThreadOptions extends SqliteWorkerOptions {
  /** The store's clock, which gives `store_now()` in a statement that is sent now. */
  readonly clock: () => number
  /** Milliseconds after which nobody waits for an answer any more. */
  readonly patienceForAnswers: number
}

/** One life of the worker, and the callers that wait for its replies. */
export class Thread {
  /** Succeeds with what the worker noticed when it opened the file. */
  readonly opened: Effect.Effect<WireOpening, SqlError>
  isDead = false
  /** Why the worker has ended. */
  failure: SqlError | undefined
  readonly #options: ThreadOptions
  readonly #worker: Worker
  readonly #waiting: Array<(reply: WireReply) => void> = []
  readonly #texts = new Map<string, number>()
  #lastId = 0
  /** Succeeds when the worker has let go of the file. */
  readonly exited: Effect.Effect<void>

  constructor(options: ThreadOptions) {
    this.#options = options
    const { clock: _clock, patienceForAnswers: _patience, ...workerData } = options
    const file = import.meta.url.endsWith(".ts") ? "./Worker.ts" : "./SqliteWorker.js"
    this.#worker = new Worker(new URL(file, import.meta.url), { workerData })
    this.#worker.on("message", (reply: WireReply) => {
      if ("error" in reply && reply.error.isFatal) {
        this.failure ??= errorOf(reply.error)
        this.end()
      }
      this.#waiting.shift()?.(reply)
    })
    this.#worker.on("error", (error) => this.#fail(String(error)))
    const exited = new Promise<void>((resolve) =>
      this.#worker.once("exit", () => {
        this.#fail("the thread has ended")
        resolve()
      })
    )
    this.exited = Effect.promise(() => exited)
    const first = new Promise<WireReply>((resolve) => this.#waiting.push(resolve))
    this.opened = Effect.flatMap(Effect.promise(() => first), (reply) => {
      if (!("error" in reply)) return Effect.succeed(reply)
      this.end()
      return Effect.fail(errorOf(reply.error))
    })
  }

  /** Returns the results of each statement. With `isKept`, statements stay prepared. */
  send(
    statements: ReadonlyArray<BulkStatement>,
    isAtomic: boolean,
    isKept: boolean
  ): Effect.Effect<ReadonlyArray<WireResult>, SqlError> {
    return this.#reply((resolve) => {
      // A transaction ends with the thread that it was in.
      if (this.isDead && statements[0]!.text === "ROLLBACK") {
        resolve({ results: [{ columns: [], values: [], changes: 0 }] })
        return Option.none()
      }
      if (this.isDead) return Option.some("the thread has ended")
      const request = {
        ...encode(statements.map((statement) => this.#wire(statement, isKept)), isAtomic),
        now: this.#options.clock(),
        deadline: monotonicMillis() + this.#options.patienceForAnswers
      }
      try {
        this.#worker.postMessage(request, request.bytes === undefined ? [] : [request.bytes.buffer])
      } catch (error) {
        // The message was not sent, so its texts have not arrived either.
        this.#texts.clear()
        return Option.some(String(error))
      }
      this.#waiting.push(resolve)
      return Option.none()
    })
  }

  readonly close = Effect.suspend(() => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has none
    if (!this.isDead) this.#worker.postMessage("close")
    return this.exited
  })

  #wire({ text, values, width, writesEach = false }: BulkStatement, isKept: boolean): WireStatement {
    const known = this.#texts.get(text)
    if (known !== undefined) return { id: known, text: undefined, width, values: values as Array<unknown>, writesEach }
    const id = isKept && this.#texts.size < mostTexts ? this.#lastId += 1 : undefined
    if (id !== undefined) this.#texts.set(text, id)
    return { id, text, width, values: values as Array<unknown>, writesEach }
  }

  #reply(
    ask: (resolve: (reply: WireReply) => void) => Option.Option<string>
  ): Effect.Effect<ReadonlyArray<WireResult>, SqlError> {
    return Effect.callback((resume) => {
      const refused = ask((reply) =>
        resume("error" in reply ? Effect.fail(errorOf(reply.error)) : Effect.succeed(reply.results))
      )
      if (Option.isSome(refused)) resume(Effect.fail(connectionError(refused.value)))
    })
  }

  /** Ends the worker. It finishes what it is doing now, and nothing can hasten that. */
  end(): void {
    this.isDead = true
    void this.#worker.terminate()
  }

  #fail(reason: string): void {
    this.isDead = true
    for (const resolve of this.#waiting.splice(0)) {
      resolve({
        error: {
          message: reason,
          errcode: undefined,
          refusal: undefined,
          isPassing: true,
          isExpensive: false,
          isFatal: true
        }
      })
    }
  }
}

const encode = (
  statements: ReadonlyArray<WireStatement>,
  isAtomic: boolean
): Omit<WireRequest, "now" | "deadline"> => {
  const blobs: Array<number> = []
  const found: Array<Uint8Array> = []
  let length = 0
  const wires = statements.map((wire, statement) => {
    let values: Array<unknown> | undefined
    for (let at = 0; at < wire.values.length; at += 1) {
      const value = wire.values[at]
      if (!(value instanceof Uint8Array || Array.isArray(value))) continue
      const chunks: ReadonlyArray<Uint8Array> = Array.isArray(value) ? value : [value]
      const size = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0)
      values ??= wire.values.slice()
      values[at] = null
      blobs.push(statement, at, size)
      found.push(...chunks)
      length += size
    }
    return values === undefined ? wire : { ...wire, values }
  })
  if (found.length === 0) return { isAtomic, statements, blobs, bytes: undefined }
  const bytes = new Uint8Array(length)
  let at = 0
  for (const value of found) {
    bytes.set(value, at)
    at += value.byteLength
  }
  return { isAtomic, statements: wires, blobs, bytes }
}

const errorOf = ({ errcode, isExpensive, isFatal, isPassing, message, refusal }: WireError): SqlError => {
  if (isFatal && errcode === undefined && refusal === undefined) return connectionError(message)
  const cause: SqliteCause = Object.assign(new Error(message), { errno: errcode, refusal, isPassing })
  return new SqlError({
    reason: isExpensive
      ? new StatementTimeoutError({ cause, message, operation: "execute" })
      : classifySqliteError(cause, { message, operation: "execute" })
  })
}

/** The error of a connection that is lost, or that can't be made now. */
export const connectionError = (reason: string): SqlError => {
  const cause: SqliteCause = Object.assign(new Error(reason), { isPassing: true })
  return new SqlError({ reason: new ConnectionError({ cause, message: reason, operation: "execute" }) })
}
