/**
 * What does a cached answer cost over TCP: with a connection for each query, as resolvers ask that
 * were told to by a truncated answer, and with many queries in one (RFC 7766)?
 */
import { join } from 'node:path'
import { writeKnownNames } from './names.ts'
import type { BenchOptions, BenchReport, Target } from './report.ts'
import { type Cost, type Load, sideBySide } from './side-by-side.ts'
import { OURS, OURS_PLAIN } from './subjects.ts'

const NAME_COUNT = 10_000
const ADDRESSES = 32

const SINGLE = 'TCP, one query for each connection'
const PIPELINED = 'TCP, 10 connections, pipelined'

export function run(options: BenchOptions): Promise<BenchReport> {
  return sideBySide(options, {
    subjects: [OURS, OURS_PLAIN, 'unbound', 'coredns'],
    addresses: ADDRESSES,
    prepare,
    targets,
    notes: [
      '10,000 names, all in the cache; one client, since a connection is that of a client.',
      'dnsdist is left out: it asks by TCP who is asked by TCP, and the upstream speaks UDP only.',
    ],
  })
}

function prepare(directory: string): { warm: Load[]; loads: Load[] } {
  const file = join(directory, 'names')
  writeKnownNames(file, NAME_COUNT)
  const single = { transport: 'connections', clients: 20 } as const
  const pipelined = { transport: 'tcp', clients: 10 } as const
  const warm = { file, passes: 1, secondsMax: 10 }
  const measured = { file, secondsMax: 10 }
  return {
    warm: [
      { name: 'fill', clients: 100, ...warm },
      { name: 'warm single', ...warm, ...single },
      { name: 'warm pipelined', ...warm, ...pipelined, passes: 4 },
    ],
    loads: [
      { name: SINGLE, ...measured, ...single, passes: 2 },
      { name: PIPELINED, ...measured, ...pipelined, passes: 15 },
    ],
  }
}

function targets(cost: Cost): Target[] {
  return [SINGLE, PIPELINED].map((load) => ({
    what: `CPU, ${load}, against coredns`,
    measured: cost.of(OURS, load),
    limit: cost.of('coredns', load),
  }))
}
