/** The services that all scenarios share. */
import * as Context from "effect/Context"
import type { Machine } from "../machine/Machine.ts"
import type { Options } from "./Options.ts"

export class Setup extends Context.Service<Setup, {
  readonly options: Options
  readonly machine: Machine
  /** A directory for the files of the contenders. It is removed afterwards. */
  readonly directory: string
}>()("sprayproxy/bench/command/Setup") {}
