/**
 * Messages that we send: questions to upstreams, refusals and answers to clients. The worker's
 * pipeline calls these per packet; they write into its buffers and allocate nothing.
 *
 * An answer from an upstream or the cache goes out in three steps, on a copy of its bytes:
 *   1. cutAtOpt, once, when it is learned: what is kept has no OPT record;
 *   2. ageTtls, each time: what is left of them;
 *   3. finishAnswer, each time: ID, flags and question of this client, its OPT record, its size.
 */
import { copyBytes, getTtl, getU16, putU16, putU32 } from './bytes.ts'
import { OPT_BYTES_MAX, putOpt, UDP_BYTES } from './edns.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  CLASS_IN,
  EDE_NONE,
  FLAG_AD,
  FLAG_CD,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  FLAGS_AT,
  HEADER_BYTES,
  ID_AT,
  NSCOUNT_AT,
  OPCODE_MASK,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_MASK,
  RCODE_NOERROR,
  TYPE_AAAA,
  TYPE_HINFO,
} from './header.ts'
import { NAME_BYTES_MAX } from './name.ts'
import type { Answer } from './answer.ts'
import type { Query } from './query.ts'

/** Room that writeQuestion, writeError, writeMinimalAny and writeLoopback may need. */
export const SMALL_BYTES_MAX = HEADER_BYTES + NAME_BYTES_MAX + 4 + 31 + OPT_BYTES_MAX

/** Flags of a client's question that its answer repeats. Source: RFC 1035 §4.1.1, RFC 4035 §3.2.2. */
const ECHOED = OPCODE_MASK | FLAG_RD | FLAG_CD

/** Of answers of our own. RFC 8482 §4.2 asks for one that spares the next question. */
const OWN_TTL_SECONDS = 3600
/** HINFO RDATA: the strings "RFC8482" and "". */
const MINIMAL_ANY_RDATA = Uint8Array.of(7, 0x52, 0x46, 0x43, 0x38, 0x34, 0x38, 0x32, 0)
const LOOPBACK_IPV4 = Uint8Array.of(127, 0, 0, 1)
const LOOPBACK_IPV6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)

/**
 * Writes a question to an upstream, with an OPT record.
 * @param flags  FLAG_RD, FLAG_CD, FLAG_AD as wanted
 * @param name   as to be asked: its case goes out as it is (and parseAnswer wants it back so)
 * @param udpBytes  what we take by UDP: UDP_BYTES
 * @returns bytes written, at most SMALL_BYTES_MAX
 */
export function writeQuestion(
  out: Uint8Array,
  outAt: number,
  id: number,
  flags: number,
  name: Uint8Array,
  nameAt: number,
  nameBytes: number,
  type: number,
  class_: number,
  isDnssecOk: boolean,
  udpBytes: number,
): number {
  putU16(out, outAt + ID_AT, id)
  putU16(out, outAt + FLAGS_AT, flags)
  putCounts(out, outAt, 1, 0, 0, 1)
  copyBytes(name, nameAt, nameBytes, out, outAt + QUESTION_AT)
  const typeAt = outAt + QUESTION_AT + nameBytes
  putU16(out, typeAt, type)
  putU16(out, typeAt + 2, class_)
  return putOpt(out, typeAt + 4, udpBytes, isDnssecOk, RCODE_NOERROR, EDE_NONE, false) - outAt
}

/**
 * Writes an answer without records: an error, or a denial. The question is repeated with its case
 * as far as it was read; a client that spoke EDNS gets an OPT record, with the reason in it.
 * @param packet  the client's message, from `start`
 * @param query   what parseQuery read there
 * @param ede     info code of an extended error (RFC 8914), or EDE_NONE
 * @returns bytes written, at most SMALL_BYTES_MAX
 */
export function writeError(
  out: Uint8Array,
  outAt: number,
  packet: Uint8Array,
  start: number,
  query: Query,
  rcode: number,
  ede: number,
): number {
  const at = putReplyHead(out, outAt, packet, start, query, rcode)
  return putClientOpt(out, outAt, at, query, rcode, ede) - outAt
}

/**
 * Writes the answer to a question of type ANY: one HINFO record and no amplification.
 * Source: RFC 8482 §4.2.
 */
export function writeMinimalAny(
  out: Uint8Array,
  outAt: number,
  packet: Uint8Array,
  start: number,
  query: Query,
): number {
  return writeOneRecord(out, outAt, packet, start, query, TYPE_HINFO, MINIMAL_ANY_RDATA)
}

/**
 * Writes the answer to a question for an address of localhost: 127.0.0.1 for type A, ::1 for AAAA.
 * Source: RFC 6761 §6.3.
 */
export function writeLoopback(
  out: Uint8Array,
  outAt: number,
  packet: Uint8Array,
  start: number,
  query: Query,
): number {
  const address = query.type === TYPE_AAAA ? LOOPBACK_IPV6 : LOOPBACK_IPV4
  return writeOneRecord(out, outAt, packet, start, query, query.type, address)
}

/** An answer of one record that the question's name owns. */
function writeOneRecord(
  out: Uint8Array,
  outAt: number,
  packet: Uint8Array,
  start: number,
  query: Query,
  type: number,
  rdata: Uint8Array,
): number {
  const at = putReplyHead(out, outAt, packet, start, query, RCODE_NOERROR)
  putU16(out, outAt + ANCOUNT_AT, 1)
  putU16(out, at, 0xc000 | QUESTION_AT)
  putU16(out, at + 2, type)
  putU16(out, at + 4, CLASS_IN)
  putU32(out, at + 6, OWN_TTL_SECONDS)
  putU16(out, at + 10, rdata.length)
  copyBytes(rdata, 0, rdata.length, out, at + 12)
  return putClientOpt(out, outAt, at + 12 + rdata.length, query, RCODE_NOERROR, EDE_NONE) - outAt
}

