/**
 * Decide: may this client ask this name of this server?
 *
 * An ungoverned client may ask anything. A governed one may ask what its policies' rules.dns allow
 * of the server that it meant (also when we answer in that server's place). Of a source that is no
 * known client, `clients.unknown` decides, and only where traffic is intercepted: without
 * interception there is nobody whom an address would identify.
 */
import {
  REASON_NOT_IMPLEMENTED,
  REASON_POLICY_DENIED_NAME,
  REASON_POLICY_DENIED_SERVER,
  REASON_POLICY_FAULTY,
  REASON_UNKNOWN_CLIENT,
} from '../flow/reason.ts'
import {
  isQuestionAllowed,
  QUESTION_DENIED_FAULTY,
  QUESTION_DENIED_NAME,
  QUESTION_DENIED_UNKNOWN,
} from '../policy/verdict.ts'
import { CLASS_IN } from '../wire/header.ts'
import { EVERY_NAME } from '../policy/pattern.ts'
import { CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'

const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17
const TYPE_IXFR = 251
const TYPE_AXFR = 252

/** Whether the question may be answered; if not, arrival.reason says why. */
export function decide(context: Context): boolean {
  const { arrival } = context
  return mayAsk(context, arrival.name, arrival.query.nameBytes)
}

/** Whether the client may ask that server every name there is: then it may say to it what it likes. */
export function decideEveryName(context: Context): boolean {
  return mayAsk(context, EVERY_NAME, EVERY_NAME.length)
}

function mayAsk(context: Context, name: Uint8Array, nameBytes: number): boolean {
  const arrival = context.arrival
  const policy = context.policy
  arrival.isAudited = false
  if (arrival.client < 0 && !arrival.isIntercepted) return true
  if (arrival.isGoverned) arrival.scanned.scan(name, 0, nameBytes)
  const verdict = policy.decideQuestion(
    arrival.client,
    arrival.scanned,
    arrival.family,
    arrival.addresses,
    arrival.destinationAt,
    arrival.destinationPort,
    arrival.channel >= CHANNEL_TCP ? PROTOCOL_TCP : PROTOCOL_UDP,
  )
  if (isQuestionAllowed(verdict)) return true
  arrival.reason = reasonOf(verdict)
  arrival.isAudited = policy.isAudit
  return arrival.isAudited
}

/**
 * Whether a question is of the kind that is forwarded: of class IN, and no zone transfer, which is
 * a stream of messages (RFC 5936 §2.2) and nothing that a cache or a grant could be made of. Every
 * type of record, known or not, is. If not, arrival.reason says so.
 */
export function isServed(context: Context): boolean {
  const { type, class: qclass } = context.arrival.query
  if (qclass === CLASS_IN && type !== TYPE_IXFR && type !== TYPE_AXFR) return true
  context.arrival.reason = REASON_NOT_IMPLEMENTED
  return false
}

function reasonOf(verdict: number): number {
  if (verdict === QUESTION_DENIED_NAME) return REASON_POLICY_DENIED_NAME
  if (verdict === QUESTION_DENIED_FAULTY) return REASON_POLICY_FAULTY
  if (verdict === QUESTION_DENIED_UNKNOWN) return REASON_UNKNOWN_CLIENT
  return REASON_POLICY_DENIED_SERVER
}
