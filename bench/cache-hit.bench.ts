/**
 * What does a cached answer cost?
 *
 * NAME_COUNT names, all known after the warm-up, asked by one client and by a hundred. Namegate
 * answers through its interception, its clients governed: policy check, grant check and record of
 * the flow are part of each answer. The others listen on the node's address and do none of that.
 */
import { join } from 'node:path'
import { writeKnownNames } from './names.ts'
import type { BenchOptions, BenchReport, Target } from './report.ts'
import { type Cost, type Load, sideBySide } from './side-by-side.ts'
import { FLOOR, FLOOR_PLAIN, OURS, OURS_BOTH, OURS_PLAIN, SUBJECTS } from './subjects.ts'

const NAME_COUNT = 10_000
/** As docs say of grants: clients with 32 open addresses each. */
const ADDRESSES = 32
/** The same for everyone; one of them is compiled while it runs. */
const WARM = { passes: 12, secondsMax: 30, clients: 100, rate: 40_000 } as const
const SHARED_RATE = 20_000

const ONE = '1 client, as fast as answers come'
const MANY = '100 clients, as fast as answers come'
const STEADY = '100 clients, 20,000 q/s'

export function run(options: BenchOptions): Promise<BenchReport> {
  return sideBySide(options, {
    subjects: SUBJECTS.map(({ name }) => name),
    addresses: ADDRESSES,
    prepare,
    targets,
    notes: ['10,000 names, all in the cache; dnsperf keeps 128 queries on their way.'],
  })
}

function prepare(directory: string): { warm: Load[]; loads: Load[] } {
  const file = join(directory, 'names')
  writeKnownNames(file, NAME_COUNT)
  const fast = { file, passes: 20, secondsMax: 10 }
  const steady = { file, passes: 12, secondsMax: 10, rate: SHARED_RATE }
  return {
    warm: [{ name: 'warm', file, ...WARM }],
    loads: [
      { name: ONE, clients: 1, ...fast },
      { name: MANY, clients: 100, ...fast },
      { name: STEADY, clients: 100, ...steady },
    ],
  }
}

function targets(cost: Cost): Target[] {
  const found: Target[] = []
  for (const load of [ONE, MANY]) {
    const measured = cost.of(OURS, load)
    const floor = cost.ratio(OURS, FLOOR, load)
    const plain = cost.ratio(OURS_PLAIN, FLOOR_PLAIN, load)
    found.push({ what: `CPU × floor, ${load}`, measured: floor, limit: 1.25 })
    found.push({ what: `CPU × floor, both plain, ${load}`, measured: plain, limit: 1.25 })
    for (const peer of ['unbound', 'dnsdist', 'dnsmasq']) {
      found.push({ what: `CPU, ${load}, against ${peer}`, measured, limit: cost.of(peer, load) })
    }
    const coredns = cost.ratio(OURS, 'coredns', load)
    found.push({ what: `CPU × coredns, ${load}`, measured: coredns, limit: 0.4 })
  }
  const shared = cost.ratio(OURS_BOTH, OURS, STEADY)
  return [...found, { what: `two sharing × one alone, ${STEADY}`, measured: shared, limit: 1.15 }]
}
