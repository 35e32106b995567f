/**
 * The fields of a delivery's log lines as JSON, put together from parts that were rendered before.
 *
 * All of it is ASCII, with no value that needs an escape or a cut. Fields for which that does not hold are undefined
 * here, and `LogLine` renders them.
 *
 * This file is on the path of each delivery, and keeps the rules of `forwarding/README.md`.
 */
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"
import type { LogFields } from "../../domain/LogEntry.ts"
import { pathEnd } from "../../domain/RequestTarget.ts"
import { membersJson } from "./LogLine.ts"

const backendsJson = new WeakMap<Backend, string>()

/** The backend's field. It is the same in all of its lines. */
export const backendJson = (backend: Backend): string | undefined => {
  let json = backendsJson.get(backend)
  if (json === undefined) {
    json = asciiJson({ backend: backend.name })
    if (json !== undefined) backendsJson.set(backend, json)
  }
  return json
}

const asciiJson = (fields: LogFields): string | undefined => {
  const json = membersJson(fields)
  return Buffer.byteLength(json) === json.length ? json : undefined
}

/** `outcome` is one of our own words, so it needs no escape. */
export const answerJson = (status: number, latency: number, outcome: string): string =>
  `,"status":${status},"latency":${fraction(latency)},"outcome":"${outcome}"`

/**
 * Seconds to the microsecond, as JSON writes them. To find the shortest text for a fraction takes 0.7 µs, and its
 * microseconds as a whole number a tenth of that.
 */
const fraction = (latency: number): string => {
  const micros = Math.round(latency * 1e6)
  if (!(micros >= 1 && micros < 1e6)) return String(latency)
  const digits = String(1e6 + micros)
  let end = digits.length
  while (digits.charCodeAt(end - 1) === zero) end -= 1
  return `0.${digits.slice(1, end)}`
}

const zero = 0x30

/**
 * The fields that describe a delivery, if each value is a word. Those of GitHub's deliveries are. `JSON.stringify`, and
 * a look at what it has made, take 3 µs in place.
 */
export const deliveryJson = ({ event, guid, method, requestId, target, trace }: Delivery): string | undefined => {
  if (trace !== undefined || !isWord(requestId) || !isWord(guid) || !isWord(event)) return undefined
  if (method !== lastRequest.method || target !== lastRequest.target) {
    lastRequest = { method, target, json: asciiJson({ method, ...targetFields(target) }) }
  }
  return lastRequest.json === undefined
    ? undefined
    : `,"request-id":"${requestId}","delivery":"${guid}","event":"${event}"${lastRequest.json}`
}

const isWord = (value: string | undefined): boolean => value !== undefined && word.test(value)

const word = /^[\w-]{1,64}$/

/** Nearly all deliveries have the same method and target. */
let lastRequest: { readonly method: string; readonly target: string; readonly json: string | undefined } = {
  method: "",
  target: "",
  json: undefined
}

/** The fields with which the log shows a request target. */
export const targetFields = (target: string) => {
  const end = pathEnd(target)
  return { path: target.slice(0, end), query: target.slice(end + 1) }
}
