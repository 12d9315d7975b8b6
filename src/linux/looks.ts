/**
 * Looks: what the main thread does now and then, for everybody in one waking.
 *
 * A waking costs more than what is done in it, so parts that look at something every second do it
 * together: at multiples of their interval on the machine's clock, which is the same for all parts
 * and for every process of the machine. Two processes that tell each other something at each look
 * then hear it in the waking in which they speak.
 *
 * What must stay true: who is late does not make up for it: one look, and the next at its time.
 */
import { monotonicMs } from './process.ts'

/** Timers count by whole milliseconds of their own: who is due by then is served now. */
const EARLY_MS = 2

interface Look {
  readonly everyMs: number
  readonly look: () => void
  dueMs: number
}

const looks = new Set<Look>()
let timer: NodeJS.Timeout | null = null
/** When `timer` ends. */
let wakeMs = 0

/** Calls `look` at every multiple of `everyMs` until it is disposed of. Keeps no process running. */
export function lookEvery(everyMs: number, look: () => void): Disposable {
  const nowMs = monotonicMs()
  const entry: Look = { everyMs, look, dueMs: nextMs(everyMs, nowMs) }
  looks.add(entry)
  if (timer === null || entry.dueMs < wakeMs) arm(nowMs)
  return { [Symbol.dispose]: () => void looks.delete(entry) }
}

function nextMs(everyMs: number, nowMs: number): number {
  return (Math.floor((nowMs + EARLY_MS) / everyMs) + 1) * everyMs
}

function arm(nowMs: number): void {
  if (timer !== null) clearTimeout(timer)
  timer = null
  wakeMs = Infinity
  for (const { dueMs } of looks) if (dueMs < wakeMs) wakeMs = dueMs
  if (wakeMs !== Infinity) timer = setTimeout(lookAround, wakeMs - nowMs).unref()
}

function lookAround(): void {
  const nowMs = monotonicMs()
  const due: Look[] = []
  for (const entry of looks) {
    if (entry.dueMs > nowMs + EARLY_MS) continue
    entry.dueMs = nextMs(entry.everyMs, nowMs)
    due.push(entry)
  }
  arm(nowMs)
  // One that another one has just ended is not called any more.
  for (const entry of due) if (looks.has(entry)) entry.look()
}
