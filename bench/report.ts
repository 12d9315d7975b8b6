/**
 * What a benchmark is asked and what it hands back; bench/main.ts prints and stores it.
 */

export interface BenchOptions {
  /** How often everything is measured; medians over rounds are what counts. */
  readonly rounds: number
  /** Names of subjects to measure; empty: all. */
  readonly only: readonly string[]
  /** Told of each measurement as it is made. */
  readonly progress: (line: string) => void
}

export interface BenchReport {
  /** By subject: its version, and how it is tuned. */
  readonly subjects: Readonly<Record<string, { readonly version: string; readonly how: string }>>
  /** Subjects that could not be measured here, and why. */
  readonly absent: readonly { readonly name: string; readonly why: string }[]
  /** Every single one, as plain data. */
  readonly measurements: readonly object[]
  readonly tables: readonly Table[]
  /** What was promised, and what was measured; where both were measured. */
  readonly targets: readonly Target[]
  /** What a reader must know to read the tables right. */
  readonly notes: readonly string[]
}

/** Medians over the rounds; the first column says of whom or what. */
export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

export interface Target {
  /** 'CPU per query × floor, 100 clients' */
  readonly what: string
  readonly measured: number
  readonly limit: number
}

/** The middle of the values, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  if (sorted.length % 2 === 1) return sorted[middle]!
  return (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** '–' for what was not measured. */
export function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '–'
}

/** Lines for a terminal. */
export function textTable({ title, columns, rows }: Table): string[] {
  const all = [columns, ...rows]
  const widths = columns.map((_, index) => Math.max(...all.map((row) => [...row[index]!].length)))
  const isText = columns.map((_, index) =>
    rows.every((row) => /[^\d.–\s-]/.test(row[index] || 'x')),
  )
  const lines = all.map((row) =>
    row
      .map((cell, index) => {
        const room = ' '.repeat(widths[index]! - [...cell].length)
        return isText[index] ? cell + room : room + cell
      })
      .join('  ')
      .trimEnd(),
  )
  return [title, ...lines.map((line) => `  ${line}`)]
}

/** The same in markdown. */
export function markdownTable({ title, columns, rows }: Table): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [`### ${title}`, '', line(columns), line(columns.map(() => '---')), ...rows.map(line)]
}

/** A sentence for each target. */
export function targetLine({ what, measured, limit }: Target): string {
  const verdict = measured <= limit ? 'met' : 'MISSED'
  return `${verdict}: ${what}: ${fixed(measured, 2)}, at most ${fixed(limit, 2)}`
}
