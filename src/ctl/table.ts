/**
 * Tables for people: columns as wide as their widest cell, two spaces between, no frame. Nothing
 * is cut: who pipes a table into grep wants the whole name.
 */
import { printable } from '../printable.ts'

export interface Column<Row> {
  readonly title: string
  readonly align?: 'left' | 'right'
  readonly cell: (row: Row) => string | number
}

/** The lines of a table; with no rows, only its titles. Cells may hold anything. */
export function tableLines<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  const titles = columns.map((column) => column.title)
  const cells = rows.map((row) => columns.map((column) => printable(String(column.cell(row)))))
  const widths = columns.map((_, index) =>
    Math.max(...[titles, ...cells].map((line) => line[index]!.length)),
  )
  return [titles, ...cells].map((line) =>
    line
      .map((cell, index) => {
        const width = widths[index]!
        return columns[index]!.align === 'right' ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd(),
  )
}

/** '3 clients', '1 client'. */
export function countOf(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`
}

/** '3d4h', '2h5m', '40s': the two largest units. */
export function ageText(seconds: number): string {
  const parts: string[] = []
  let rest = Math.max(0, Math.floor(seconds))
  for (const [unit, size] of [
    ['d', 86400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    if (rest >= size || (unit === 's' && parts.length === 0)) {
      parts.push(`${Math.floor(rest / size)}${unit}`)
    }
    rest %= size
  }
  return parts.slice(0, 2).join('')
}

/** '512B', '32.0MiB'. */
export function sizeText(bytes: number): string {
  let size = bytes
  for (const unit of ['B', 'KiB', 'MiB']) {
    if (size < 1024) return `${unit === 'B' ? size : size.toFixed(1)}${unit}`
    size /= 1024
  }
  return `${size.toFixed(1)}GiB`
}