/**
 * Takes the upstream's OPT record off a message, with all that lies behind it.
 *
 * Behind it there is nothing as a rule. Where there is, moving it up would break every compression
 * pointer that leads into it, and rewriting them means trusting names inside RDATA that we do not
 * know. The additional section is a courtesy that may be left out (RFC 2181 §9), so it goes; what
 * stays cannot point to it, because pointers lead backwards.
 * @param answer  what parseAnswer read in this message
 * @returns the message's new length
 */
export function cutAtOpt(out: Uint8Array, outAt: number, answer: Answer): number {
  putU16(out, outAt + ARCOUNT_AT, answer.keptAdditional)
  return answer.keptBytes
}

/**
 * Lets the TTLs of a message run down.
 * @param offsets  Answer.ttlOffsets, or a copy, from `offsetsAt`
 * @param floorSeconds  and `capSeconds`: bounds of what is written. 0 and what is left of the
 *   entry's own time for a fresh answer; 30 and 30 for a stale one (RFC 8767 §4)
 */
export function ageTtls(
  out: Uint8Array,
  outAt: number,
  offsets: Uint16Array,
  offsetsAt: number,
  count: number,
  elapsedSeconds: number,
  floorSeconds: number,
  capSeconds: number,
): void {
  for (let index = offsetsAt; index < offsetsAt + count; index++) {
    const at = outAt + offsets[index]!
    let ttl = getTtl(out, at) - elapsedSeconds
    if (ttl < floorSeconds) ttl = floorSeconds
    if (ttl > capSeconds) ttl = capSeconds
    putU32(out, at, ttl)
  }
}

/**
 * Makes a copied message this client's answer, where it lies: its ID, its question with its case,
 * its flags, an OPT record if it sent one. A message that is too long for it becomes an empty one
 * with TC set, which says: ask again by TCP.
 *
 * RA is set, we recurse; AA is not, we are not the authority; AD stays only if it was there and
 * the client shows that it understands it (RFC 6840 §5.8). Clear it when learning from an upstream
 * that is not trusted to validate.
 * @param bytes     length of the message in `out`; it has no OPT record (cutAtOpt)
 * @param packet    the client's message, from `start`
 * @param bytesMax  what the client and the way to it take: by UDP at most query.udpBytes, by TCP
 *   MESSAGE_BYTES_MAX. `out` has room for OPT_BYTES_MAX more than `bytes`
 * @returns the answer's length
 */
export function finishAnswer(
  out: Uint8Array,
  outAt: number,
  bytes: number,
  packet: Uint8Array,
  start: number,
  query: Query,
  bytesMax: number,
  ede: number,
): number {
  const oldFlags = getU16(out, outAt + FLAGS_AT)
  const wantsAd = (query.flags & FLAG_AD) !== 0 || query.isDnssecOk
  const ad = wantsAd ? oldFlags & FLAG_AD : 0
  const rcode = oldFlags & RCODE_MASK
  const head = FLAG_QR | FLAG_RA | (query.flags & ECHOED) | ad | rcode
  const questionAt = outAt + QUESTION_AT
  putU16(out, outAt + ID_AT, query.id)
  putU16(out, outAt + FLAGS_AT, head)
  copyBytes(packet, start + QUESTION_AT, query.questionBytes, out, questionAt)
  const end = putClientOpt(out, outAt, outAt + bytes, query, rcode, ede) - outAt
  if (end <= bytesMax) return end
  putU16(out, outAt + FLAGS_AT, head | FLAG_TC)
  putCounts(out, outAt, 1, 0, 0, 0)
  return putClientOpt(out, outAt, questionAt + query.questionBytes, query, rcode, ede) - outAt
}

/** Header and question of a reply of our own; returns the offset behind them. */
function putReplyHead(
  out: Uint8Array,
  outAt: number,
  packet: Uint8Array,
  start: number,
  query: Query,
  rcode: number,
): number {
  putU16(out, outAt + ID_AT, query.id)
  const flags = FLAG_QR | FLAG_RA | (query.flags & ECHOED) | (rcode & RCODE_MASK)
  putU16(out, outAt + FLAGS_AT, flags)
  putCounts(out, outAt, query.questionBytes === 0 ? 0 : 1, 0, 0, 0)
  copyBytes(packet, start + QUESTION_AT, query.questionBytes, out, outAt + QUESTION_AT)
  return outAt + QUESTION_AT + query.questionBytes
}

/** Appends our OPT record at `at` for a client that sent one; returns the offset behind it. */
function putClientOpt(
  out: Uint8Array,
  outAt: number,
  at: number,
  query: Query,
  rcode: number,
  ede: number,
): number {
  if (!query.hasEdns) return at
  putU16(out, outAt + ARCOUNT_AT, getU16(out, outAt + ARCOUNT_AT) + 1)
  return putOpt(out, at, UDP_BYTES, query.isDnssecOk, rcode, ede, query.wantsKeepalive)
}

function putCounts(
  out: Uint8Array,
  outAt: number,
  questions: number,
  answers: number,
  authority: number,
  additional: number,
): void {
  putU16(out, outAt + QDCOUNT_AT, questions)
  putU16(out, outAt + ANCOUNT_AT, answers)
  putU16(out, outAt + NSCOUNT_AT, authority)
  putU16(out, outAt + ARCOUNT_AT, additional)
}
