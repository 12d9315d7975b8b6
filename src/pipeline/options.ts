/**
 * Bounds for one client. config/options.ts collects them; the pipeline takes the values.
 */
import type { Option } from '../option.ts'

export const LIMIT_OPTIONS = [
  {
    key: 'limits.queriesPerSecond',
    kind: 'integer',
    default: 10_000,
    min: 0,
    max: 1_000_000,
    why: 'Questions that one client may ask in a second, of each process; what it asks beyond that gets SERVFAIL. 0: no bound. The default is what the busiest of whole nodes are reported to ask, and costs less than a tenth of a core.',
  },
  {
    key: 'limits.grants',
    kind: 'integer',
    default: 8192,
    min: 1,
    max: 65_536,
    why: 'New grants of one client in the time for which they last (15 s to a day, by the TTL), of each process; an answer that would need more is withheld, with SERVFAIL. At twice that in force, in both processes, one client by itself fills half of a kernel set, which takes 65,536.',
  },
] as const satisfies readonly Option[]
