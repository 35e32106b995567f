/** kube-rbac-proxy as its flags and the cluster's roles make it: who may pass, by its documented rules. */
import type { KubernetesObject } from "./kustomize.ts"
import { type ClusterRole, type ClusterRoleBinding, podOf } from "./objects.ts"

export interface Sidecar {
  readonly name: string
  readonly port: number
  readonly healthPort: number
  readonly upstream: URL
  readonly ignorePaths: ReadonlyArray<string>
  readonly allowPaths: ReadonlyArray<string>
}

/** Each flag with the version that brought it. An unknown flag stops the sidecar. */
export const knownFlags: Readonly<Record<string, string>> = {
  "secure-listen-address": "0.1",
  upstream: "0.1",
  "tls-cert-file": "0.1",
  "tls-private-key-file": "0.1",
  "tls-min-version": "0.5",
  "ignore-paths": "0.8",
  "allow-paths": "0.8",
  "proxy-endpoints-port": "0.14",
  "kube-api-qps": "0.17",
  "kube-api-burst": "0.17"
}

export const flagsOf = (args: ReadonlyArray<string>): Readonly<Record<string, string>> =>
  Object.fromEntries(args.map((arg) => {
    const [, name, value] = /^--([a-z-]+)=(.+)$/.exec(arg) ?? []
    if (name === undefined || value === undefined) throw new Error(`${arg} is not spelled --flag=value`)
    return [name, value]
  }))

export const sidecarsOf = (objects: ReadonlyArray<KubernetesObject>): ReadonlyArray<Sidecar> =>
  podOf(objects).initContainers.map(({ args, name }) => {
    const flags = flagsOf(args)
    const list = (flag: string) => flags[flag]?.split(",") ?? []
    return {
      name,
      port: Number(/^:(\d+)$/.exec(flags["secure-listen-address"] ?? "")?.[1]),
      healthPort: Number(flags["proxy-endpoints-port"]),
      upstream: new URL(flags["upstream"] ?? ""),
      ignorePaths: list("ignore-paths"),
      allowPaths: list("allow-paths")
    }
  })

/** `undefined` is no token at all; `"stranger"` is one that is valid and that nothing is granted to. */
export type Account = string | undefined

/** 401, 403 or 404 when the sidecar answers itself; `undefined` when the request reaches the service. */
export const refusal = (
  sidecar: Sidecar,
  objects: ReadonlyArray<KubernetesObject>,
  request: { readonly method: string; readonly path: string; readonly account: Account }
): 401 | 403 | 404 | undefined => {
  const path = decodeURIComponent(request.path)
  if (sidecar.allowPaths.length > 0 && !sidecar.allowPaths.includes(path)) return 404
  if (sidecar.ignorePaths.includes(path)) return undefined
  if (request.account === undefined) return 401
  const verb = { GET: "get", POST: "create", DELETE: "delete" }[request.method]
  const granted = rulesOf(objects, request.account).some(({ nonResourceURLs = [], verbs }) =>
    verb !== undefined && verbs.includes(verb) && nonResourceURLs.some((url) => covers(url, path))
  )
  return granted ? undefined : 403
}

/** As Kubernetes reads a role: an asterisk at the end stands for all that may follow. */
const covers = (url: string, path: string): boolean =>
  url.endsWith("*") ? path.startsWith(url.slice(0, -1)) : path === url

/** The rules that the cluster roles of these objects grant to a service account. */
export const rulesOf = (objects: ReadonlyArray<KubernetesObject>, account: string): ClusterRole["rules"] => {
  const bindings = objects.filter((object): object is ClusterRoleBinding => object.kind === "ClusterRoleBinding")
  const roles = objects.filter((object): object is ClusterRole => object.kind === "ClusterRole")
  return bindings
    .filter(({ subjects }) => subjects.some(({ name }) => name === account))
    .flatMap(({ roleRef }) => roles.filter(({ metadata }) => metadata.name === roleRef.name))
    .flatMap(({ rules }) => rules)
}
