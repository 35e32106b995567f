import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parse, stringify } from "yaml"
import { metricNames, recoveryMetricNames, storeMetricNames } from "../../src/observability/metrics/Names.ts"
import { find, type KubernetesObject, kustomize, render, root } from "./kustomize.ts"
import type { PrometheusRule, Rule } from "./objects.ts"
import { namedIn } from "./promql.ts"

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly datasource?: { readonly uid: string }
  readonly gridPos: Readonly<Record<"x" | "y" | "w" | "h", number>>
  /** Of a row that is closed at first. */
  readonly panels?: ReadonlyArray<Panel>
  readonly targets?: ReadonlyArray<{ readonly refId: string; readonly expr: string }>
}

interface Dashboard {
  readonly uid: string
  readonly panels: ReadonlyArray<Panel>
  readonly templating: {
    readonly list: ReadonlyArray<{ readonly name: string; readonly type: string; readonly definition?: string }>
  }
}

interface RuleTests {
  readonly tests: ReadonlyArray<{
    readonly alert_rule_test: ReadonlyArray<{ readonly alertname: string; readonly exp_alerts: ReadonlyArray<unknown> }>
  }>
}

const ruleTests = ["alerts.promtool.yaml", "alerts-over-days.promtool.yaml", "alerts-recovery.promtool.yaml"]

/** Metrics of others: Prometheus itself, and cert-manager in its own overlay. */
const foreign = ["up", "certmanager_certificate_expiration_timestamp_seconds"]

/** Labels that Prometheus or the operator adds. */
const addedLabels = new Set(["namespace", "pod", "job", "le"])

const labels: Readonly<Record<string, ReadonlyArray<string>>> = {
  answer: ["proxied", "accepted", "forwarding", "failed", "refused"],
  pass: ["failures", "full"],
  result: ["delivered", "refused", "failed", "unanswered"],
  outcome: ["delivered", "rejected", "failed", "unreachable", "broken off", "timed out"],
  // The refusals' own words, where they are made.
  reason: [
    ...new Set(sources().flatMap((source) => [...source.matchAll(/"([a-z][a-z ]+)"/g)].map(([, word]) => word!)))
  ]
}

function sources(): ReadonlyArray<string> {
  return readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(join(root, "src", file), "utf8"))
}

const ownNames = [...metricNames, ...storeMetricNames, ...recoveryMetricNames]

const metricOf = (series: string) => ownNames.includes(series) ? series : series.replace(/_(bucket|sum|count)$/, "")

const checkExpression = (expression: string) => {
  const { errors, matchers, metrics } = namedIn(expression)
  assert.deepStrictEqual(errors, [], expression)
  assert.isNotEmpty(metrics, expression)
  for (const metric of metrics) assert.include([...ownNames, ...foreign], metricOf(metric))
  for (const { label, operator, value } of matchers) {
    if (value.startsWith("$") || addedLabels.has(label)) continue
    const known = labels[label]
    if (known === undefined) {
      assert.include(["host", "name"], label, expression)
      continue
    }
    const values = operator.endsWith("~") ? value.split("|") : [value]
    for (const wanted of values) {
      const pattern = operator.endsWith("~") ? new RegExp(`^(?:${wanted})$`) : wanted
      assert.isTrue(
        known.some((word) => typeof pattern === "string" ? word === pattern : pattern.test(word)),
        `${label}: ${wanted}`
      )
    }
  }
}

const rules = () =>
  render("cert-manager, durable-sqlite, recovery")
    .filter((object): object is PrometheusRule => object.kind === "PrometheusRule")
    .flatMap(({ spec }) => spec.groups)

const alerts = (): ReadonlyArray<Rule> => rules().flatMap((group) => group.rules)

const promtool = () => {
  const found = spawnSync("promtool", ["--version"]).status === 0
  if (!found) {
    console.warn(
      "SKIPPED: the alerts are not tested, because promtool is not installed (Debian's package is prometheus)"
    )
  }
  return found
}

