/**
 * How long an answer is kept, and what it is worth afterwards. Pure arithmetic on seconds; the
 * cache and the pipeline call it.
 *
 * Three ages of an answer:
 *     fresh   its TTL runs
 *     stale   its TTL is over; given only while no upstream answers, with STALE_TTL_SECONDS, and
 *             it opens nothing new
 *     dead    as if it were not there
 *
 * Sources: RFC 2308 §5 (negative answers), RFC 2181 §8 (what a TTL may be), RFC 8767 §4–5 (stale),
 * RFC 9520 §3.2 (failures).
 */

/** With what TTL a stale answer is given. Source: RFC 8767 §4, and no longer: it may be wrong. */
export const STALE_TTL_SECONDS = 30

/**
 * RFC 9520 §3.2 demands at least one second and at most five minutes. Five seconds spare an ill
 * upstream most of the load and let clients notice at once that it is well again.
 */
export const FAILURE_SECONDS_MAX = 5

export const FRESH = 0
export const STALE = 1
export const DEAD = 2

export interface TtlLimits {
  /** cache.minTtl; for positive answers only. 0 to maxTtlSeconds. */
  readonly minTtlSeconds: number
  /** cache.maxTtl; from 1. */
  readonly maxTtlSeconds: number
  /** cache.maxNegativeTtl; 0 keeps no negative answers. */
  readonly maxNegativeTtlSeconds: number
}

/**
 * A TTL as it may be used: 0 when its highest bit is set.
 * RFC 2181 §8 says so. RFC 8767 §4 would take it for a long one; but it is never honest, and what
 * is not kept can't do harm.
 * @param ttlSeconds  32 bits, unsigned
 */
export function usableTtl(ttlSeconds: number): number {
  return ttlSeconds > 0x7fffffff ? 0 : ttlSeconds
}

/**
 * For how long a positive answer is kept; 0: it is not.
 * A TTL of 0 means this once only (RFC 1035 §3.2.1) and is not raised to minTtl.
 * @param lowestTtlSeconds  the lowest TTL of the records that make up the answer
 */
export function positiveTtl(lowestTtlSeconds: number, limits: TtlLimits): number {
  const ttl = usableTtl(lowestTtlSeconds)
  if (ttl === 0) return 0
  return Math.min(Math.max(ttl, limits.minTtlSeconds), limits.maxTtlSeconds)
}

/**
 * For how long a negative answer is kept; 0: it is not. Never raised to minTtl: a Service that was
 * just made would stay missing.
 * @param hasSoa  whether the authority section has a SOA record; without it nobody has said for
 *   how long there will be no such name, and the answer is not kept (RFC 2308 §5)
 * @param soaTtlSeconds  its TTL
 * @param soaMinimum  its MINIMUM field
 */
export function negativeTtl(
  hasSoa: boolean,
  soaTtlSeconds: number,
  soaMinimum: number,
  limits: TtlLimits,
): number {
  if (!hasSoa) return 0
  const ttl = Math.min(usableTtl(soaTtlSeconds), usableTtl(soaMinimum))
  return Math.min(ttl, limits.maxNegativeTtlSeconds, limits.maxTtlSeconds)
}

/**
 * For how long it is not asked again after a failure: 1, 2, 4, 5, 5, … seconds.
 * @param failures  failures in a row for this question, this one included; from 1
 */
export function failureTtl(failures: number): number {
  return failures >= 4 ? FAILURE_SECONDS_MAX : 1 << (failures - 1)
}

/** FRESH, STALE or DEAD, from the milliseconds that are left of the TTL; negative: since its end. */
export function freshness(remainingMs: number, serveStaleMs: number): number {
  if (remainingMs > 0) return FRESH
  return remainingMs + serveStaleMs > 0 ? STALE : DEAD
}

/**
 * The TTL to write into one record of a fresh answer.
 * @param ttlSeconds  as the upstream sent it
 * @param ageSeconds  since it came, whole
 * @param floorSeconds  minTtl for a positive answer, 0 for a negative one
 * @param capSeconds  maxTtl for a positive answer; for a negative one the TTL that it is kept for,
 *   so that no client keeps the SOA, and with it the absence, for longer than we do
 */
export function recordTtl(
  ttlSeconds: number,
  ageSeconds: number,
  floorSeconds: number,
  capSeconds: number,
): number {
  const usable = usableTtl(ttlSeconds)
  const raised = usable < floorSeconds ? floorSeconds : usable
  const ttl = (raised > capSeconds ? capSeconds : raised) - ageSeconds
  return ttl > 0 ? ttl : 0
}

/** Shorter TTLs are not refreshed ahead: a tenth of them is hardly longer than the asking. */
const PREFETCH_TTL_SECONDS_MIN = 10

/**
 * Whether a hit should have the answer asked for again: in the last tenth of its TTL. Only a hit
 * asks, so names that nobody wants run out.
 */
export function isPrefetchDue(ttlSeconds: number, ageSeconds: number): boolean {
  return ttlSeconds >= PREFETCH_TTL_SECONDS_MIN && ageSeconds * 10 >= ttlSeconds * 9
}
