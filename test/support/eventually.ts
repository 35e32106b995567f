/** Resolves when `condition` holds. It is asked every few milliseconds. Rejects after 30 s. */
export const eventually = async (
  condition: () => boolean | Promise<boolean>,
  what = "the condition"
): Promise<void> => {
  const deadline = performance.now() + 30_000
  // oxlint-disable no-await-in-loop -- it polls
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`${what} did not come true within 30 s`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  // oxlint-enable no-await-in-loop
}
