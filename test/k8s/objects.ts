/** The parts of the rendered objects that the tests look into. */
import { find, type KubernetesObject } from "./kustomize.ts"

interface Probe {
  readonly httpGet: { readonly scheme: string; readonly port: number; readonly path: string }
}

export interface Container {
  readonly name: string
  readonly image: string
  readonly args: ReadonlyArray<string>
  readonly env?: ReadonlyArray<{
    readonly name: string
    readonly value?: string
    readonly valueFrom?: { readonly secretKeyRef: { readonly name: string; readonly key: string } }
  }>
  readonly ports?: ReadonlyArray<{ readonly name: string; readonly containerPort: number }>
  readonly restartPolicy?: string
  readonly startupProbe: Probe
  readonly readinessProbe?: Probe
  readonly livenessProbe: Probe
  readonly resources: Readonly<Record<"requests" | "limits", { readonly cpu: string; readonly memory: string }>>
  readonly securityContext: {
    readonly allowPrivilegeEscalation: boolean
    readonly readOnlyRootFilesystem: boolean
    readonly capabilities: { readonly drop: ReadonlyArray<string>; readonly add?: ReadonlyArray<string> }
  }
  readonly volumeMounts: ReadonlyArray<{
    readonly name: string
    readonly mountPath: string
    readonly readOnly?: boolean
    readonly subPath?: string
  }>
}

export interface PodSpec {
  readonly serviceAccountName: string
  readonly automountServiceAccountToken: boolean
  readonly terminationGracePeriodSeconds: number
  readonly hostNetwork?: boolean
  readonly securityContext: {
    readonly runAsNonRoot: boolean
    readonly seccompProfile: { readonly type: string }
    readonly fsGroup?: number
    readonly fsGroupChangePolicy?: string
  }
  readonly containers: ReadonlyArray<Container>
  readonly initContainers: ReadonlyArray<Container>
  readonly volumes: ReadonlyArray<{
    readonly name: string
    readonly projected?: unknown
    readonly persistentVolumeClaim?: { readonly claimName: string }
    readonly secret?: {
      readonly secretName: string
      readonly optional?: boolean
      readonly items?: ReadonlyArray<{ readonly key: string; readonly path: string }>
    }
  }>
  readonly topologySpreadConstraints: ReadonlyArray<
    { readonly topologyKey: string; readonly whenUnsatisfiable: string }
  >
}

export interface Deployment extends KubernetesObject {
  readonly spec: {
    readonly replicas?: number
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly strategy: {
      readonly type?: string
      readonly rollingUpdate?: { readonly maxUnavailable: number; readonly maxSurge: number }
    }
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: PodSpec
    }
  }
}

export interface Service extends KubernetesObject {
  readonly spec: {
    readonly selector: Readonly<Record<string, string>>
    readonly ports: ReadonlyArray<{ readonly name: string; readonly port: number; readonly targetPort: number }>
  }
}

interface PolicyPort {
  readonly port: number
  readonly protocol: string
}

export interface NetworkPolicy extends KubernetesObject {
  readonly spec: {
    readonly podSelector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly policyTypes: ReadonlyArray<string>
    readonly ingress: ReadonlyArray<
      { readonly ports: ReadonlyArray<PolicyPort>; readonly from?: ReadonlyArray<object> }
    >
    readonly egress: ReadonlyArray<{ readonly ports: ReadonlyArray<PolicyPort> }>
  }
}

export interface Claim extends KubernetesObject {
  readonly spec: {
    readonly accessModes: ReadonlyArray<string>
    readonly resources: { readonly requests: { readonly storage: string } }
  }
}

export interface ClusterRole extends KubernetesObject {
  readonly rules: ReadonlyArray<{
    readonly nonResourceURLs?: ReadonlyArray<string>
    readonly resources?: ReadonlyArray<string>
    readonly verbs: ReadonlyArray<string>
  }>
}

export interface ClusterRoleBinding extends KubernetesObject {
  readonly roleRef: { readonly kind: string; readonly name: string }
  readonly subjects: ReadonlyArray<{ readonly kind: string; readonly name: string; readonly namespace: string }>
}

export interface Rule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url: string }
}

export interface PrometheusRule extends KubernetesObject {
  readonly spec: { readonly groups: ReadonlyArray<{ readonly name: string; readonly rules: ReadonlyArray<Rule> }> }
}

export const podOf = (objects: ReadonlyArray<KubernetesObject>): PodSpec =>
  find<Deployment>(objects, "Deployment").spec.template.spec

export const serviceOf = (objects: ReadonlyArray<KubernetesObject>): Container => podOf(objects).containers[0]!

/** Samples of what users keep in their Secrets, by Secret and key. */
const secrets: Readonly<Record<string, string>> = {
  "sprayproxy-store/url": "postgres://sprayproxy@postgres.example.com:5432/sprayproxy?sslmode=verify-full",
  "pipelines-as-code-secret/github-application-id": "12345"
}

/** The environment that the service is started with. */
export const environmentOf = (objects: ReadonlyArray<KubernetesObject>): Record<string, string> =>
  Object.fromEntries(
    (serviceOf(objects).env ?? []).flatMap(({ name, value, valueFrom }) => {
      const { key, name: secret } = valueFrom?.secretKeyRef ?? {}
      const given = value ?? secrets[`${secret}/${key}`]
      return given === undefined ? [] : [[name, given]]
    })
  )
