/**
 * The cache's settings. config/options.ts collects them; AnswerCache and freshness.ts take the
 * values.
 */
import type { Option } from '../option.ts'

export const CACHE_OPTIONS = [
  {
    key: 'cache.size',
    kind: 'size',
    default: '32MiB',
    min: 1 << 20,
    max: 1 << 30,
    why: 'Memory for answers and their index, in each process. It is taken from the node as it fills. About 200 bytes a short answer: the default holds some 150,000.',
  },
  {
    key: 'cache.maxTtl',
    kind: 'duration',
    default: '1h',
    min: 1,
    max: 86400,
    why: 'A longer TTL is cut to this, for the client too. At most a day: the longest that a grant can last in the kernel.',
  },
  {
    key: 'cache.minTtl',
    kind: 'duration',
    default: '0s',
    min: 0,
    max: 3600,
    why: 'A shorter TTL is raised to this, but for 0 and for negative answers. 0s obeys the zone: raising a TTL keeps clients on addresses that their owner has left.',
  },
  {
    key: 'cache.maxNegativeTtl',
    kind: 'duration',
    default: '30s',
    min: 0,
    max: 10800,
    why: 'NXDOMAIN and NODATA are kept no longer than this, so that a new Service is found soon. At most three hours (RFC 2308 §5).',
  },
  {
    key: 'cache.serveStale',
    kind: 'duration',
    default: '0s',
    min: 0,
    max: 86400,
    why: 'For how long an expired answer may still be given while no upstream answers, with a TTL of 30 s. 0s: never. A governed client gets it only if it was granted the same addresses before. At most a day: an old address may by then be somebody else’s (RFC 8767 §7).',
  },
  {
    key: 'cache.prefetch',
    kind: 'boolean',
    default: false,
    why: 'Asks again for a name that is asked for in the last tenth of its TTL, so that popular names are never waited for. Only TTLs from 10 s on.',
  },
  {
    key: 'cache.nothingBelowNxdomain',
    kind: 'boolean',
    default: false,
    why: 'A cached NXDOMAIN answers for its name with every type, and for all names below it (RFC 8020), so that a flood of invented names below one that does not exist stays here. Leave it off where an upstream says NXDOMAIN for a name that has names below it but no records: it should say NODATA, and those names would be lost. Questions with DO are always asked, since the proof is not kept for them.',
  },
  {
    key: 'cache.rotate',
    kind: 'boolean',
    default: true,
    why: 'The addresses of a name come in changing order, since many clients connect to the first and to no other. With false they come as the upstream sent them.',
  },
] as const satisfies readonly Option[]
