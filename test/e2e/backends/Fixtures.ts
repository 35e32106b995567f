import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type * as Http from "node:http"
import { createServer } from "node:http"
import { listen } from "../../support/Backend.ts"

export const MiB = 1024 * 1024

export const promise = <A>(f: () => Promise<A>) => Effect.promise(f)

/** A backend that gets requests whose bodies nobody has read. */
export const startUnread = (onRequest: Http.RequestListener) =>
  Effect.map(
    Effect.suspend(() => listen(createServer(onRequest))),
    (port) => ({ url: `http://127.0.0.1:${port}`, host: `127.0.0.1:${port}` })
  )

/** A text that differs everywhere, so that no part of it passes for another. */
export const textOf = (bytes: number): string => randomBytes(Math.ceil(bytes / 2)).toString("hex").slice(0, bytes)

/** A busy machine needs its time for a large body. */
export const patient: ReadonlyArray<string> = ["--forwarding-timeout", "60s", "--reply-deadline", "60s"]
