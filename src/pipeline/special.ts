/**
 * Special: answers questions that no server on the network should get (wire/special-name.ts).
 *
 * After decide: a denied name is denied here as well. Without a grant: the loopback addresses are
 * the client's own, and no packet to them ever leaves it.
 */
import { REASON_ANSWERED_LOCALLY } from '../flow/reason.ts'
import { writeError, writeLoopback } from '../wire/build.ts'
import { EDE_NONE, RCODE_NOERROR, RCODE_NXDOMAIN, TYPE_A, TYPE_AAAA } from '../wire/header.ts'
import {
  SPECIAL_LOCALHOST,
  SPECIAL_NO_NAME,
  SPECIAL_NONE,
  specialName,
} from '../wire/special-name.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { openReply, sendReply } from './reply.ts'

const LOCAL = counterIndex('answersLocal')

/** False when the name is an ordinary one. */
export function answerSpecial(context: Context, nowMs: number): boolean {
  const arrival = context.arrival
  const { packet, start, query } = arrival
  const kind = specialName(arrival.name, query.nameBytes)
  if (kind === SPECIAL_NONE) return false
  const { replies, counters } = context.parts
  counters.add(LOCAL, 1)
  if (!openReply(context, REASON_ANSWERED_LOCALLY, nowMs)) return true
  const { bytes, at } = replies
  const isAddress = query.type === TYPE_A || query.type === TYPE_AAAA
  const rcode = kind === SPECIAL_NO_NAME ? RCODE_NXDOMAIN : RCODE_NOERROR
  const length =
    kind === SPECIAL_LOCALHOST && isAddress
      ? writeLoopback(bytes, at, packet, start, query)
      : writeError(bytes, at, packet, start, query, rcode, EDE_NONE)
  sendReply(context, length, REASON_ANSWERED_LOCALLY, nowMs)
  return true
}
