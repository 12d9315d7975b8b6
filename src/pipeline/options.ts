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
] as const satisfies readonly Option[]
