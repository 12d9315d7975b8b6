/**
 * What does an answer cost in a mix like that of a node: names asked for by Zipf's law, and one
 * question in twenty new.
 */
import { join } from 'node:path'
import { writeKnownNames, writeMixedNames } from './names.ts'
import type { BenchOptions, BenchReport } from './report.ts'
import { type Load, sideBySide } from './side-by-side.ts'
import { OURS, OURS_BOTH, OURS_PLAIN } from './subjects.ts'

const KNOWN_NAMES = 10_000
const QUERIES = 120_000
const ADDRESSES = 32

export function run(options: BenchOptions): Promise<BenchReport> {
  return sideBySide(options, {
    subjects: [OURS, OURS_BOTH, OURS_PLAIN, 'unbound', 'dnsdist', 'dnsmasq', 'coredns'],
    addresses: ADDRESSES,
    prepare,
    targets: () => [],
    notes: ['10,000 names by Zipf’s law, all in the cache, and 5 % that nobody has asked for.'],
  })
}

function prepare(directory: string): { warm: Load[]; loads: Load[] } {
  const [known, mixed] = [join(directory, 'known'), join(directory, 'mixed')]
  writeKnownNames(known, KNOWN_NAMES)
  writeMixedNames(mixed, { known: KNOWN_NAMES, count: QUERIES, freshShare: 0.05 })
  const name = '100 clients, 5 % of names new'
  return {
    warm: [{ name: 'warm', file: known, passes: 10, secondsMax: 20, clients: 100, rate: 40_000 }],
    loads: [{ name, file: mixed, passes: 1, secondsMax: 20, clients: 100 }],
  }
}
