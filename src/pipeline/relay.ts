/**
 * Relay: what becomes of messages with another opcode than QUERY (NOTIFY, UPDATE, STATUS, unknown
 * ones). They are between a client and a server, and a forwarder that does not know what they mean
 * passes them on unchanged (RFC 5625 §3, §4.1): to the server that a question about the same name would
 * go to, once, by TCP if it came so (§4.4.1), and what it says back to the client. Only IDs are
 * replaced.
 *
 * What must stay true:
 * - Nothing of them is kept, and nothing learned or granted: what such a reply names stays closed.
 * - Nobody here knows what they ask for, so a governed client may send one only where a rule allows
 *   it to ask every name.
 * - Each gets one reply and one flow, as a question does.
 *
 * Stateful operations (DSO) are about the connection that they come by, which ends here: they are
 * not passed on but get NOTIMP (RFC 8490).
 */
import { REASON_NOT_IMPLEMENTED, REASON_RELAYED, REASON_UPSTREAM_FAILURE } from '../flow/reason.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { FLAG_TC, FLAGS_AT, HEADER_BYTES, ID_AT, OPCODE_DSO, QDCOUNT_AT } from '../wire/header.ts'
import { CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { decideEveryName } from './decide.ts'
import { keepOrRefuse } from './forward.ts'
import { identify } from './identify.ts'
import { limit } from './limit.ts'
import { refuse } from './refuse.ts'
import { openReply, recordReply } from './reply.ts'
import { route } from './route.ts'

const RELAYED = counterIndex('relayed')
const TRUNCATED = counterIndex('answersTruncated')
const DENIED_AUDIT = counterIndex('deniedAudit')

/** The message that has just arrived, of which no more than the header and a name was read. */
export function relay(context: Context, nowMs: number): void {
  const { arrival, slots } = context
  const { transport, counters } = context.parts
  identify(context, nowMs)
  if (!mayBeSent(context, nowMs)) {
    refuse(context, nowMs)
    return
  }
  const slot = keepOrRefuse(context, transport.relayRoom, nowMs)
  if (slot < 0) return
  const { packet, start, end, question } = arrival
  const isTcp = arrival.channel >= CHANNEL_TCP
  if (transport.relay(slot, question.group, packet, start, end, isTcp, nowMs)) {
    counters.add(RELAYED, 1)
    return
  }
  slots.free(slot)
  arrival.reason = REASON_UPSTREAM_FAILURE
  refuse(context, nowMs)
}

/** The server has replied. */
export function relayed(
  context: Context,
  slot: number,
  bytes: Uint8Array,
  at: number,
  length: number,
  nowMs: number,
): void {
  const { slots, arrival } = context
  slots.load(slot, arrival)
  // The policy may have changed meanwhile.
  identify(context, nowMs)
  if (decideEveryName(context)) giveBack(context, bytes, at, length, nowMs)
  else refuse(context, nowMs)
  slots.free(slot)
}

/** It has not, for this reason (flow/reason.ts). */
export function relayFailed(context: Context, slot: number, reason: number, nowMs: number): void {
  const { slots, arrival } = context
  slots.load(slot, arrival)
  identify(context, nowMs)
  if (decideEveryName(context)) arrival.reason = reason
  refuse(context, nowMs)
  slots.free(slot)
}

/** Finds out the group on the way; if not, arrival.reason says why. */
function mayBeSent(context: Context, nowMs: number): boolean {
  const { arrival } = context
  if (!limit(context, nowMs)) return false
  if (arrival.query.opcode === OPCODE_DSO) {
    arrival.reason = REASON_NOT_IMPLEMENTED
    return false
  }
  const isAllowed = decideEveryName(context)
  if (arrival.isAudited) context.parts.counters.add(DENIED_AUDIT, 1)
  return isAllowed && route(context, nowMs)
}

function giveBack(
  context: Context,
  message: Uint8Array,
  at: number,
  length: number,
  nowMs: number,
): void {
  const { arrival } = context
  const { replies, counters } = context.parts
  if (!openReply(context, REASON_RELAYED, nowMs)) return
  const { bytes, at: to } = replies
  // A server over TCP may say more than fits a datagram. It did what was wanted, so as much of the
  // reply as says that is given.
  const isWhole = to + length <= replies.limit
  const given = isWhole ? length : HEADER_BYTES
  copyBytes(message, at, given, bytes, to)
  putU16(bytes, to + ID_AT, arrival.query.id)
  if (!isWhole) {
    counters.add(TRUNCATED, 1)
    putU16(bytes, to + FLAGS_AT, getU16(bytes, to + FLAGS_AT) | FLAG_TC)
    bytes.fill(0, to + QDCOUNT_AT, to + HEADER_BYTES)
  }
  replies.send(arrival, given)
  // A flow takes its name from the reply's question, if it has one.
  const hasName = getU16(bytes, to + QDCOUNT_AT) === 1
  recordReply(context, hasName ? given : 0, REASON_RELAYED, nowMs)
}