describe.skipIf(kustomize() === undefined)("the alerts", () => {
  it("name metrics and label values that exist", () => {
    assert.isAtLeast(alerts().length, 8)
    for (const { expr } of alerts()) checkExpression(expr)
  })

  it("ask for the store's metrics only where there is a store, but for what a store makes pointless", () => {
    for (const target of ["cert-manager", "openshift"] as const) {
      const base = render(target).filter((object): object is PrometheusRule => object.kind === "PrometheusRule")
      const asking = base.flatMap(({ spec }) => spec.groups).flatMap((group) => group.rules).filter(({ expr }) =>
        namedIn(expr).metrics.some((name) => storeMetricNames.includes(name))
      )
      assert.deepStrictEqual(asking.map(({ alert }) => alert), ["SprayproxyNoBackends", "SprayproxyReplyDeadlineHit"])
    }
  })

  it("ask for the metrics of recovery only where it is on", () => {
    const asking = render("cert-manager, durable")
      .filter((object): object is PrometheusRule => object.kind === "PrometheusRule")
      .flatMap(({ spec }) => spec.groups).flatMap((group) => group.rules)
      .filter(({ expr }) => namedIn(expr).metrics.some((name) => recoveryMetricNames.includes(name)))
    assert.deepStrictEqual(asking, [])
  })

  it("take the greatest of what every replica reports of the one store, never the sum", () => {
    const shared =
      /\b(sum|avg|count) ?(by \([^)]*\) )?\((rate|increase|delta)?\(?sprayproxy_(backlog|dead|store_(used|limit)|recovery_(missing|oldest|last))/
    const panels = panelsOf(dashboard()).flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    for (const expression of [...alerts().map(({ expr }) => expr), ...panels]) assert.notMatch(expression, shared)
  })

  it("have a severity, a summary, and a runbook with words in it", () => {
    const runbooks = readFileSync(join(root, "docs/runbooks.md"), "utf8").split(/^## /m).slice(1)
    const paragraphs = new Map(runbooks.map((text) => [text.slice(0, text.indexOf("\n")).toLowerCase(), text]))
    for (const { alert, annotations, labels: { severity } } of alerts()) {
      assert.include(["critical", "warning"], severity)
      const [page, anchor = ""] = annotations.runbook_url.split("#")
      assert.strictEqual(page, "https://github.com/konflux-ci/sprayproxy/blob/main/docs/runbooks.md")
      assert.strictEqual(anchor, alert.toLowerCase())
      assert.isAbove(paragraphs.get(anchor)?.length ?? 0, 100, alert)
    }
    assert.sameMembers([...paragraphs.keys()], alerts().map(({ alert }) => alert.toLowerCase()))
  })

  it("are each shown to fire and to stay silent", () => {
    const shown = ruleTests.flatMap((file) => {
      const { tests } = parse(readFileSync(join(root, "test/k8s", file), "utf8")) as RuleTests
      return tests.flatMap((test) => test.alert_rule_test)
    })
    for (const { alert } of alerts()) {
      const own = shown.filter(({ alertname }) => alertname === alert)
      assert.isTrue(own.some(({ exp_alerts }) => exp_alerts.length > 0), `${alert} fires`)
      assert.isTrue(own.some(({ exp_alerts }) => exp_alerts.length === 0), `${alert} stays silent`)
    }
  })

  it.skipIf(!promtool())("fire when they should, by promtool", { timeout: 180_000 }, () => {
    const directory = mkdtempSync(join(tmpdir(), "sprayproxy-alerts-"))
    try {
      writeFileSync(join(directory, "rules.yaml"), stringify({ groups: rules() }))
      for (const file of ruleTests) copyFileSync(join(root, "test/k8s", file), join(directory, file))
      for (const command of [["check", "rules", "rules.yaml"], ["test", "rules", ...ruleTests]]) {
        const { status, stderr, stdout } = spawnSync("promtool", command, { cwd: directory, encoding: "utf8" })
        assert.strictEqual(status, 0, stdout + stderr)
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

const configMap = () =>
  find<KubernetesObject & { readonly data: Readonly<Record<string, string>> }>(
    render("openshift"),
    "ConfigMap",
    "sprayproxy-dashboard"
  )
const dashboard = () => JSON.parse(configMap().data["sprayproxy.json"]!) as Dashboard
const panelsOf = (board: Dashboard): ReadonlyArray<Panel> =>
  board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])])

describe.skipIf(kustomize() === undefined)("the dashboard", () => {
  it("has the label that Grafana's sidecar looks for", () => {
    assert.strictEqual(configMap().metadata.labels?.["grafana_dashboard"], "1")
  })

  it("asks for metrics and label values that exist, from the data source that is chosen", () => {
    const expressions = panelsOf(dashboard()).flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    assert.isNotEmpty(expressions)
    for (const expression of expressions) {
      checkExpression(expression.replaceAll("$__rate_interval", "5m"))
    }
    for (const { datasource, type } of panelsOf(dashboard())) {
      if (type !== "row") assert.strictEqual(datasource?.uid, "${datasource}")
    }
  })

  it("fills its variables from metrics that exist, and uses no other variables", () => {
    const variables = dashboard().templating.list
    for (const { definition } of variables) {
      if (definition === undefined) continue
      const [, selector] = /^label_values\((.+), \w+\)$/.exec(definition) ?? []
      checkExpression(selector ?? "")
    }
    const used = JSON.stringify(dashboard()).matchAll(/\$\{?(\w+)/g)
    const known = [...variables.map(({ name }) => name), "__rate_interval", "__all"]
    for (const [, name] of used) assert.include(known, name)
  })

  it.each([
    ["the store", "What is in the store?", storeMetricNames],
    ["recovery", "What never arrived?", recoveryMetricNames]
  ])("shows every metric of %s, in a row that asks for nothing until it is opened", (_, title, names) => {
    const row = dashboard().panels.find((panel) => panel.title === title)
    const named = (row?.panels ?? []).flatMap(({ targets = [] }) => targets).flatMap(({ expr }) =>
      namedIn(expr.replaceAll("$__rate_interval", "5m")).metrics.map(metricOf)
    )
    assert.sameMembers([...new Set(named)], [...names])
    const open = dashboard().panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join("\n")
    for (const name of names) assert.notInclude(open, name)
  })

  it("answers the six questions, without two panels in one place", () => {
    const panels = panelsOf(dashboard())
    assert.deepStrictEqual(panels.filter(({ type }) => type === "row").map(({ title }) => title), [
      "Is every cluster getting its webhooks?",
      "How fast?",
      "What is refused?",
      "What is it costing?",
      "What is in the store?",
      "What never arrived?"
    ])
    assert.lengthOf(new Set(panels.map(({ id }) => id)), panels.length)
    const taken = new Set<string>()
    for (const { gridPos: { h, w, x, y } } of panels) {
      assert.isAtMost(x + w, 24)
      for (let row = y; row < y + h; row++) {
        for (let column = x; column < x + w; column++) {
          assert.isFalse(taken.has(`${row},${column}`))
          taken.add(`${row},${column}`)
        }
      }
    }
  })
})
