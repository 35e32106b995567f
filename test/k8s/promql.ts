/** Finds the names in a PromQL expression, with Prometheus's own grammar. */
import { parser } from "@prometheus-io/lezer-promql"

interface Matcher {
  readonly label: string
  readonly operator: string
  readonly value: string
}

export interface Named {
  readonly metrics: ReadonlyArray<string>
  readonly matchers: ReadonlyArray<Matcher>
  /** Where the expression is none; empty when it is one. */
  readonly errors: ReadonlyArray<string>
}

export const namedIn = (expression: string): Named => {
  const metrics: Array<string> = []
  const matchers: Array<Matcher> = []
  const errors: Array<string> = []
  parser.parse(expression).iterate({
    enter: ({ from, node, to, type }) => {
      const text = expression.slice(from, to)
      if (type.isError) errors.push(`${from}: ${text}`)
      if (type.name === "Identifier" && node.parent?.type.name === "VectorSelector") metrics.push(text)
      if (type.name !== "UnquotedLabelMatcher") return
      const [, label = "", operator = "", value = ""] = /^(\w+)\s*(=~|!~|!=|=)\s*"(.*)"$/.exec(text) ?? []
      matchers.push({ label, operator, value })
    }
  })
  return { metrics, matchers, errors }
}
