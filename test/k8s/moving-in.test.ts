/** A move from the original: an overlay as its users have them, and what there was before. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { resolve } from "../../src/settings/Settings.ts"
import { find, type KubernetesObject, kustomize, render, renderKustomization, root } from "./kustomize.ts"
import {
  type ClusterRoleBinding,
  type Deployment,
  environmentOf,
  type NetworkPolicy,
  podOf,
  type Service,
  serviceOf
} from "./objects.ts"
import { violations } from "./schemas.ts"
import { refusal, rulesOf, sidecarsOf } from "./sidecar.ts"

interface ServiceMonitor extends KubernetesObject {
  readonly spec: {
    readonly namespaceSelector: { readonly matchNames: ReadonlyArray<string> }
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly endpoints: ReadonlyArray<{ readonly port: string; readonly path: string; readonly scheme: string }>
  }
}

type Labels = Readonly<Record<string, string>>

const selects = (matchLabels: Labels, labels: Labels = {}) =>
  Object.entries(matchLabels).every(([name, value]) => labels[name] === value)

const settingsOf = (objects: ReadonlyArray<KubernetesObject>) =>
  Result.getOrThrow(resolve({}, environmentOf(objects), { isTerminal: false }))

const nameOf = ({ kind, metadata }: KubernetesObject) => `${kind} ${metadata.name}`

/** The objects of the original's manifests, as they were last published. */
const original = [
  "Namespace sprayproxy",
  "Deployment sprayproxy",
  "Service sprayproxy",
  "Service metrics",
  "Route sprayproxy-route",
  "ServiceMonitor sprayproxy",
  "ServiceAccount sprayproxy",
  "ServiceAccount metrics-reader",
  "Secret metrics-reader",
  "ClusterRole sprayproxy-kube-rbac-proxy",
  "ClusterRoleBinding sprayproxy-kube-rbac-proxy",
  "ClusterRole sprayproxy-backend-register",
  "ClusterRoleBinding sprayproxy-backend-register",
  "ClusterRole sprayproxy-metrics-reader",
  "ClusterRoleBinding sprayproxy-metrics-reader"
]

const missingFrom = (objects: ReadonlyArray<KubernetesObject>) => {
  const names = new Set(objects.map(nameOf))
  return original.filter((name) => !names.has(name))
}

const page = () => readFileSync(join(root, "docs/replacing-the-original.md"), "utf8")

describe.skipIf(kustomize() === undefined)("an overlay of the original's users, moved in", () => {
  const objects = kustomize() === undefined ? [] : renderKustomization({ resources: ["test/k8s/moving-in"] })
  const deployment = () => find<Deployment>(objects, "Deployment")

  it("renders objects that their schemas know every field of", async () => {
    assert.deepStrictEqual((await Promise.all(objects.map(violations))).flat(), [])
  })

  it("runs the image that it names, with our arguments", () => {
    const { args, image } = serviceOf(objects)
    assert.strictEqual(image, "quay.io/example/sprayproxy:1b7ba8f22b3be57c84b35ecc705fcad71c5738cf")
    assert.deepStrictEqual(args, ["server"])
  })

  it("has the backends of a folded variable, and a setting whose value ends in a line break", () => {
    const { backends, forwardingTimeout } = settingsOf(objects)
    assert.deepStrictEqual(backends.map(({ url }) => url), [
      "https://pac.apps.one.example.com",
      "https://pac.apps.two.example.com"
    ])
    assert.strictEqual(Duration.toSeconds(forwardingTimeout), 20)
  })

  it("has the secret once, by reference, and follows the file beside it", () => {
    const given = (serviceOf(objects).env ?? []).filter(({ name }) => name === "GH_APP_WEBHOOK_SECRET")
    const secretKeyRef = { name: "pipelines-as-code-secret", key: "webhook.secret" }
    assert.deepStrictEqual(given, [{ name: "GH_APP_WEBHOOK_SECRET", valueFrom: { secretKeyRef } }])
    assert.isNotEmpty(settingsOf(objects).webhookSecretFiles)
  })

  it("runs its two replicas, which the network policy, the disruption budget and both Services still find", () => {
    const { replicas, template } = deployment().spec
    const { labels } = template.metadata
    assert.strictEqual(replicas, 2)
    assert.strictEqual(labels["app"], "sprayproxy")
    assert.isTrue(selects(find<NetworkPolicy>(objects, "NetworkPolicy").spec.podSelector.matchLabels, labels))
    for (const name of ["sprayproxy", "metrics"]) {
      assert.isTrue(selects(find<Service>(objects, "Service", name).spec.selector, labels))
    }
    const budget = find<KubernetesObject & { readonly spec: { readonly selector: { readonly matchLabels: Labels } } }>(
      objects,
      "PodDisruptionBudget"
    )
    assert.isTrue(selects(budget.spec.selector.matchLabels, labels))
  })

  it("keeps its patches out of the sidecars, and the service the only container", () => {
    const untouched = podOf(render("openshift"))
    assert.lengthOf(podOf(objects).containers, 1)
    assert.deepStrictEqual(podOf(objects).initContainers, untouched.initContainers)
    assert.strictEqual(settingsOf(objects).host, "127.0.0.1")
  })

  it("keeps its view role, which shows no payload and no secret: what it names is in Secrets", () => {
    const view = find<KubernetesObject & { readonly roleRef: { readonly name: string } }>(
      objects,
      "RoleBinding",
      "on-call"
    )
    assert.deepStrictEqual([view.metadata.namespace, view.roleRef.name], ["sprayproxy", "view"])
    assert.deepStrictEqual(rulesOf(objects, "on-call"), [])
    assert.isUndefined(environmentOf(objects)["GH_APP_WEBHOOK_SECRET"])
  })

  it("has its metrics read from another namespace with its Prometheus's account, and nothing else", () => {
    const monitor = objects.find((object): object is ServiceMonitor =>
      object.kind === "ServiceMonitor" && object.metadata.namespace === "example-monitoring"
    )!
    const { endpoints: [endpoint], namespaceSelector, selector } = monitor.spec
    const services = objects.filter((object): object is Service => object.kind === "Service")
    const [found, ...others] = services.filter(({ metadata }) => selects(selector.matchLabels, metadata.labels))
    assert.deepStrictEqual([found?.metadata.name, others], ["metrics", []])
    assert.include(namespaceSelector.matchNames, found?.metadata.namespace)
    const [port] = found!.spec.ports
    assert.strictEqual(endpoint?.port, port?.name)

    const [proxy, metrics] = sidecarsOf(objects)
    assert.strictEqual(metrics?.port, port?.targetPort)
    const get = { method: "GET", path: endpoint!.path, account: "prometheus-k8s" }
    assert.isUndefined(refusal(metrics!, objects, get))
    assert.strictEqual(refusal(metrics!, objects, { ...get, account: "stranger" }), 403)
    for (const path of ["/backends", "/deliveries"]) {
      assert.strictEqual(refusal(proxy!, objects, { ...get, path }), 403)
    }
    const { ingress } = find<NetworkPolicy>(objects, "NetworkPolicy").spec
    const admitting = ingress.filter(({ ports }) => ports.some((one) => one.port === metrics?.port))
    assert.deepStrictEqual(admitting.map(({ from }) => from), [[{ namespaceSelector: {} }]])
  })

  it("is counted by our alerts, if its ServiceMonitor names the job as the page says", () => {
    const [, label = ""] = /jobLabel: ([\w./-]+)/.exec(page()) ?? []
    assert.strictEqual(find<Service>(objects, "Service", "metrics").metadata.labels?.[label], "sprayproxy")
  })

  it("takes the older overlays' patches by place", () => {
    const operations = [
      { op: "add", path: "/spec/template/spec/containers/0/env/0/value", value: "https://c.example.com\n" }
    ]
    const patched = renderKustomization({
      resources: ["k8s/overlays/openshift"],
      patches: [{ target: { group: "apps", version: "v1", name: "sprayproxy" }, patch: JSON.stringify(operations) }]
    })
    assert.deepStrictEqual(settingsOf(patched).backends.map(({ url }) => url), ["https://c.example.com"])
  })
})

