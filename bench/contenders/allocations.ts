/**
 * Measures how much a contender allocates on V8's heap between two SIGUSR2. That is the growth of the heap plus what
 * each collection freed. It is loaded into the contender by `--import`, and answers with a line on stdout.
 *
 * V8's own profiler of collections notes the heap before and after each of them. It takes part in every collection, so
 * this runs in a process of its own, whose CPU time is not measured. Buffers are outside V8's heap and are not counted.
 */
import { GCProfiler, getHeapStatistics } from "node:v8"

let profiler: GCProfiler | undefined
let usedAtStart = 0

process.on("SIGUSR2", () => {
  if (profiler === undefined) {
    profiler = new GCProfiler()
    profiler.start()
    usedAtStart = getHeapStatistics().used_heap_size
    return console.log(JSON.stringify({ msg: "allocations from here" }))
  }
  const grown = getHeapStatistics().used_heap_size - usedAtStart
  const freed = profiler.stop()!.statistics.reduce(
    (sum, { afterGC, beforeGC }) => sum + beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize,
    0
  )
  profiler = undefined
  console.log(JSON.stringify({ msg: "allocated", bytes: grown + freed }))
})
