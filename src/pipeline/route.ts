/**
 * Route: which upstream group the name is asked of. It comes before the cache, because the group is
 * part of what makes two questions the same.
 */
import { REASON_NO_UPSTREAM } from '../flow/reason.ts'
import { NO_GROUP } from '../upstream/transport.ts'
import type { Context } from './context.ts'

/** False when nobody is there to ask; arrival.reason then says so. */
export function route(context: Context, nowMs: number): boolean {
  const arrival = context.arrival
  const group = context.parts.transport.route(
    arrival.name,
    0,
    arrival.query.nameBytes,
    arrival.isIntercepted ? arrival.family : 0,
    arrival.addresses,
    arrival.destinationAt,
    arrival.destinationPort,
    context.shares.clientOf(arrival.share),
    nowMs,
  )
  arrival.question.group = group
  if (group !== NO_GROUP) return true
  arrival.reason = REASON_NO_UPSTREAM
  return false
}
