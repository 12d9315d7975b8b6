/**
 * Refuse: replies that carry no answer. What policy denies, what can't be read or served, and what
 * there is no room for. Each says why in an extended error (RFC 8914) if the client speaks EDNS.
 */
import {
  REASON_CLIENT_LIMIT,
  REASON_GRANT_LIMIT,
  REASON_GRANT_REFUSED,
  REASON_MALFORMED,
  REASON_NOT_IMPLEMENTED,
  REASON_NO_UPSTREAM,
  REASON_POLICY_DENIED_NAME,
  REASON_POLICY_DENIED_SERVER,
  REASON_POLICY_FAULTY,
  REASON_RATE_LIMIT,
  REASON_SLOTS_FULL,
  REASON_UNKNOWN_CLIENT,
  REASON_UPSTREAM_FAILURE,
  REASON_UPSTREAM_FULL,
  REASON_UPSTREAM_LOOP,
  REASON_UPSTREAM_TIMEOUT,
} from '../flow/reason.ts'
import { VERDICT_DENIED, VERDICT_ERROR } from '../flow/record.ts'
import { writeError } from '../wire/build.ts'
import {
  EDE_BLOCKED,
  EDE_NETWORK_ERROR,
  EDE_NO_REACHABLE_AUTHORITY,
  EDE_NONE,
  EDE_NOT_READY,
  EDE_PROHIBITED,
  OPCODE_QUERY,
  RCODE_NOERROR,
  RCODE_NOTIMP,
  RCODE_NXDOMAIN,
  RCODE_REFUSED,
  RCODE_SERVFAIL,
} from '../wire/header.ts'
import { NO_RCODE, rcodeOfQuery } from '../wire/query.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { record } from './record.ts'

const DENIED = counterIndex('denied')
const FAILED = counterIndex('answersFailed')
const MALFORMED = counterIndex('malformed')
const IGNORED = counterIndex('ignored')
const NOT_IMPLEMENTED = counterIndex('notImplemented')
const REPLIES_LOST = counterIndex('repliesLost')

/** policy.denyResponse, as rcode; 'nodata' is an answer without any record. */
const DENY_RCODE = {
  refused: RCODE_REFUSED,
  nxdomain: RCODE_NXDOMAIN,
  nodata: RCODE_NOERROR,
} as const

/** The query ends for arrival.reason. */
export function refuse(context: Context, nowMs: number): void {
  const reason = context.arrival.reason
  switch (reason) {
    case REASON_POLICY_DENIED_NAME:
    case REASON_POLICY_DENIED_SERVER:
    case REASON_POLICY_FAULTY:
    case REASON_UNKNOWN_CLIENT: {
      const ede = reason === REASON_POLICY_DENIED_NAME ? EDE_BLOCKED : EDE_PROHIBITED
      context.parts.counters.add(DENIED, 1)
      // That nothing is there is an answer to a question: to an UPDATE it would say that it is done.
      const isQuestion = context.arrival.query.opcode === OPCODE_QUERY
      const rcode = isQuestion ? DENY_RCODE[context.policy.denyResponse] : RCODE_REFUSED
      reply(context, rcode, ede, VERDICT_DENIED, nowMs)
      return
    }
    case REASON_NOT_IMPLEMENTED:
      context.parts.counters.add(NOT_IMPLEMENTED, 1)
      reply(context, RCODE_NOTIMP, EDE_NONE, VERDICT_ERROR, nowMs)
      return
    default:
      context.parts.counters.add(FAILED, 1)
      reply(context, RCODE_SERVFAIL, edeOf(reason), VERDICT_ERROR, nowMs)
  }
}

/** A message that is no query we can read: an error that says so, or (false) nothing at all. */
export function refuseUnreadable(context: Context, fault: number, nowMs: number): boolean {
  const rcode = rcodeOfQuery(fault)
  if (rcode === NO_RCODE) {
    context.parts.counters.add(IGNORED, 1)
    return false
  }
  context.parts.counters.add(MALFORMED, 1)
  context.arrival.reason = REASON_MALFORMED
  reply(context, rcode, EDE_NONE, VERDICT_ERROR, nowMs)
  return true
}

function reply(context: Context, rcode: number, ede: number, verdict: number, nowMs: number): void {
  const arrival = context.arrival
  const replies = context.parts.replies
  if (!replies.open(arrival)) {
    context.parts.counters.add(REPLIES_LOST, 1)
    record(context, verdict, arrival.reason, 0, nowMs)
    return
  }
  const bytes = replies.bytes
  const at = replies.at
  const length = writeError(bytes, at, arrival.packet, arrival.start, arrival.query, rcode, ede)
  replies.send(arrival, length)
  record(context, verdict, arrival.reason, length, nowMs)
}

function edeOf(reason: number): number {
  switch (reason) {
    case REASON_GRANT_REFUSED:
    case REASON_SLOTS_FULL:
    case REASON_UPSTREAM_FULL:
    case REASON_CLIENT_LIMIT:
    case REASON_GRANT_LIMIT:
    case REASON_RATE_LIMIT:
      return EDE_NOT_READY
    case REASON_UPSTREAM_TIMEOUT:
    case REASON_NO_UPSTREAM:
      return EDE_NO_REACHABLE_AUTHORITY
    case REASON_UPSTREAM_FAILURE:
    case REASON_UPSTREAM_LOOP:
      return EDE_NETWORK_ERROR
    default:
      return EDE_NONE
  }
}
