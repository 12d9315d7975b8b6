/**
 * What does an answer cost that only the upstream knows?
 *
 * Every question is new, and every answer has an address that the client has not been given yet:
 * each one is a question to the upstream, an entry of the cache and, in Namegate with interception,
 * a grant in the kernel. Without interception (namegate-plain) there are no grants.
 */
import { join } from 'node:path'
import { writeFreshNames } from './names.ts'
import type { BenchOptions, BenchReport, Target } from './report.ts'
import { type Cost, type Load, sideBySide } from './side-by-side.ts'
import { OURS, OURS_BOTH, OURS_PLAIN } from './subjects.ts'

/** All of 198.18.0.0/15. */
const ADDRESSES = 131_072
/** Together no more than the grants that a node's kernel takes of one kind (65,536). */
const WARM_NAMES = 20_000
const NAMES = 40_000

const MISSES = '100 clients, every name new'

export function run(options: BenchOptions): Promise<BenchReport> {
  return sideBySide(options, {
    subjects: [OURS, OURS_BOTH, OURS_PLAIN, 'unbound', 'dnsdist', 'dnsmasq', 'coredns'],
    addresses: ADDRESSES,
    prepare,
    targets,
    notes: ['40,000 new names after 20,000 others: asked is 1 where nobody asks twice.'],
  })
}

function prepare(directory: string): { warm: Load[]; loads: Load[] } {
  const [warm, file] = [join(directory, 'warm'), join(directory, 'names')]
  writeFreshNames(warm, 0, WARM_NAMES)
  writeFreshNames(file, WARM_NAMES, NAMES)
  const common = { passes: 1, secondsMax: 20, clients: 100 }
  return {
    warm: [{ name: 'warm', file: warm, ...common }],
    loads: [{ name: MISSES, file, ...common }],
  }
}

function targets(cost: Cost): Target[] {
  const limit = cost.of('unbound', MISSES)
  return [
    { what: 'CPU of a miss, against unbound', measured: cost.of(OURS, MISSES), limit },
    {
      what: 'CPU of a miss, plain sockets, against unbound',
      measured: cost.of(OURS_PLAIN, MISSES),
      limit,
    },
    {
      what: 'questions to the upstream, two processes × one',
      measured: cost.asked(OURS_BOTH, MISSES) / cost.asked(OURS, MISSES),
      limit: 1.1,
    },
  ]
}
