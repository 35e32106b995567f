import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { dirname } from "node:path"
import packageJson from "../../package.json" with { type: "json" }
import { resolve } from "../../src/settings/Settings.ts"
import { definitions } from "../../src/settings/Table.ts"
import {
  find,
  type KubernetesObject,
  kustomize,
  render,
  renderKustomization,
  type Target,
  targets
} from "./kustomize.ts"
import {
  type Claim,
  type ClusterRole,
  type ClusterRoleBinding,
  type Container,
  type Deployment,
  environmentOf,
  type NetworkPolicy,
  podOf,
  type Service,
  serviceOf
} from "./objects.ts"
import { violations } from "./schemas.ts"
import { flagsOf, knownFlags, rulesOf, sidecarsOf } from "./sidecar.ts"

const names = Object.keys(targets) as Array<Target>

const settingsOf = (objects: ReadonlyArray<KubernetesObject>) =>
  Result.getOrThrow(resolve({}, environmentOf(objects), { isTerminal: false }))

const containersOf = (objects: ReadonlyArray<KubernetesObject>): ReadonlyArray<Container> => {
  const { containers, initContainers } = podOf(objects)
  return [...containers, ...initContainers]
}

const daysOf = (setting: Option.Option<Duration.Duration>) => Duration.toDays(Option.getOrThrow(setting))

const mebibytes = (quantity: string) => Number(/^(\d+)Mi$/.exec(quantity)?.[1])

/** The kind of store that a target has, if it has one. */
const storeOf = (name: Target): "postgres" | "sqlite" | undefined =>
  name.includes("durable-sqlite") ? "sqlite" : name.includes("durable") ? "postgres" : undefined

const hasRecovery = (name: Target): boolean => name.includes("recovery")

const clusterScoped = new Set(["Namespace", "ClusterRole", "ClusterRoleBinding"])

