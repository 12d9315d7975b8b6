/**
 * Time that stands still until a test moves it.
 *
 * The core takes `nowMs` as an argument, so a test hands it `clock.nowMs` and moves the clock
 * between two calls. Parts that wait get `clock.after`; their callbacks run inside `advance`, in
 * the order of their time, each with the clock at its own time, so a scenario of ten minutes takes
 * microseconds and always goes the same way.
 */
import assert from 'node:assert/strict'

/** Wednesday, 2 January 2030, 00:00 UTC: a recognisable day, far from zero and from today. */
const START_MS = Date.UTC(2030, 0, 2)

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

export class VirtualClock {
  #nowMs: number
  #waiting: { readonly atMs: number; readonly callback: () => void }[] = []

  constructor(startMs = START_MS) {
    this.#nowMs = startMs
  }

  /** Milliseconds since 1970. */
  get nowMs(): number {
    return this.#nowMs
  }

  /** Moves time on: `advance('30s')`, `advance(250)` in milliseconds. Returns the new `nowMs`. */
  advance(duration: string | number): number {
    const endMs = this.#nowMs + durationMs(duration)
    for (;;) {
      const next = this.#next(endMs)
      if (next === undefined) break
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.callback()
    }
    this.#nowMs = endMs
    return endMs
  }

  /** Calls back when the clock has moved that far; the function returned takes it back. */
  after(duration: string | number, callback: () => void): () => void {
    const entry = { atMs: this.#nowMs + durationMs(duration), callback }
    this.#waiting.push(entry)
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== entry)
    }
  }

  /** The earliest due by `endMs`; of equals, the one that was asked for first. */
  #next(endMs: number): { readonly atMs: number; readonly callback: () => void } | undefined {
    let first: { readonly atMs: number; readonly callback: () => void } | undefined
    for (const entry of this.#waiting) {
      if (entry.atMs <= endMs && (first === undefined || entry.atMs < first.atMs)) first = entry
    }
    return first
  }
}

/** '250ms', '30s', '1.5m', '2h', '1d', or a number of milliseconds. Not negative. */
export function durationMs(duration: string | number): number {
  if (typeof duration === 'number') {
    assert(duration >= 0, `time does not run backwards: ${duration}`)
    return duration
  }
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(duration)
  assert(parts !== null, `not a duration: '${duration}'; write 250ms, 30s, 5m, 2h or 1d`)
  return Number(parts[1]) * UNIT_MS[parts[2]!]!
}
