/**
 * What a client sent, read once: parseQuery checks every byte of it and fills a Query, which the
 * pipeline keeps in its slot. Nothing behind this reads the packet for anything but the question.
 *
 * Offsets in a Query count from the message's first byte, so they hold wherever it is copied to.
 * The question always lies at QUESTION_AT, as sent, with the client's case; its lower-case name
 * goes to the caller's buffer and is what policy and cache see.
 */
import { getU16 } from './bytes.ts'
import {
  hasKeepalive,
  isOptDnssecOk,
  isOptWhole,
  optUdpBytes,
  optVersion,
  UDP_BYTES_MIN,
} from './edns.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  FLAG_QR,
  FLAGS_AT,
  HEADER_BYTES,
  ID_AT,
  MESSAGE_BYTES_MAX,
  NSCOUNT_AT,
  OPCODE_MASK,
  OPCODE_QUERY,
  OPCODE_SHIFT,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_BADVERS,
  RCODE_FORMERR,
  RCODE_NOERROR,
  RCODE_NOTIMP,
  TYPE_OPT,
} from './header.ts'
import { BAD_NAME, hashName, readName } from './name.ts'
import { BAD_RECORD, RecordView, readRecord } from './record.ts'

/** A question to be decided about. */
export const QUERY_OK = 0
/** Shorter than a header: there is nothing to answer. */
export const QUERY_SHORT = -1
/** QR is set: answering would let two servers answer each other for ever. */
export const QUERY_IS_RESPONSE = -2
/**
 * Another opcode: only the header is read, and the question or zone if there is exactly one. Where
 * there is none its name is the root's.
 */
export const QUERY_OPCODE = -3
/** Not exactly one question. Source: RFC 9619 §4. */
export const QUERY_COUNT = -4
/** The question's name is none, or the question is cut. */
export const QUERY_NAME = -5
/** Fewer records than the counts say, or one that is malformed. */
export const QUERY_RECORDS = -6
/** Bytes behind the last record. */
export const QUERY_TRAILING = -7
/** A malformed OPT record, two of them, or one outside the additional section. RFC 6891 §6.1.1. */
export const QUERY_OPT = -8
/** An EDNS version that we do not speak; all else is well. Source: RFC 6891 §6.1.3. */
export const QUERY_VERSION = -9

/** rcodeOfQuery: no answer at all. */
export const NO_RCODE = -1

export class Query {
  /** For hashName: the same for every Query whose hashes meet in one table. */
  readonly seed: number
  id = 0
  /** The flags word as sent. */
  flags = 0
  opcode = 0
  /** Bytes of the question from QUESTION_AT, type and class included; 0 when it was not read. */
  questionBytes = 0
  /** Bytes of its name, there and in the buffer it was written to in lower case. */
  nameBytes = 0
  nameHash = 0
  type = 0
  class = 0
  /** Whether a well-formed OPT record came along; then an answer of ours carries one too. */
  hasEdns = false
  isDnssecOk = false
  /** Whether it wants to know for how long its TCP connection may be idle; by UDP it means nothing. */
  wantsKeepalive = false
  /** The longest answer that the client takes by UDP, from 512. */
  udpBytes = UDP_BYTES_MIN
  /** From the first byte of the OPT record to the byte behind it; both 0 without one. */
  optAt = 0
  optEnd = 0
  /** Only for parseQuery. */
  readonly record = new RecordView()

  constructor(seed: number) {
    this.seed = seed
  }
}

/**
 * Reads one message from a client.
 * @param end      the byte after the message
 * @param into     its fields are those of this message afterwards, as far as it could be read
 * @param nameOut  has room for NAME_BYTES_MAX bytes at `nameOutAt`
 * @returns QUERY_OK or the first fault found
 */
