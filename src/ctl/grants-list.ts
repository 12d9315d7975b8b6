/** `namegate grants list`: which addresses answers have opened, for whom and for how long. */
import type { GrantRow } from '../observe/rows.ts'
import { EXIT_OK } from './failure.ts'
import { compareTexts, printListing } from './list.ts'
import type { CommonOptions, Surroundings } from './surroundings.ts'
import { ageText } from './table.ts'

export interface GrantsListOptions extends CommonOptions {
  /** Only this client: 'namespace/name' or an address. */
  readonly client?: string
}

export async function runGrantsList(
  options: GrantsListOptions,
  surroundings: Surroundings,
): Promise<number> {
  await printListing<GrantRow>(
    {
      command: 'grants-list',
      args: options.client === undefined ? {} : { client: options.client },
      columns: [
        { title: 'CLIENT', cell: (row) => row.client },
        { title: 'FROM', cell: (row) => row.clientAddress },
        { title: 'ADDRESS', cell: (row) => row.address },
        { title: 'PORTS', cell: (row) => row.ports },
        { title: 'LEFT', align: 'right', cell: (row) => ageText(row.remainingSeconds) },
        { title: 'NAMES', cell: (row) => row.names.join(' ') || '-' },
      ],
      compare: (a, b) => compareTexts(a.client, b.client) || compareTexts(a.address, b.address),
    },
    options,
    surroundings,
  )
  return EXIT_OK
}
