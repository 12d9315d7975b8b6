/**
 * Limit: whether the client asks more often than it may, before anything is done for it. What it may
 * hold of slots and flights is asked when it needs one (slot.ts).
 *
 * A question too many is answered, not dropped: a client that waits for an answer which never comes
 * loses five seconds, one that is told so can go slower. Such a reply is as long as its question (and
 * at most OPT_BYTES_MAX longer), so that a forged source gains nothing by it.
 */
import { REASON_RATE_LIMIT } from '../flow/reason.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'

const RATE_LIMIT = counterIndex('rateLimit')

/** False when it does; arrival.reason then says so. */
export function limit(context: Context, nowMs: number): boolean {
  if (context.shares.pace(context.arrival.share, nowMs)) return true
  context.parts.counters.add(RATE_LIMIT, 1)
  context.arrival.reason = REASON_RATE_LIMIT
  return false
}