export function parseQuery(
  packet: Uint8Array,
  start: number,
  end: number,
  into: Query,
  nameOut: Uint8Array,
  nameOutAt: number,
): number {
  clear(into)
  const bytes = end - start
  if (bytes < HEADER_BYTES || bytes > MESSAGE_BYTES_MAX) return QUERY_SHORT
  const flags = getU16(packet, start + FLAGS_AT)
  into.id = getU16(packet, start + ID_AT)
  into.flags = flags
  into.opcode = (flags & OPCODE_MASK) >>> OPCODE_SHIFT
  if ((flags & FLAG_QR) !== 0) return QUERY_IS_RESPONSE
  const fault = readQuestion(packet, start, end, into, nameOut, nameOutAt)
  if (into.opcode !== OPCODE_QUERY) {
    if (fault !== QUERY_OK) {
      nameOut[nameOutAt] = 0
      into.nameBytes = 1
    }
    return QUERY_OPCODE
  }
  if (fault !== QUERY_OK) return fault
  return parseRecords(packet, start, start + QUESTION_AT + into.questionBytes, end, into)
}

function readQuestion(
  packet: Uint8Array,
  start: number,
  end: number,
  into: Query,
  nameOut: Uint8Array,
  nameOutAt: number,
): number {
  if (getU16(packet, start + QDCOUNT_AT) !== 1) return QUERY_COUNT
  // No pointer can be right here, there is nothing before it: the name lies as long as it is.
  const nameBytes = readName(packet, start, start + QUESTION_AT, end, nameOut, nameOutAt)
  const typeAt = start + QUESTION_AT + nameBytes
  if (nameBytes === BAD_NAME || typeAt + 4 > end) return QUERY_NAME
  into.nameBytes = nameBytes
  into.questionBytes = nameBytes + 4
  into.type = getU16(packet, typeAt)
  into.class = getU16(packet, typeAt + 2)
  into.nameHash = hashName(nameOut, nameOutAt, nameBytes, into.seed)
  return QUERY_OK
}

function parseRecords(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  into: Query,
): number {
  const beforeAdditional = getU16(packet, start + ANCOUNT_AT) + getU16(packet, start + NSCOUNT_AT)
  const count = beforeAdditional + getU16(packet, start + ARCOUNT_AT)
  const record = into.record
  let version = 0
  record.steps = 0
  for (let index = 0; index < count; index++) {
    const next = readRecord(packet, start, at, end, record)
    if (next === BAD_RECORD) return faultWithoutEdns(into, QUERY_RECORDS)
    if (record.type === TYPE_OPT) {
      if (into.hasEdns || index < beforeAdditional || !isOptWhole(packet, record)) {
        return faultWithoutEdns(into, QUERY_OPT)
      }
      into.hasEdns = true
      into.isDnssecOk = isOptDnssecOk(packet, record)
      into.wantsKeepalive = hasKeepalive(packet, record)
      into.udpBytes = optUdpBytes(packet, record)
      into.optAt = at - start
      into.optEnd = next - start
      version = optVersion(packet, record)
    }
    at = next
  }
  if (at !== end) return faultWithoutEdns(into, QUERY_TRAILING)
  return version === 0 ? QUERY_OK : QUERY_VERSION
}

/**
 * What a fault is answered with: an rcode, or NO_RCODE for what must be dropped without a word.
 * QUERY_OPCODE is for whoever does not send it on as it is (RFC 5625 §3; pipeline/relay.ts).
 */
export function rcodeOfQuery(fault: number): number {
  switch (fault) {
    case QUERY_OK:
      return RCODE_NOERROR
    case QUERY_SHORT:
    case QUERY_IS_RESPONSE:
      return NO_RCODE
    case QUERY_OPCODE:
      return RCODE_NOTIMP
    case QUERY_VERSION:
      return RCODE_BADVERS
    default:
      return RCODE_FORMERR
  }
}

/** An OPT record in a malformed message says nothing that can be relied on. RFC 6891 §7. */
function faultWithoutEdns(into: Query, fault: number): number {
  into.hasEdns = false
  into.isDnssecOk = false
  into.wantsKeepalive = false
  into.udpBytes = UDP_BYTES_MIN
  into.optAt = 0
  into.optEnd = 0
  return fault
}

function clear(query: Query): void {
  query.id = 0
  query.flags = 0
  query.opcode = 0
  query.questionBytes = 0
  query.nameBytes = 0
  query.nameHash = 0
  query.type = 0
  query.class = 0
  faultWithoutEdns(query, QUERY_OK)
}
