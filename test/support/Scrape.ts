/** Reads Prometheus's text format strictly: text that is not exactly as Prometheus writes it is an error. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: string
  /** The samples by name and labels, with labels in alphabetical order: `up{a="1",b="2"}`. */
  readonly samples: Map<string, number>
}

/** A scrape: its families, and all samples. */
export class Scrape {
  readonly families = new Map<string, Family>()
  readonly samples = new Map<string, number>()

  constructor(text: string) {
    if (text !== "" && !text.endsWith("\n")) throw new Error("the last line is incomplete")
    let help: { readonly name: string; readonly text: string } | undefined
    let family: Family | undefined
    for (const line of text.split("\n").slice(0, -1)) {
      const [, word, subject = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? []
      if (word === "HELP") {
        help = { name: subject, text: rest }
      } else if (word === "TYPE") {
        if (help?.name !== subject || this.families.has(subject)) throw new Error(`TYPE out of place: ${line}`)
        family = { name: subject, help: help.text, type: rest, samples: new Map() }
        this.families.set(subject, family)
      } else if (family === undefined) {
        throw new Error(`a sample of no family: ${line}`)
      } else {
        const [key, value] = sampleOf(line, family)
        if (this.samples.has(key)) throw new Error(`twice: ${line}`)
        family.samples.set(key, value)
        this.samples.set(key, value)
      }
    }
    for (const one of this.families.values()) checkHistogram(one)
  }

  /** The value of a sample, its labels in alphabetical order. */
  value(key: string): number {
    const value = this.samples.get(key)
    if (value === undefined) throw new Error(`no ${key} in ${Array.from(this.samples.keys()).join("\n")}`)
    return value
  }

  /** The keys of the samples that have `text` in them. */
  keysWith(text: string): ReadonlyArray<string> {
    return Array.from(this.samples.keys()).filter((key) => key.includes(text))
  }
}

const sampleLine =
  /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\[\\"n])*"(?:,(?!\})|(?=\})))+)\})? ([+-]?(?:Inf|[\d.e+-]+)|NaN)$/

const sampleOf = (line: string, family: Family): readonly [key: string, value: number] => {
  const [, name, labels, text] = sampleLine.exec(line) ?? []
  if (name === undefined || text === undefined) throw new Error(`not a sample: ${line}`)
  const suffixes = family.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""]
  if (!suffixes.some((suffix) => name === family.name + suffix)) throw new Error(`not of ${family.name}: ${line}`)
  const value = Number(text.replace("Inf", "Infinity"))
  if (Number.isNaN(value)) throw new Error(`no number: ${line}`)
  const sorted = labels?.match(/\w+="(?:[^"\\]|\\.)*"/g)?.toSorted() ?? []
  return [sorted.length === 0 ? name : `${name}{${sorted.join(",")}}`, value]
}

/** Checks that buckets grow, and that the infinite one is the count. */
const checkHistogram = ({ name, samples, type }: Family): void => {
  if (type !== "histogram") return
  const counts = new Map<string, number>()
  for (const [key, value] of samples) {
    if (!key.startsWith(`${name}_bucket`)) continue
    const series = key.replace(/,?le="[^"]*"/, "").replace("{,", "{").replace("{}", "")
    if (value < (counts.get(series) ?? 0)) throw new Error(`a bucket below the one before: ${key}`)
    counts.set(series, value)
  }
  for (const [series, count] of counts) assert.strictEqual(samples.get(series.replace("_bucket", "_count")), count)
}

/** A scrape of the current registry. */
export const scrape: Effect.Effect<Scrape> = Effect.map(PrometheusMetrics.format(), (text) => new Scrape(text))

/** Runs an effect with metrics of its own. */
export const withFreshMetrics = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideContext(effect, Context.make(Metric.MetricRegistry, new Map())))
