/**
 * Draws the CPU time per delivery as a multiple of the floor's, for `docs/performance.md`. The picture suits a light
 * and a dark page.
 */
import {
  cpuPerDelivery,
  floorName,
  loggedFloorName,
  nginxName,
  type ScenarioResult,
  serverName
} from "../figures/Scenario.ts"
import type { Report } from "./Report.ts"

const width = 760
const labelWidth = 190
const right = 70
const barHeight = 16
const gap = 4
const groupGap = 18
const top = 64
const target = 1.3

/** Colours with contrast to white and to black. */
const colours: Readonly<Record<string, string>> = {
  [floorName]: "#8b949e",
  [loggedFloorName]: "#b58e3d",
  [serverName]: "#2f81f7",
  [nginxName]: "#3fa45b"
}

const ratiosOf = ({ measures }: ScenarioResult): ReadonlyArray<readonly [name: string, ratio: number]> => {
  const contenders = measures.find(({ name }) => name === cpuPerDelivery)?.contenders ?? {}
  return Object.entries(contenders).map(([name, { ratios }]) => [name, ratios?.[floorName]?.median ?? 1] as const)
}

export const chart = ({ machine, scenarios }: Report): string => {
  const shown = scenarios.filter(({ group }) => group === "payloads" || group === "tls")
  const groups = shown.map((scenario) => ({ name: scenario.name, ratios: ratiosOf(scenario) }))
  const most = Math.max(1.5, ...groups.flatMap(({ ratios }) => ratios.map(([, ratio]) => ratio)))
  const x = (ratio: number) => labelWidth + ratio / most * (width - labelWidth - right)
  const parts: Array<string> = []
  let y = top
  for (const { name, ratios } of groups) {
    const height = ratios.length * (barHeight + gap) - gap
    const [title, ...rest] = name.split(", ")
    parts.push(
      text(labelWidth - 12, y + height / 2 + (rest.length === 0 ? 4 : -3), title!, "end"),
      text(labelWidth - 12, y + height / 2 + 13, rest.join(", "), "end", "small")
    )
    for (const [contender, ratio] of ratios) {
      const length = (x(ratio) - labelWidth).toFixed(1)
      const colour = colours[contender] ?? colours[serverName]!
      parts.push(
        `<rect x="${labelWidth}" y="${y}" width="${length}" height="${barHeight}" rx="2" fill="${colour}"/>`,
        text(x(ratio) + 6, y + 12, ratio.toFixed(2), "start", "small")
      )
      y += barHeight + gap
    }
    y += groupGap
  }
  const bottom = y - groupGap
  const height = bottom + 40
  const line = `<path d="M${x(target).toFixed(1)} ${top - 8}V${bottom + 4}" stroke="#d1242f" stroke-dasharray="4 3"/>`
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title">
<title id="title">CPU time per delivery as a multiple of what bare Node needs for the same work</title>
<style>text{font:13px system-ui,sans-serif;fill:#57606a}.small{font-size:12px}.bold{font-weight:600;font-size:14px}@media(prefers-color-scheme:dark){text{fill:#9da7b1}}</style>
${text(0, 16, "CPU time per delivery, as a multiple of the floor", "start", "bold")}
${legend()}
${parts.join("\n")}
${line}
${text(x(target), top - 14, `target ${target}`, "middle", "small")}
${
    text(
      0,
      height - 8,
      `floor: bare node:http + undici, same work, no logs, no metrics · Node ${machine.node} · ${machine.date}`,
      "start",
      "small"
    )
  }
</svg>
`
}

const legend = (): string =>
  [
    [floorName, "floor"],
    [loggedFloorName, "floor with logs and metrics"],
    [serverName, "sprayproxy"],
    [nginxName, "nginx mirror (checks no signature)"]
  ].map(
    ([name, label], i) => {
      const left = [0, 70, 270, 370][i]!
      return `<rect x="${left}" y="28" width="11" height="11" rx="2" fill="${colours[name!]}"/>${
        text(left + 17, 38, label!, "start", "small")
      }`
    }
  ).join("")

const text = (x: number, y: number, content: string, anchor: "start" | "middle" | "end", style?: string): string =>
  content === ""
    ? ""
    : `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"${
      style === undefined ? "" : ` class="${style}"`
    }>${content}</text>`
