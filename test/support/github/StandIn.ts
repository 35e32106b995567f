/** A stand-in for GitHub: a real server with the API of one App, which delivers to the App's webhook. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { listen } from "../Backend.ts"
import { serve } from "./Api.ts"
import { App, type AppOptions } from "./App.ts"

export interface StandIn {
  readonly app: App
  /** The API's address: the value of `--github-api-url`. */
  readonly url: string
}

export interface StandInOptions extends AppOptions {
  /** `/api/v3` on a GitHub Enterprise Server. */
  readonly base?: string
}

/** Listens on a free loopback port until the scope closes. */
export const startGitHub = (
  { base = "", ...options }: StandInOptions = {}
): Effect.Effect<StandIn, never, Scope.Scope> =>
  Effect.suspend(() => {
    const app = new App(options)
    return Effect.map(startApi(app, base), (url) => ({ app, url }))
  })

/** One more address of the API; an App may have several. */
export const startApi = (app: App, base = ""): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(listen(Http.createServer(serve(app, base))), (port) => `http://127.0.0.1:${port}${base}`)
