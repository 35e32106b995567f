/** The settings in words: for `sprayproxy server --help` and for `docs/settings.md`. */
import type { Definition } from "./Definition.ts"
import { definitions } from "./Table.ts"

/** Every setting with its default and its variable, for a terminal of 80 columns. */
export const settingsHelp = (): string =>
  all.map((definition) =>
    [
      `  ${flagText(definition) ?? definition.variable}`,
      ...wrapped(definition.description, 72),
      ...wrapped(
        definition.flag === undefined
          ? `[default: ${definition.defaultText}]`
          : `[default: ${definition.defaultText}] [env: ${definition.variable}]`,
        100
      )
    ].join("\n      ")
  ).join("\n")

/** The table of `docs/settings.md`, in markdown. */
export const settingsTable = (): string =>
  [
    "| flag | environment | default | |",
    "| --- | --- | --- | --- |",
    ...all.map((definition) =>
      row([
        code(flagText(definition)) + (definition.repeatable ? " …" : ""),
        code(definition.variable),
        definition.defaultText,
        definition.description
      ])
    )
  ].join("\n")

const all: ReadonlyArray<Definition<unknown>> = Object.values(definitions)

const flagText = ({ flag, metavar }: Definition<unknown>): string | undefined =>
  flag === undefined ? undefined : `--${flag}${metavar.startsWith("[") ? "" : " "}${metavar}`

const code = (text: string | undefined): string => text === undefined ? "" : `\`${text}\``

const row = (cells: ReadonlyArray<string>): string =>
  `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

const wrapped = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const word of text.split(" ")) {
    const line = lines.at(-1)
    if (line === undefined || line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = `${line} ${word}`
  }
  return lines
}
