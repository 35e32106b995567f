/**
 * The layers that recovery adds to durable mode. This file is loaded only if there is a GitHub App, so that others pay
 * nothing for it.
 */
import * as Layer from "effect/Layer"
import { RecoveryMetrics } from "./RecoveryMetrics.ts"
import type { GitHubApp } from "./github/Client.ts"
import * as OctokitLog from "./github/OctokitLog.ts"

/** The part above the store: GitHub's log. */
export const layerRecovery = (app: GitHubApp) => Layer.provideMerge(OctokitLog.layer(app), RecoveryMetrics.layer)
