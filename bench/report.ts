/**
 * What a benchmark is asked and what it hands back; bench/main.ts prints and stores it.
 */

export interface BenchOptions {
  /** How often everything is measured; medians over rounds are what counts. */
  readonly rounds: number
  /** Bound of one measurement, whatever the number of queries. */
  readonly secondsMax: number
  /** Names of subjects to measure; empty: all. */
  readonly only: readonly string[]
  /** Told of each measurement as it is made. */
  readonly progress: (line: string) => void
}

export interface BenchReport {
  /** By subject. */
  readonly versions: Readonly<Record<string, string>>
  /** Subjects that could not be measured here, and why. */
  readonly absent: readonly { readonly name: string; readonly why: string }[]
  /** Every single one, as plain data. */
  readonly measurements: readonly object[]
  /** A table for people. */
  readonly lines: readonly string[]
}

/** The middle of the values, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  if (sorted.length % 2 === 1) return sorted[middle]!
  return (sorted[middle - 1]! + sorted[middle]!) / 2
}
