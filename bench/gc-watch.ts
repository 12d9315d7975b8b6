/**
 * Loaded into each thread of Namegate by `--import` while pauses.bench.ts measures it: prints a
 * line 'gc main|worker MS' for each garbage collection of the thread, and a first one that says so.
 */
import { writeSync } from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const STDERR = 2
const thread = isMainThread ? 'main' : 'worker'

new PerformanceObserver((list) => {
  const lines = list.getEntries().map(({ duration }) => `gc ${thread} ${duration.toFixed(3)}\n`)
  writeSync(STDERR, lines.join('')) // a stream of a worker waits for the main thread
}).observe({ entryTypes: ['gc'] })
writeSync(STDERR, `watching the gc of ${thread}\n`)
