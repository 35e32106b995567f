/** Answers of the API that are none: limits, faults, and what stands between. */
import type * as Http from "node:http"
import { problem } from "./Answers.ts"

export type Trouble = (response: Http.ServerResponse) => void

const json = (response: Http.ServerResponse, status: number, message: string, headers: Http.OutgoingHttpHeaders = {}) =>
  response.writeHead(status, { ...headers, "Content-Type": "application/json; charset=utf-8" })
    .end(problem(status, message))

/** The App has used up its hour: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api */
export const primaryLimit = (resetsAt: number): Trouble => (response) =>
  json(response, 403, "API rate limit exceeded for app ID 79929171.", {
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": String(Math.ceil(resetsAt / 1_000))
  })

/** Too much in too short a time. */
export const secondaryLimit = (status: 403 | 429, retryAfterSeconds: number): Trouble => (response) =>
  json(
    response,
    status,
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    { "Retry-After": String(retryAfterSeconds) }
  )

export const refusal = (status: 400 | 401 | 403 | 404 | 422, message: string): Trouble => (response) =>
  json(response, status, message)

export const serverError = (status: 500 | 502 | 503 = 500): Trouble => (response) =>
  json(response, status, "Server Error")

/** The page of a proxy, a portal, or a host that is not the API. */
export const html = (status = 200): Trouble => (response) =>
  response.writeHead(status, { "Content-Type": "text/html; charset=utf-8" }).end(
    "<!DOCTYPE html><html><head><title>Unicorn!</title></head><body>No server is available.</body></html>"
  )

export const hangUp: Trouble = (response) => response.destroy()

/** It takes the request, and says nothing. */
export const silence: Trouble = () => {}
