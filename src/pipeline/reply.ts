/**
 * Reply: the end of a query that is not refused, whoever found the answer (answer.ts, special.ts,
 * relay.ts): a place for the reply is opened, filled, and let go with a flow. In audit mode the flow
 * says what policy would have done instead.
 *
 * What must stay true: each query ends in one flow, also when the way back to its client is gone.
 */
import { VERDICT_AUDIT, VERDICT_FORWARDED } from '../flow/record.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { record } from './record.ts'

const REPLIES_LOST = counterIndex('repliesLost')

/** Opens the place that context.parts.replies says; false when there is none, and the query has ended. */
export function openReply(context: Context, reason: number, nowMs: number): boolean {
  if (context.parts.replies.open(context.arrival)) return true
  context.parts.counters.add(REPLIES_LOST, 1)
  recordReply(context, 0, reason, nowMs)
  return false
}

/** The reply that was opened is `length` bytes long and leaves. */
export function sendReply(context: Context, length: number, reason: number, nowMs: number): void {
  context.parts.replies.send(context.arrival, length)
  recordReply(context, length, reason, nowMs)
}

/** @param bytes  of the reply that was sent last, 0 for none that says the name: record.ts */
export function recordReply(context: Context, bytes: number, reason: number, nowMs: number): void {
  const { arrival } = context
  const verdict = arrival.isAudited ? VERDICT_AUDIT : VERDICT_FORWARDED
  record(context, verdict, arrival.isAudited ? arrival.reason : reason, bytes, nowMs)
}