describe.skipIf(kustomize() === undefined)("what the original had", () => {
  it("is there under the same names, but for what the page deletes", () => {
    const missing = missingFrom(render("openshift"))
    assert.sameMembers(missing, [
      "ClusterRole sprayproxy-kube-rbac-proxy",
      "ClusterRoleBinding sprayproxy-kube-rbac-proxy",
      "ClusterRole sprayproxy-backend-register",
      "ClusterRoleBinding sprayproxy-backend-register"
    ])
    for (const name of missing) assert.include(page(), name.split(" ")[1]!)
    assert.deepStrictEqual(missingFrom(render("dynamic-backends, original names")), [])
  })

  it("is bound to the same roles, which Kubernetes would not let us change", () => {
    const bindings = render("dynamic-backends, original names").filter((object): object is ClusterRoleBinding =>
      object.kind === "ClusterRoleBinding"
    )
    for (const { metadata, roleRef } of bindings) {
      if (original.includes(`ClusterRoleBinding ${metadata.name}`)) assert.strictEqual(roleRef.name, metadata.name)
    }
  })

  it("has pods that our Deployment selects, and the other way round", () => {
    const { selector, template } = find<Deployment>(render("openshift"), "Deployment").spec
    assert.deepStrictEqual(selector.matchLabels, { "app.kubernetes.io/name": "sprayproxy" })
    assert.isTrue(selects(selector.matchLabels, template.metadata.labels))
  })

  it("may register with the account's stored tokens, with the component alone, and may do nothing else", () => {
    const withNames = render("dynamic-backends, original names")
    const without = render("dynamic-backends")
    const [proxy, metrics] = sidecarsOf(withNames)
    for (const method of ["GET", "POST", "DELETE"]) {
      const request = { method, path: "/backends", account: "sprayproxy" }
      assert.isUndefined(refusal(proxy!, withNames, request))
      assert.isUndefined(refusal(proxy!, withNames, { ...request, account: "sprayproxy-registrar" }))
      assert.strictEqual(refusal(proxy!, without, request), 403)
      for (const path of ["/", "/deliveries", "/recovery", "/openapi.json"]) {
        assert.strictEqual(refusal(proxy!, withNames, { ...request, path }), 403)
      }
    }
    assert.strictEqual(refusal(metrics!, withNames, { method: "GET", path: "/metrics", account: "sprayproxy" }), 403)
  })

  it("can't be had where nobody registers: the component says so and does not render", () => {
    const components = ["k8s/components/original-names"]
    assert.throws(
      () => renderKustomization({ resources: ["k8s/overlays/openshift"], components }),
      /sprayproxy-backend-register/
    )
  })
})
