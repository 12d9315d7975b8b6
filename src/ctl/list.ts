/**
 * What the listing commands share: ask whichever daemon answers, print a table or JSON lines.
 */
import { ask, ROLES } from './client.ts'
import { type CommonOptions, daemonPlace, type Surroundings } from './surroundings.ts'
import { type Column, tableLines } from './table.ts'

export interface Listing<Row> {
  readonly command: string
  readonly args: Readonly<Record<string, unknown>>
  readonly columns: readonly Column<Row>[]
  /** The order of the table; JSON lines come as the daemon sends them. */
  readonly compare: (a: Row, b: Row) => number
}

/** Prints the rows of a command that the agent or, without one, the proxy answers. */
export async function printListing<Row>(
  listing: Listing<Row>,
  options: CommonOptions,
  surroundings: Surroundings,
): Promise<Row[]> {
  const { run } = daemonPlace(options, surroundings)
  const { command, args } = listing
  const rows: Row[] = []
  for await (const row of ask<Row>({ run, roles: ROLES, command, args })) {
    if (options.output === 'json') surroundings.out(`${JSON.stringify(row)}\n`)
    rows.push(row)
  }
  if (options.output !== 'json') {
    const lines = tableLines(listing.columns, rows.toSorted(listing.compare))
    surroundings.out(`${lines.join('\n')}\n`)
  }
  return rows
}

/** Order of texts by their characters' codes: the same everywhere. */
export function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