describe.skipIf(kustomize() === undefined)("k8s", () => {
  describe.each(names)("%s", (name) => {
    it("renders objects that their schemas know every field of", async () => {
      const found = await Promise.all(render(name).map(violations))
      assert.deepStrictEqual(found.flat(), [])
    })

    it("puts everything into one namespace that enforces restricted pod security", () => {
      for (const { kind, metadata } of render(name)) {
        if (!clusterScoped.has(kind)) {
          assert.strictEqual(metadata.namespace, "sprayproxy", `${kind} ${metadata.name}`)
        }
      }
      const { metadata } = find<KubernetesObject>(render(name), "Namespace")
      assert.strictEqual(metadata.labels?.["pod-security.kubernetes.io/enforce"], "restricted")
    })

    it("restricts every container and gives an API token to the sidecars alone", () => {
      const pod = podOf(render(name))
      assert.isTrue(pod.securityContext.runAsNonRoot)
      assert.strictEqual(pod.securityContext.seccompProfile.type, "RuntimeDefault")
      assert.isFalse(pod.automountServiceAccountToken)
      assert.isUndefined(pod.hostNetwork)
      const tokens = pod.volumes.filter(({ projected }) => projected !== undefined).map((volume) => volume.name)
      assert.lengthOf(tokens, 1)
      for (const container of containersOf(render(name))) {
        assert.deepStrictEqual(container.securityContext, {
          allowPrivilegeEscalation: false,
          capabilities: { drop: ["ALL"] },
          readOnlyRootFilesystem: true
        })
        assert.match(container.image, /:[^:/]+$/, "an image without a tag is another one tomorrow")
        assert.strictEqual(
          container.volumeMounts.some((mount) => tokens.includes(mount.name)),
          container.name !== "sprayproxy"
        )
      }
    })

    it("starts the service with settings that it takes, and listens on loopback", () => {
      const service = serviceOf(render(name))
      const variables: ReadonlyArray<string | undefined> = Object.values(definitions).map(({ variable }) => variable)
      for (const { name: variable } of service.env ?? []) assert.include(variables, variable)
      assert.deepStrictEqual(service.args, ["server"])
      assert.strictEqual(settingsOf(render(name)).host, "127.0.0.1")
    })

    it("keeps what users of the original patch", () => {
      const deployment = find<Deployment>(render(name), "Deployment")
      const { containers } = podOf(render(name))
      assert.deepStrictEqual(deployment.spec.selector.matchLabels, { "app.kubernetes.io/name": "sprayproxy" })
      assert.strictEqual(containers[0]?.name, "sprayproxy")
      assert.strictEqual(containers[0]?.env?.[0]?.name, "SPRAYPROXY_SERVER_BACKEND")
      assert.strictEqual(find<Service>(render(name), "Service").spec.ports[0]?.name, "proxy")
      assert.strictEqual(find<Service>(render(name), "Service", "metrics").spec.ports[0]?.name, "metrics")
    })

    it("mounts the webhook's secret alone, as a directory that kubelet keeps up to date", () => {
      const { volumes } = podOf(render(name))
      const volume = volumes.find(({ secret }) => secret?.secretName === "pipelines-as-code-secret")!
      const mount = serviceOf(render(name)).volumeMounts.find((mounted) => mounted.name === volume.name)!
      assert.isTrue(volume.secret?.optional)
      assert.deepStrictEqual(volume.secret?.items, [{ key: "webhook.secret", path: "webhook.secret" }])
      assert.isUndefined(mount.subPath)
      assert.deepStrictEqual(settingsOf(render(name)).webhookSecretFiles, [`${mount.mountPath}/webhook.secret`])
    })

    it("leaves time for the delay, the grace and the sidecars before the pod is killed", () => {
      const { shutdownDelay, shutdownGrace } = settingsOf(render(name))
      const needed = Duration.toSeconds(shutdownDelay) + Duration.toSeconds(shutdownGrace) + 10
      assert.isAtLeast(podOf(render(name)).terminationGracePeriodSeconds, needed)
      assert.isAtLeast(Duration.toSeconds(shutdownDelay), 15)
    })

    it("gives the service memory for its peak with its budget for bodies", () => {
      // Measured: 280 MiB with 96 MiB for bodies.
      const { limits, requests } = serviceOf(render(name)).resources
      const budget = settingsOf(render(name)).bodyMemory / 2 ** 20
      assert.isAtLeast(mebibytes(limits.memory), 280 - 96 + budget)
      assert.isAtLeast(mebibytes(requests.memory), 160)
    })

    it("starts the sidecars before the service and stops them after it", () => {
      const { containers, initContainers } = podOf(render(name))
      assert.deepStrictEqual(containers.map((container) => container.name), ["sprayproxy"])
      assert.deepStrictEqual(initContainers.map((container) => container.name), [
        "kube-rbac-proxy",
        "kube-rbac-metrics"
      ])
      for (const sidecar of initContainers) assert.strictEqual(sidecar.restartPolicy, "Always")
    })

    it("spells the sidecars' flags as kube-rbac-proxy takes them", () => {
      const tls = [
        "--tls-cert-file=/etc/tls/tls.crt",
        "--tls-private-key-file=/etc/tls/tls.key",
        "--tls-min-version=VersionTLS12"
      ]
      const reviews = ["--kube-api-qps=100", "--kube-api-burst=200"]
      const [proxy, metrics] = podOf(render(name)).initContainers
      assert.deepStrictEqual(proxy?.args, [
        "--secure-listen-address=:8443",
        "--upstream=http://127.0.0.1:8080/",
        "--ignore-paths=/proxy,/healthz,/readyz",
        "--proxy-endpoints-port=8643",
        ...tls,
        ...reviews
      ])
      assert.deepStrictEqual(metrics?.args, [
        "--secure-listen-address=:9443",
        "--upstream=http://127.0.0.1:9090/",
        "--allow-paths=/metrics",
        "--proxy-endpoints-port=9643",
        ...tls,
        ...reviews
      ])
      for (const { args, volumeMounts } of [proxy!, metrics!]) {
        for (const flag of Object.keys(flagsOf(args))) assert.property(knownFlags, flag)
        assert.include(volumeMounts.map(({ mountPath }) => mountPath), "/etc/tls")
        assert.include(
          volumeMounts.map(({ mountPath }) => mountPath),
          "/var/run/secrets/kubernetes.io/serviceaccount",
          "where a client in a pod looks for its token"
        )
      }
    })

    it("sends the sidecars to the ports that the service listens on", () => {
      const settings = settingsOf(render(name))
      const [proxy, metrics] = sidecarsOf(render(name))
      assert.strictEqual(proxy?.upstream.host, `${settings.host}:${settings.port}`)
      assert.strictEqual(metrics?.upstream.host, `${settings.host}:${settings.metricsPort}`)
    })

    it("probes the service through the sidecar on paths that need no token, and the sidecars not through the service", () => {
      const [proxy] = sidecarsOf(render(name))
      const { livenessProbe, readinessProbe, startupProbe } = serviceOf(render(name))
      for (const probe of [startupProbe, readinessProbe, livenessProbe]) {
        assert.strictEqual(probe?.httpGet.scheme, "HTTPS")
        assert.strictEqual(probe?.httpGet.port, proxy?.port)
        assert.include(proxy?.ignorePaths ?? [], probe?.httpGet.path)
      }
      for (const [index, sidecar] of podOf(render(name)).initContainers.entries()) {
        for (const probe of [sidecar.startupProbe, sidecar.livenessProbe]) {
          const { healthPort } = sidecarsOf(render(name))[index]!
          assert.deepStrictEqual(probe.httpGet, { scheme: "HTTPS", port: healthPort, path: "/healthz" })
        }
      }
    })

    it("lets nobody reach anything but the sidecars", () => {
      const listened = sidecarsOf(render(name)).map(({ port }) => port)
      const policy = find<NetworkPolicy>(render(name), "NetworkPolicy").spec
      const { template } = find<Deployment>(render(name), "Deployment").spec
      assert.deepStrictEqual(policy.podSelector.matchLabels, template.metadata.labels)
      assert.sameMembers([...policy.policyTypes], ["Ingress", "Egress"])
      assert.sameMembers(policy.ingress.flatMap(({ ports }) => ports.map(({ port }) => port)), listened)
      const services = render(name).filter((object): object is Service => object.kind === "Service")
      assert.sameMembers(services.flatMap(({ spec }) => spec.ports.map(({ targetPort }) => targetPort)), listened)
      assert.isUndefined(serviceOf(render(name)).ports)
      for (const { allowPaths, ignorePaths, upstream } of sidecarsOf(render(name))) {
        assert.strictEqual(upstream.hostname, "127.0.0.1")
        for (const path of [...ignorePaths, ...allowPaths]) {
          assert.match(path, /^\/[a-z]+$/, "a wildcard opens what it matches")
        }
      }
    })

    it("lets the pod reach DNS, backends, GitHub, the API server and its store, not the port of cloud metadata", () => {
      const { egress } = find<NetworkPolicy>(render(name), "NetworkPolicy").spec
      assert.sameMembers([...new Set(egress.flatMap(({ ports }) => ports.map(({ port }) => port)))], [
        53,
        5353,
        443,
        6443,
        ...(storeOf(name) === "postgres" ? [5432] : [])
      ])
      assert.strictEqual(new URL(settingsOf(render(name)).githubApiUrl).port, "", "GitHub's API is on 443")
    })

    it("keeps deliveries where its name says, and nothing where it says nothing", () => {
      const variable = serviceOf(render(name)).env?.find((entry) => entry.name === "SPRAYPROXY_STORE")
      const kinds = render(name).map(({ kind }) => kind)
      if (storeOf(name) === "postgres") {
        // Without `optional`: a pod that can't have the URL must not start and keep nothing.
        assert.deepStrictEqual(variable, {
          name: "SPRAYPROXY_STORE",
          valueFrom: { secretKeyRef: { name: "sprayproxy-store", key: "url" } }
        })
      } else {
        assert.strictEqual(Option.getOrUndefined(settingsOf(render(name)).store)?.kind, storeOf(name))
      }
      assert.strictEqual(kinds.includes("PersistentVolumeClaim"), storeOf(name) === "sqlite")
    })

    it("gives the App's credentials to the service alone, and only for recovery", () => {
      const { initContainers, volumes } = podOf(render(name))
      const secret = "pipelines-as-code-secret"
      const id = serviceOf(render(name)).env?.find((entry) => entry.name === "SPRAYPROXY_GITHUB_APP_ID")
      const mounted = volumes.filter((volume) =>
        volume.secret?.secretName === secret && volume.name !== "webhook-secret"
      )
      if (!hasRecovery(name)) {
        assert.isUndefined(id)
        assert.deepStrictEqual(mounted, [])
        return
      }
      assert.deepStrictEqual(id?.valueFrom, { secretKeyRef: { name: secret, key: "github-application-id" } })
      assert.deepStrictEqual(mounted.map((volume) => volume.secret), [{
        secretName: secret,
        optional: true,
        items: [{ key: "github-private-key", path: "github-private-key" }]
      }])
      const [volume] = mounted
      const mount = serviceOf(render(name)).volumeMounts.find((candidate) => candidate.name === volume?.name)
      assert.deepStrictEqual(mount, { name: volume!.name, mountPath: "/etc/sprayproxy/github", readOnly: true })
      assert.deepStrictEqual(
        Option.getOrUndefined(settingsOf(render(name)).githubPrivateKeyFile),
        `${mount?.mountPath}/github-private-key`
      )
      for (const { volumeMounts } of initContainers) {
        assert.notInclude(volumeMounts.map((candidate) => candidate.name), volume?.name)
      }
    })

    it("grants each account one thing", () => {
      const bindings = render(name).filter((object): object is ClusterRoleBinding =>
        object.kind === "ClusterRoleBinding"
      )
      const own = bindings.filter(({ subjects }) => subjects.some((subject) => subject.name === "sprayproxy"))
      assert.sameMembers(own.map(({ roleRef }) => roleRef.name), [
        "system:auth-delegator",
        ...(name.includes("original names") ? ["sprayproxy-backend-register", "sprayproxy-kube-rbac-proxy"] : [])
      ])
      assert.deepStrictEqual(rulesOf(render(name), "metrics-reader"), [{
        nonResourceURLs: ["/metrics"],
        verbs: ["get"]
      }])
    })

    it("has Prometheus verify the certificate of the Service it scrapes", () => {
      const monitor = find<
        KubernetesObject & {
          readonly spec: {
            readonly jobLabel: string
            readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
            readonly endpoints: ReadonlyArray<{
              readonly port: string
              readonly path: string
              readonly authorization: { readonly credentials: { readonly name: string } }
              readonly tlsConfig: {
                readonly serverName: string
                readonly ca: object
                readonly insecureSkipVerify?: boolean
              }
            }>
          }
        }
      >(render(name), "ServiceMonitor")
      const service = find<Service>(render(name), "Service", "metrics")
      const endpoint = monitor.spec.endpoints[0]!
      assert.deepStrictEqual(monitor.spec.selector.matchLabels, service.metadata.labels)
      assert.strictEqual(service.metadata.labels?.[monitor.spec.jobLabel], "sprayproxy")
      assert.strictEqual(endpoint.port, service.spec.ports[0]?.name)
      assert.deepStrictEqual(sidecarsOf(render(name))[1]?.allowPaths, [endpoint.path])
      assert.strictEqual(endpoint.tlsConfig.serverName, "metrics.sprayproxy.svc")
      assert.isUndefined(endpoint.tlsConfig.insecureSkipVerify)
      const ca = name !== "base" && !name.startsWith("cert-manager")
        ? { configMap: { name: "openshift-service-ca.crt", key: "service-ca.crt" } }
        : { secret: { name: "metrics-tls", key: "ca.crt" } }
      assert.deepStrictEqual(endpoint.tlsConfig.ca, ca)
      assert.strictEqual(
        find<KubernetesObject>(render(name), "Secret", endpoint.authorization.credentials.name).kind,
        "Secret"
      )
    })

    it("has a certificate made for each Secret that the sidecars serve with", () => {
      const secrets = podOf(render(name)).volumes.flatMap(({ secret }) => secret?.secretName ?? [])
      assert.includeMembers(secrets, ["sprayproxy-tls", "metrics-tls"])
      if (name === "base") return
      const made = name.startsWith("cert-manager")
        ? render(name)
          .filter(({ kind }) => kind === "Certificate")
          .map((certificate) => (certificate as unknown as { spec: { secretName: string } }).spec.secretName)
        : render(name)
          .filter(({ kind }) => kind === "Service")
          .map(({ metadata }) => metadata.annotations?.["service.beta.openshift.io/serving-cert-secret-name"])
      assert.includeMembers(made, ["sprayproxy-tls", "metrics-tls"])
    })
  })

  it("runs two replicas, spread over nodes, of which a drain takes one and an update none", () => {
    const { replicas, strategy } = find<Deployment>(render("base"), "Deployment").spec
    assert.strictEqual(replicas, 2)
    assert.deepStrictEqual(strategy.rollingUpdate, { maxUnavailable: 0, maxSurge: 1 })
    const [spread] = podOf(render("base")).topologySpreadConstraints
    assert.include(spread, { topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule" })
    const budget = find<KubernetesObject & { readonly spec: { readonly maxUnavailable: number } }>(
      render("base"),
      "PodDisruptionBudget"
    )
    assert.strictEqual(budget.spec.maxUnavailable, 1)
  })

  it("names the version of this tree as the image's tag", () => {
    assert.strictEqual(serviceOf(render("base")).image, `quay.io/konflux-ci/sprayproxy:${packageJson.version}`)
  })

  it.each(["dynamic-backends", "dynamic-backends, original names", "cert-manager, dynamic backends"] as const)(
    "%s: keeps the registry in one pod and lets a registrar do nothing else",
    (name) => {
      const settings = settingsOf(render(name))
      assert.isTrue(settings.enableDynamicBackends)
      assert.strictEqual(daysOf(settings.dynamicBackendTtl), 7)
      assert.strictEqual(daysOf(settings.dynamicBackendDeadAfter), 1)
      assert.strictEqual(find<Deployment>(render(name), "Deployment").spec.replicas, 1)
      const kinds = render(name).map(({ kind }) => kind)
      assert.notInclude(kinds, "PodDisruptionBudget")
      assert.notInclude(kinds, "HorizontalPodAutoscaler")
      assert.deepStrictEqual(rulesOf(render(name), "sprayproxy-registrar"), [
        { nonResourceURLs: ["/backends"], verbs: ["get", "create", "delete"] }
      ])
    }
  )

  it.each(["durable", "cert-manager, durable", "durable-recovery"] as const)(
    "%s: runs as many replicas as without a store",
    (name) => {
      const { replicas, strategy } = find<Deployment>(render(name), "Deployment").spec
      const base = find<Deployment>(render("base"), "Deployment").spec
      assert.strictEqual(replicas, base.replicas)
      assert.deepStrictEqual(strategy, base.strategy)
      assert.deepStrictEqual(
        podOf(render(name)).topologySpreadConstraints,
        podOf(render("base")).topologySpreadConstraints
      )
      assert.include(render(name).map(({ kind }) => kind), "PodDisruptionBudget")
      assert.isFalse(settingsOf(render(name)).enableDynamicBackends)
    }
  )

  it.each(["durable, autoscaling, dynamic backends", "cert-manager, durable-sqlite, dynamic backends"] as const)(
    "%s: registers backends in the store, and lets a registrar do nothing else",
    (name) => {
      const settings = settingsOf(render(name))
      assert.isTrue(settings.enableDynamicBackends)
      assert.strictEqual(daysOf(settings.dynamicBackendTtl), 7)
      assert.strictEqual(daysOf(settings.dynamicBackendDeadAfter), 1)
      assert.deepStrictEqual(rulesOf(render(name), "sprayproxy-registrar"), [
        { nonResourceURLs: ["/backends"], verbs: ["get", "create", "delete"] }
      ])
    }
  )

  it.each(
    [
      "durable-sqlite",
      "cert-manager, durable-sqlite, dynamic backends",
      "cert-manager, durable-sqlite, recovery"
    ] as const
  )(
    "%s: one pod has the file, and gives it up before the next one starts",
    (name) => {
      const objects = render(name)
      const { replicas, strategy } = find<Deployment>(objects, "Deployment").spec
      assert.strictEqual(replicas, 1)
      assert.deepStrictEqual(strategy, { type: "Recreate" })
      const kinds = objects.map(({ kind }) => kind)
      assert.notInclude(kinds, "PodDisruptionBudget")
      assert.notInclude(kinds, "HorizontalPodAutoscaler")

      const pod = podOf(objects)
      const store = Option.getOrThrow(settingsOf(objects).store)
      const mount = serviceOf(objects).volumeMounts.find(({ mountPath }) =>
        store.kind === "sqlite" && dirname(store.path) === mountPath
      )
      const volume = pod.volumes.find((candidate) => candidate.name === mount?.name)
      const claim = find<Claim>(objects, "PersistentVolumeClaim", volume?.persistentVolumeClaim?.claimName)
      assert.deepStrictEqual(claim.spec.accessModes, ["ReadWriteOncePod"])
      const gibibytes = Number(/^(\d+)Gi$/.exec(claim.spec.resources.requests.storage)?.[1])
      assert.isAbove(gibibytes * 2 ** 30, 1.25 * settingsOf(objects).storeLimit)
      for (const container of pod.initContainers) {
        assert.notInclude(container.volumeMounts.map((mounted) => mounted.name), volume?.name)
      }

      // OpenShift chooses the group, and refuses a pod that does.
      assert.strictEqual(pod.securityContext.fsGroup, name.startsWith("cert-manager") ? 65532 : undefined)
      assert.strictEqual(pod.securityContext.fsGroupChangePolicy, "OnRootMismatch")
    }
  )

  it("grants /deliveries and /recovery to nobody by itself, and redelivering to fewer than reading", () => {
    for (const name of names) {
      const objects = render(name)
      const roles = objects.filter((object): object is ClusterRole => object.kind === "ClusterRole")
      const granting = roles.filter(({ rules }) =>
        rules.some(({ nonResourceURLs = [] }) => nonResourceURLs.some((url) => /^\/(deliveries|recovery)/.test(url)))
      )
      assert.deepStrictEqual(
        granting.map(({ metadata }) => metadata.name),
        storeOf(name) === undefined ? [] : ["sprayproxy-deliveries-read", "sprayproxy-deliveries-redeliver"]
      )
      const bound = objects.filter((object): object is ClusterRoleBinding => object.kind === "ClusterRoleBinding")
      for (const { roleRef } of bound) assert.notInclude(granting.map(({ metadata }) => metadata.name), roleRef.name)
      const [read, redeliver] = granting
      if (read === undefined) continue
      assert.deepStrictEqual(read.rules.flatMap(({ verbs }) => verbs), ["get"])
      const creating = redeliver!.rules.filter(({ verbs }) => verbs.includes("create"))
      assert.deepStrictEqual(creating.flatMap(({ nonResourceURLs }) => nonResourceURLs), ["/deliveries/*", "/recovery"])
    }
  })

  it.each(["openshift, autoscaling", "durable, autoscaling, dynamic backends"] as const)(
    "%s: leaves the number of replicas to the autoscaler",
    (name) => {
      const objects = render(name)
      const { spec } = find<KubernetesObject & { readonly spec: Record<string, unknown> }>(
        objects,
        "HorizontalPodAutoscaler"
      )
      assert.isUndefined(find<Deployment>(objects, "Deployment").spec.replicas)
      assert.deepNestedInclude(spec, {
        scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "sprayproxy" },
        "metrics[0].containerResource.container": "sprayproxy",
        "metrics[0].containerResource.name": "cpu"
      })
    }
  )

  it("has OpenShift's router encrypt anew, promise HTTPS and use Red Hat's sidecar", () => {
    const objects = render("openshift")
    const { metadata, spec } = find<KubernetesObject & { readonly spec: Record<string, unknown> }>(
      objects,
      "Route",
      "sprayproxy-route"
    )
    assert.deepNestedInclude(spec, {
      "tls.termination": "reencrypt",
      "to.name": "sprayproxy",
      "port.targetPort": "proxy"
    })
    assert.match(metadata.annotations?.["haproxy.router.openshift.io/hsts_header"] ?? "", /^max-age=31536000/)
    for (const { image } of podOf(objects).initContainers) {
      assert.match(image, /^registry\.redhat\.io\/openshift4\/ose-kube-rbac-proxy-rhel9:/)
    }
  })

  it("has the Ingress take the largest body that the service takes, on the webhook's path alone", () => {
    const { metadata, spec } = find<KubernetesObject & { readonly spec: Record<string, unknown> }>(
      render("cert-manager"),
      "Ingress"
    )
    const size = metadata.annotations?.["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert.strictEqual(size, `${settingsOf(render("cert-manager")).maxRequestSize / 2 ** 20}m`)
    assert.deepNestedInclude(spec, {
      "rules[0].http.paths[0].path": "/proxy",
      "rules[0].http.paths[0].backend.service": { name: "sprayproxy", port: { name: "proxy" } }
    })
    assert.nestedProperty(spec, "rules[0].http.paths")
    assert.notNestedProperty(spec, "rules[0].http.paths[1]")
  })

  it("puts a Gateway in the Ingress's place", () => {
    const kinds = render("cert-manager, gateway").map(({ kind }) => kind)
    assert.notInclude(kinds, "Ingress")
    assert.includeMembers(kinds, ["Gateway", "HTTPRoute", "BackendTLSPolicy"])
  })

  it("takes the patches of the original's users", () => {
    const objects = renderKustomization({
      resources: ["k8s/overlays/openshift"],
      patches: [
        {
          patch: JSON.stringify({
            apiVersion: "apps/v1",
            kind: "Deployment",
            metadata: { name: "sprayproxy", namespace: "sprayproxy" },
            spec: {
              replicas: 3,
              template: {
                spec: {
                  containers: [{
                    name: "sprayproxy",
                    env: [
                      { name: "SPRAYPROXY_SERVER_BACKEND", value: "https://a.example.com https://b.example.com\n" },
                      {
                        name: "GH_APP_WEBHOOK_SECRET",
                        valueFrom: { secretKeyRef: { name: "pipelines-as-code-secret", key: "webhook.secret" } }
                      }
                    ]
                  }]
                }
              }
            }
          })
        }
      ]
    })
    assert.strictEqual(find<Deployment>(objects, "Deployment").spec.replicas, 3)
    assert.deepStrictEqual(settingsOf(objects).backends.map(({ url }) => url), [
      "https://a.example.com",
      "https://b.example.com"
    ])
    assert.deepStrictEqual(serviceOf(objects).env?.[1], {
      name: "GH_APP_WEBHOOK_SECRET",
      valueFrom: { secretKeyRef: { name: "pipelines-as-code-secret", key: "webhook.secret" } }
    })
    const byPlace = renderKustomization({
      resources: ["k8s/overlays/openshift"],
      patches: [{
        target: { kind: "Deployment", name: "sprayproxy" },
        patch: JSON.stringify([
          { op: "replace", path: "/spec/template/spec/containers/0/env/0/value", value: "https://c.example.com" }
        ])
      }]
    })
    assert.deepStrictEqual(settingsOf(byPlace).backends.map(({ url }) => url), ["https://c.example.com"])
  })
})
