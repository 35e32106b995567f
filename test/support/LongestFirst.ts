import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Folders whose files take longest, however short they are. */
const longest = ["/test/chaos/", "/test/crash/", "/test/e2e/durable/", "/test/store/"]

const rank = ({ moduleId }: TestSpecification): number => {
  const at = longest.findIndex((folder) => moduleId.includes(folder))
  return at < 0 ? longest.length : at
}

/**
 * A run ends when its last file does, so the longest files are begun first. Files that share a process stay together.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    // oxlint-disable-next-line unicorn/no-array-sort -- it is not an array that sorts
    const sorted = await super.sort(files)
    return sorted.toSorted((a, b) =>
      Number(b.project.config.isolate) - Number(a.project.config.isolate) || rank(a) - rank(b)
    )
  }
}
