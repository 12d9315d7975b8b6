/** `namegate cache list`: the answers that a daemon holds. */
import type { CacheRow } from '../observe/rows.ts'
import { EXIT_OK } from './failure.ts'
import { compareTexts, printListing } from './list.ts'
import type { CommonOptions, Surroundings } from './surroundings.ts'

export interface CacheListOptions extends CommonOptions {
  /** Only this name and what is below it. */
  readonly name?: string
}

export async function runCacheList(
  options: CacheListOptions,
  surroundings: Surroundings,
): Promise<number> {
  await printListing<CacheRow>(
    {
      command: 'cache-list',
      args: options.name === undefined ? {} : { name: options.name },
      columns: [
        { title: 'NAME', cell: (row) => row.name },
        { title: 'TYPE', cell: (row) => row.type },
        { title: 'KIND', cell: (row) => row.kind },
        { title: 'TTL', align: 'right', cell: (row) => `${row.ttlSeconds}s` },
        { title: 'BYTES', align: 'right', cell: (row) => row.bytes },
        { title: 'ADDRESSES', cell: (row) => row.addresses.join(' ') || '-' },
      ],
      compare: (a, b) => compareTexts(a.name, b.name) || compareTexts(a.type, b.type),
    },
    options,
    surroundings,
  )
  return EXIT_OK
}
