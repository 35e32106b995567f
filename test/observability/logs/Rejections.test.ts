import { describe, expect, it } from "@effect/vitest"
import * as Result from "effect/Result"
import type { AttemptReport } from "../../../src/domain/AttemptReport.ts"
import { parse } from "../../../src/domain/Backend.ts"
import { Body } from "../../../src/domain/Body.ts"
import type { Delivery } from "../../../src/domain/Delivery.ts"
import { Rejections } from "../../../src/observability/logs/Rejections.ts"

const backend = Result.getOrThrow(parse("https://pac.example.com", "static"))
const other = Result.getOrThrow(parse("https://pac.other.example.com", "static"))

const deliveryOf = (contentType: string): Delivery => ({
  requestId: "request",
  guid: "guid",
  event: "push",
  method: "POST",
  target: "/proxy",
  forwardedTarget: "/",
  headers: ["X-GitHub-Event", "push", "Content-Type", contentType],
  body: new Body([Buffer.from("{}")], 2)
})
const json = deliveryOf("application/json")
const form = deliveryOf("application/x-www-form-urlencoded; charset=utf-8")

const reportOf = (outcome: AttemptReport["outcome"], status: number): AttemptReport => ({
  outcome,
  status,
  error: undefined,
  answer: undefined,
  latency: 1,
  requests: 1
})
const rejected = reportOf("rejected", 400)
const delivered = reportOf("delivered", 202)

const warnings = (rejections: Rejections, count: number, delivery = json, report = rejected, to = backend) =>
  Array.from({ length: count }, () => rejections.warning(delivery, to, report)).flatMap((warning) => warning ?? [])

describe("a warning", () => {
  it("is due once when a backend has answered 400 to ten deliveries in a row", () => {
    const rejections = new Rejections()
    expect(warnings(rejections, 9)).toEqual([])
    expect(warnings(rejections, 9, json, rejected, other)).toEqual([])
    expect(warnings(rejections, 1)).toEqual([expect.stringContaining("in a row")])
    expect(warnings(rejections, 100)).toEqual([])
  })

  it("is not due while a backend takes any of them, and due again when it has", () => {
    const rejections = new Rejections()
    for (let round = 0; round < 3; round++) {
      expect(warnings(rejections, 9)).toEqual([])
      expect(warnings(rejections, 1, json, delivered)).toEqual([])
    }
    expect(warnings(rejections, 10)).toHaveLength(1)
    expect(warnings(rejections, 1, json, delivered)).toEqual([])
    expect(warnings(rejections, 10)).toHaveLength(1)
  })

  it("is due once when forms are rejected, which say nothing of the backend", () => {
    const rejections = new Rejections()
    expect(warnings(rejections, 100, form)).toEqual([expect.stringContaining("content type application/json")])
    expect(warnings(rejections, 9)).toEqual([])
  })

  it("is not due for what is too large, for failures, or for forms that are taken", () => {
    const rejections = new Rejections()
    expect(warnings(rejections, 20, json, reportOf("rejected", 413))).toEqual([])
    expect(warnings(rejections, 20, json, reportOf("failed", 400))).toEqual([])
    expect(warnings(rejections, 20, form, delivered)).toEqual([])
  })
})
