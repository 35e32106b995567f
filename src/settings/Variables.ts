/**
 * Environment variables that look like settings and are none.
 *
 * **Details**
 *
 * A misspelt variable would go unnoticed, because its setting keeps the default. So the start warns of it.
 *
 * Kubernetes, as Docker's links did, puts variables into a pod for each Service of its namespace
 * (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables). Those of a Service
 * `sprayproxy` begin as ours do, and a Service `sprayproxy-server` even brings `SPRAYPROXY_SERVER_PORT`. They are not
 * read as settings.
 */
import { clientVariables, definitions } from "./Table.ts"

/** Environment variables, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The environment without the variables that Kubernetes has put in the place of a setting. */
export const withoutServiceLinks = (env: Environment): Environment => {
  const links = linkedSettings(env)
  return links.length === 0
    ? env
    : Object.fromEntries(Object.entries(env).filter(([name]) => !links.includes(name)))
}

/**
 * One line for each variable that was surely meant as a setting and does nothing. No line shows a value, which may be a
 * secret.
 */
export const variableWarnings = (env: Environment): ReadonlyArray<string> => [
  ...linkedSettings(env).map((name) =>
    `${name} is not used: Kubernetes has set it for a Service named ${serviceOf(name)}. enableServiceLinks: false in ` +
    "the pod keeps such variables out, and another name of the Service does too"
  ),
  ...Object.keys(env).filter((name) => (env[name] ?? "").trim() !== "" && !names.has(name)).flatMap((name) => {
    const meant = nearest(name)
    if (!ours.test(name) && meant === undefined || isServiceLink(name, env)) return []
    return [`${name} is set and is no setting${meant === undefined ? "" : `: did you mean ${meant}?`}`]
  })
]

const names: ReadonlySet<string> = new Set([
  ...Object.values(definitions).map(({ variable }) => variable),
  ...Object.values(clientVariables)
])

const ours = /^(spray[-_.]?proxy|gh[-_.]?app[-_.]?webhook)[-_.]/i

const linkedSettings = (env: Environment): ReadonlyArray<string> =>
  [...names].filter((name) => isServiceLink(name, env))

const linkEnding =
  /^(.+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/

/**
 * Whether Kubernetes has set the variable for a Service. `X_PORT` counts only if its value is a link's (`tcp://…`): any
 * other may be somebody's mistake for a setting.
 */
const isServiceLink = (name: string, env: Environment): boolean => {
  const service = linkEnding.exec(name)?.[1]
  return service !== undefined && env[`${service}_SERVICE_HOST`] !== undefined &&
    (name !== `${service}_PORT` || /^(tcp|udp|sctp):\/\//.test(env[name] ?? ""))
}

const serviceOf = (name: string): string => name.replace(/_PORT$/, "").toLowerCase().replaceAll("_", "-")

/**
 * Each variable under every name that people may give it: its own, its flag's, or its own with the prefix of other
 * variables.
 */
const spellings: ReadonlyArray<readonly [spelling: string, variable: string]> = [
  ...[...names].map((name) => [name, name] as const),
  ...Object.values(definitions).flatMap(({ flag, variable }) =>
    [flag?.toUpperCase().replaceAll("-", "_"), variable.replace(/^(GH_APP|SPRAYPROXY(_SERVER)?)_/, "")].flatMap((
      stem
    ) =>
      stem === undefined
        ? []
        : [[`SPRAYPROXY_${stem}`, variable] as const, [`SPRAYPROXY_SERVER_${stem}`, variable] as const]
    )
  )
]

const furthest = 3

const nearest = (name: string): string | undefined => {
  // Only names that begin almost like ours are compared. Where there are many Services there are thousands of
  // variables, and they must not slow the start down.
  if (!/^(spr|gh)/i.test(name)) return undefined
  const spelt = name.toUpperCase().replaceAll(/[-.]/g, "_")
  let [best, distance] = [undefined as string | undefined, furthest + 1]
  for (const [spelling, variable] of spellings) {
    if (Math.abs(spelling.length - spelt.length) >= distance) continue
    const next = distanceBetween(spelt, spelling)
    if (next < distance) [best, distance] = [variable, next]
  }
  return best
}

/** The edit distance (Levenshtein): how many letters have to be added, removed or changed. */
const distanceBetween = (one: string, other: string): number => {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at)
  for (let i = 1; i <= one.length; i++) {
    const next = [i]
    for (let j = 1; j <= other.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (one[i - 1] === other[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[other.length]!
}
