/**
 * GitHub events that come all the time. An index of them would cost each delivery something, and a search always finds
 * one soon.
 */
export const commonEvents: ReadonlySet<string> = new Set([
  "push",
  "pull_request",
  "check_run",
  "check_suite",
  "issue_comment",
  "status",
  "workflow_job",
  "workflow_run"
])

/** Written as in the index's condition, so that the index is used. */
export const isRareEvent = `event NOT IN (${[...commonEvents].map((event) => `'${event}'`).join(", ")})`
