/** One attempt at a delivery: posted to the App's webhook, and given up after GitHub's time limit. */
import * as Http from "node:http"
import { buffer } from "node:stream/consumers"
import type { Ending } from "./Attempts.ts"
import type { Delivery } from "./Delivery.ts"

/** Milliseconds. */
export const timeLimit = 10_000

export const timedOut = (limit: number): Ending => ({
  statusCode: 0,
  status: "timed out",
  duration: limit / 1_000,
  response: undefined
})

export const notConnected: Ending = {
  statusCode: 0,
  status: "failed to connect",
  duration: 0,
  response: undefined
}

export const answered = (statusCode: number, duration = 0.01): Ending => ({
  statusCode,
  status: statusCode < 400 ? "OK" : `Invalid HTTP Response: ${statusCode}`,
  duration,
  response: { headers: {}, payload: "" }
})

/** Every attempt has a connection of its own. */
export const post = async (url: string, { body, headers }: Delivery, limit: number): Promise<Ending> => {
  const begin = performance.now()
  const duration = () => Math.round((performance.now() - begin) / 10) / 100
  const signal = AbortSignal.timeout(limit)
  try {
    const response = await new Promise<Http.IncomingMessage>((resolve, reject) => {
      const request = Http.request(url, { method: "POST", headers, agent: false, signal }, resolve)
      request.on("error", reject)
      request.end(body)
    })
    const payload = (await buffer(response)).toString("utf8")
    return { ...answered(response.statusCode!, duration()), response: { headers: response.headers, payload } }
  } catch {
    return signal.aborted ? timedOut(limit) : { ...notConnected, duration: duration() }
  }
}
