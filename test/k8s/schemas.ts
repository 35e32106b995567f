/**
 * Finds the faults of an object by its schema: Kubernetes's own schemas, and those of the custom resources.
 *
 * **Details**
 *
 * The validators take unknown fields, as an API server does that prunes them; a misspelled field would go unnoticed. So they
 * are given the object behind a proxy that notes what they look at: a field nobody looks at is one that no schema names.
 */
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { KubernetesObject } from "./kustomize.ts"

const packages: Readonly<Record<string, string>> = {
  "cert-manager.io": "@kubernetes-models/cert-manager/cert-manager.io",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api/gateway.networking.k8s.io",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator/monitoring.coreos.com"
}

/** The fields of a Route that manifests set. No package has OpenShift's schemas. */
const Route = Schema.Struct({
  apiVersion: Schema.Literal("route.openshift.io/v1"),
  kind: Schema.Literal("Route"),
  metadata: Schema.Struct({
    name: Schema.String,
    namespace: Schema.optional(Schema.String),
    labels: Schema.optional(Schema.Record(Schema.String, Schema.String)),
    annotations: Schema.optional(Schema.Record(Schema.String, Schema.String))
  }),
  spec: Schema.Struct({
    host: Schema.optional(Schema.String),
    path: Schema.optional(Schema.String),
    to: Schema.Struct({ kind: Schema.Literal("Service"), name: Schema.String, weight: Schema.optional(Schema.Int) }),
    port: Schema.Struct({ targetPort: Schema.Union([Schema.String, Schema.Int]) }),
    tls: Schema.Struct({
      termination: Schema.Literals(["edge", "passthrough", "reencrypt"]),
      insecureEdgeTerminationPolicy: Schema.optional(Schema.Literals(["None", "Allow", "Redirect"])),
      destinationCACertificate: Schema.optional(Schema.String)
    }),
    wildcardPolicy: Schema.optional(Schema.Literals(["None", "Subdomain"]))
  })
})

export const violations = async (object: KubernetesObject): Promise<ReadonlyArray<string>> => {
  if (object.apiVersion === "route.openshift.io/v1") {
    const decoded = Schema.decodeUnknownExit(Route)(object, { onExcessProperty: "error", errors: "all" })
    return Exit.isSuccess(decoded) ? [] : [String(decoded.cause)]
  }
  const [group = "", version] = object.apiVersion.includes("/") ? object.apiVersion.split("/") : ["", object.apiVersion]
  const path = [
    packages[group] ?? (group === "" ? "kubernetes-models" : `kubernetes-models/${group}`),
    version,
    object.kind
  ]
  const model = await import(path.join("/")) as Record<
    string,
    { readonly prototype: { readonly validate: () => void } }
  >
  const looks = new Set<string>()
  try {
    model[object.kind]!.prototype.validate.call(watched(object, "", looks))
  } catch (error) {
    return [`${object.kind} ${object.metadata.name}: ${String(error)}`]
  }
  return fieldsOf(object).filter((field) => !looks.has(field)).map((field) =>
    `${object.kind} ${object.metadata.name}: ${field} is in no schema`
  )
}

const watched = <A extends object>(value: A, path: string, looks: Set<string>): A =>
  new Proxy(value, {
    get: (target, key) => {
      const field = Reflect.get(target, key) as unknown
      if (typeof key === "symbol") return field
      looks.add(`${path}/${key}`)
      return typeof field === "object" && field !== null ? watched(field, `${path}/${key}`, looks) : field
    },
    // Only a free-form map is gone through key by key.
    ownKeys: (target) => {
      for (const key of Reflect.ownKeys(target)) looks.add(`${path}/${String(key)}`)
      return Reflect.ownKeys(target)
    }
  })

const fieldsOf = (value: unknown, path = ""): ReadonlyArray<string> =>
  typeof value === "object" && value !== null
    ? Object.entries(value).flatMap(([key, field]) => [`${path}/${key}`].concat(fieldsOf(field, `${path}/${key}`)))
    : []
