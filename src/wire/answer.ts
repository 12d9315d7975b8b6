/**
 * What an upstream sent, read once: parseAnswer checks that it answers our question and that
 * every record in it is whole, and fills an Answer, from which the cache, the grants and the
 * pipeline take what they need. They never walk the message again.
 *
 * What is learned from an answer (which addresses belong to the name that was asked) comes from
 * one place only: the answer section, along the CNAME and DNAME records that lead from the
 * question's name, at their end. Records of other names, and everything in the authority and
 * additional sections, open nothing, however true they may be.
 *
 * Offsets in an Answer count from the message's first byte, so they hold wherever it is copied
 * to. The OPT record and what lies behind it do not go to clients (build.ts, cutAtOpt): their
 * TTLs are not listed.
 */
import { areBytesEqual, copyBytes, getTtl, getU16 } from './bytes.ts'
import { isOptWhole, optEde, optExtendedRcode } from './edns.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  CLASS_IN,
  EDE_NONE,
  FLAG_QR,
  FLAG_TC,
  FLAGS_AT,
  HEADER_BYTES,
  ID_AT,
  MESSAGE_BYTES_MAX,
  NSCOUNT_AT,
  OPCODE_MASK,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_MASK,
  RCODE_NOERROR,
  RCODE_NXDOMAIN,
  SVCB_IPV4HINT,
  SVCB_IPV6HINT,
  TYPE_A,
  TYPE_AAAA,
  TYPE_ANY,
  TYPE_CNAME,
  TYPE_DNAME,
  TYPE_HTTPS,
  TYPE_NS,
  TYPE_OPT,
  TYPE_SOA,
  TYPE_SVCB,
} from './header.ts'
import { foldName, isNameAt, NAME_BYTES_MAX, parentAt, readName, skipName } from './name.ts'
import { BAD_RECORD, RecordView, readRecord } from './record.ts'

/** parseAnswer: an answer to our question. */
export const ANSWER_OK = 0
/** Not a reply to our question: ignore it, count it and keep waiting for the right one. */
export const ANSWER_FOREIGN = -1
/** A reply to our question that is broken: likewise; the right one may still come. */
export const ANSWER_MALFORMED = -2

/** Answer.kind */
/** At the end of the chain there are records of the type that was asked for. */
export const KIND_POSITIVE = 1
/** The name at the end of the chain does not exist. */
export const KIND_NXDOMAIN = 2
/** It exists and has no record of this type. */
export const KIND_NODATA = 3
/** Another rcode. */
export const KIND_ERROR = 4
/** NOERROR, but not an answer to the end: a chain that stops short, a loop, a referral, too many records. */
export const KIND_INCOMPLETE = 5
/** TC is set: whatever came is only a part, so nothing was looked at. Ask again by TCP. */
export const KIND_TRUNCATED = 6

/** Records of a message whose TTLs and addresses we look at. 64 KiB can hold 4,000 addresses. */
export const RECORDS_MAX = 512
/** Steps from the question's name to the addresses' owner; any more is a loop or a game. */
export const CHAIN_STEPS_MAX = 16
/** A DNAME brings a CNAME made from it along: two records a step. */
const ALIASES_MAX = 2 * CHAIN_STEPS_MAX

/** What parseAnswer notes about the answer section, for its own use within one call. */
class AnswerSection {
  readonly owners = new Int32Array(RECORDS_MAX)
  readonly types = new Uint16Array(RECORDS_MAX)
  readonly rdatas = new Int32Array(RECORDS_MAX)
  readonly rdataEnds = new Int32Array(RECORDS_MAX)
  count = 0
  /** Which of them are CNAME and DNAME records. */
  readonly aliases = new Uint16Array(ALIASES_MAX)
  aliasCount = 0
  /** The target of a DNAME record, before it is joined. */
  readonly target = new Uint8Array(NAME_BYTES_MAX)
  /** The authority section names other servers. */
  hasReferral = false
  readonly record: RecordView

  constructor(ttlOffsets: Uint16Array) {
    this.record = new RecordView(ttlOffsets)
  }
}

export class Answer {
  id = 0
  /** The flags word as it came. */
  flags = 0
  /** With the upper bits from the OPT record. One above 15 concerns our hop, not the client. */
  rcode = 0
  isTruncated = false
  /** KIND_* */
  kind = 0
  questionBytes = 0
  /** More records than RECORDS_MAX: pass it on if need be, but neither keep it nor learn from it. */
  isTooMany = false

  /** Offsets of the TTL fields of the records that a client may get, rising. */
  readonly ttlOffsets = new Uint16Array(RECORDS_MAX)
  ttlCount = 0
  /** Only for parseAnswer. */
  readonly section = new AnswerSection(this.ttlOffsets)
  /** The lowest TTL in the answer section, seconds; 0 when it is empty. */
  minimumTtl = 0

  /** The name at the end of the chain; the question's own name when there is no chain. */
  readonly endName = new Uint8Array(NAME_BYTES_MAX)
  endNameBytes = 0
  /** CNAME and DNAME records followed. */
  chainSteps = 0
  /** Whether that end was reached: false for a loop, or more than CHAIN_STEPS_MAX steps. */
  isChainWhole = false

  /** With KIND_POSITIVE: offsets of addresses that belong to the end of the chain: 4 or 16 bytes each, by family. */
  readonly addressOffsets = new Uint16Array(RECORDS_MAX)
  /** 4 or 6. */
  readonly addressFamilies = new Uint8Array(RECORDS_MAX)
  addressCount = 0
  /** Addresses from here on are hints of SVCB and HTTPS records; before are A and AAAA records. */
  hintsFrom = 0

  /**
   * From the authority section: how long a negative answer may be kept (RFC 2308 §5). Behind a chain
   * soaTtl is no higher than the TTLs of the chain, which is kept with it and may lead elsewhere then.
   */
  hasSoa = false
  soaTtl = 0
  soaMinimum = 0

  /** Where the OPT record begins, 0 without one; its extended error, EDE_NONE without one. */
  optAt = 0
  ede = EDE_NONE
  /** Length and ARCOUNT of what a client may get: all before the OPT record and stray bytes. */
  keptBytes = 0
  keptAdditional = 0
}

/**
 * Reads one message from an upstream. Its ID and where it came from are checked by the caller,
 * who found the question by them.
 * @param question  the question section as we sent it: name, type and class. The reply's must be
 *   the same bytes, case included (RFC 5452 §9.1; a case we chose at random is hard to guess)
 * @param into  describes this message afterwards, if the result is ANSWER_OK
 * @returns ANSWER_*
 */
export function parseAnswer(
  packet: Uint8Array,
  start: number,
  end: number,
  question: Uint8Array,
  questionAt: number,
  questionBytes: number,
  into: Answer,
): number {
  clear(into)
  const bytes = end - start
  const recordsAt = start + QUESTION_AT + questionBytes
  if (bytes < HEADER_BYTES || bytes > MESSAGE_BYTES_MAX || recordsAt > end) return ANSWER_FOREIGN
  const flags = getU16(packet, start + FLAGS_AT)
  if ((flags & FLAG_QR) === 0 || (flags & OPCODE_MASK) !== 0) return ANSWER_FOREIGN
  if (getU16(packet, start + QDCOUNT_AT) !== 1) return ANSWER_FOREIGN
  if (!areBytesEqual(packet, start + QUESTION_AT, question, questionAt, questionBytes)) {
    return ANSWER_FOREIGN
  }
  into.id = getU16(packet, start + ID_AT)
  into.flags = flags
  into.rcode = flags & RCODE_MASK
  into.questionBytes = questionBytes
  into.keptBytes = recordsAt - start
  into.endNameBytes = questionBytes - 4
  copyBytes(question, questionAt, into.endNameBytes, into.endName, 0)
  foldName(into.endName, 0, into.endNameBytes)
  if ((flags & FLAG_TC) !== 0) {
    into.isTruncated = true
    into.kind = KIND_TRUNCATED
    return ANSWER_OK
  }
  const qtype = getU16(question, questionAt + into.endNameBytes)
  const qclass = getU16(question, questionAt + into.endNameBytes + 2)
  if (!walkRecords(packet, start, recordsAt, end, qclass, into)) return ANSWER_MALFORMED
  const isFound = !into.isTooMany && followChain(packet, start, qtype, into)
  into.kind = kindOf(into, isFound)
  if (into.chainSteps > 0 && into.minimumTtl < into.soaTtl) into.soaTtl = into.minimumTtl
  if (into.kind === KIND_POSITIVE) collectAddresses(packet, start, qclass, into)
  if (into.isTooMany && into.kind === KIND_POSITIVE) {
    into.kind = KIND_INCOMPLETE // some hints found no room
    into.addressCount = 0
    into.hintsFrom = 0
  }
  return ANSWER_OK
}

/** Checks all records and notes what is asked about them later; false when one is malformed. */
function walkRecords(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  qclass: number,
  into: Answer,
): boolean {
  const record = into.section.record
  const authorityFrom = getU16(packet, start + ANCOUNT_AT)
  const additionalFrom = authorityFrom + getU16(packet, start + NSCOUNT_AT)
  const count = additionalFrom + getU16(packet, start + ARCOUNT_AT)
  record.steps = 0
  record.ttlCount = 0
  for (let index = 0; index < count; index++) {
    const next = readRecord(packet, start, at, end, record)
    if (next === BAD_RECORD) return false
    if (record.type === TYPE_OPT) {
      if (into.optAt !== 0 || index < additionalFrom || !isOptWhole(packet, record)) return false
      into.optAt = at - start
      into.rcode |= optExtendedRcode(packet, record) << 4
      into.ede = optEde(packet, record)
    } else if (into.optAt === 0) {
      noteTtl(packet, start, index < authorityFrom, into)
      if (index < authorityFrom) noteAnswer(qclass, into)
      else if (index < additionalFrom) noteAuthority(packet, into)
      else into.keptAdditional++
      into.keptBytes = next - start
    }
    at = next
  }
  return true
}

function noteTtl(packet: Uint8Array, start: number, isAnswer: boolean, into: Answer): void {
  const ttlAt = into.section.record.ttlAt
  if (isAnswer) {
    const ttl = getTtl(packet, ttlAt)
    if (into.ttlCount === 0 || ttl < into.minimumTtl) into.minimumTtl = ttl
  }
  if (into.ttlCount === RECORDS_MAX) into.isTooMany = true
  else into.ttlOffsets[into.ttlCount++] = ttlAt - start
  into.section.record.ttlCount = into.ttlCount
}

function noteAnswer(qclass: number, into: Answer): void {
  const section = into.section
  const record = section.record
  const index = section.count
  if (record.class !== qclass || index === RECORDS_MAX) return // then isTooMany is set
  if (record.type === TYPE_CNAME || record.type === TYPE_DNAME) {
    if (section.aliasCount === ALIASES_MAX) into.isTooMany = true
    else section.aliases[section.aliasCount++] = index
  }
  section.owners[index] = record.ownerAt
  section.types[index] = record.type
  section.rdatas[index] = record.rdataAt
  section.rdataEnds[index] = record.rdataEnd
  section.count++
}

function noteAuthority(packet: Uint8Array, into: Answer): void {
  const record = into.section.record
  if (record.type === TYPE_NS) into.section.hasReferral = true
  if (record.type !== TYPE_SOA || into.hasSoa) return
  into.hasSoa = true
  into.soaTtl = getTtl(packet, record.ttlAt)
  into.soaMinimum = getTtl(packet, record.rdataEnd - 4)
}

/**
 * Moves `endName` along CNAME and DNAME records, in whatever order they stand, until a name has
 * records of the type asked for or leads no further.
 * @returns whether it has such records
 */
function followChain(packet: Uint8Array, start: number, qtype: number, into: Answer): boolean {
  for (;;) {
    if (hasEndType(packet, start, qtype, into)) {
      into.isChainWhole = true
      return true
    }
    if (!followCname(packet, start, into) && !followDname(packet, start, into)) {
      into.isChainWhole = true
      return false
    }
    into.chainSteps++
    if (into.chainSteps > CHAIN_STEPS_MAX) return false
  }
}

function hasEndType(packet: Uint8Array, start: number, qtype: number, into: Answer): boolean {
  const section = into.section
  for (let index = 0; index < section.count; index++) {
    if (section.types[index] !== qtype && qtype !== TYPE_ANY) continue
    if (isAtEnd(packet, start, index, into)) return true
  }
  return false
}

/** Whether the answer section's record is owned by the name that the chain has led to. */
function isAtEnd(packet: Uint8Array, start: number, index: number, into: Answer): boolean {
  const ownerAt = into.section.owners[index]!
  return isNameAt(packet, start, ownerAt, into.endName, 0, into.endNameBytes)
}

function followCname(packet: Uint8Array, start: number, into: Answer): boolean {
  const section = into.section
  for (let index = 0; index < section.aliasCount; index++) {
    const alias = section.aliases[index]!
    if (section.types[alias] !== TYPE_CNAME || !isAtEnd(packet, start, alias, into)) continue
    const end = section.rdataEnds[alias]!
    into.endNameBytes = readName(packet, start, section.rdatas[alias]!, end, into.endName, 0)
    return true // the record was checked: its name can be read
  }
  return false
}

/** The labels of `endName` below the DNAME's owner stay, the rest is its target. RFC 6672 §2.2. */
function followDname(packet: Uint8Array, start: number, into: Answer): boolean {
  const section = into.section
  const name = into.endName
  const bytes = into.endNameBytes
  for (let index = 0; index < section.aliasCount; index++) {
    const alias = section.aliases[index]!
    if (section.types[alias] !== TYPE_DNAME) continue
    for (let at = 0; at < bytes - 1; ) {
      at = parentAt(name, at) // a DNAME says nothing about its owner itself
      if (!isNameAt(packet, start, section.owners[alias]!, name, at, bytes - at)) continue
      const end = section.rdataEnds[alias]!
      const targetBytes = readName(packet, start, section.rdatas[alias]!, end, section.target, 0)
      // Too long a name: the server should have said YXDOMAIN. It leads nowhere.
      if (at + targetBytes > NAME_BYTES_MAX) return false
      copyBytes(section.target, 0, targetBytes, name, at)
      into.endNameBytes = at + targetBytes
      return true
    }
  }
  return false
}

/** Source: RFC 2308 §2; RFC 6604 §3 (the rcode is about the end of the chain). */
function kindOf(answer: Answer, isFound: boolean): number {
  if (answer.rcode === RCODE_NXDOMAIN) return KIND_NXDOMAIN
  if (answer.rcode !== RCODE_NOERROR) return KIND_ERROR
  if (isFound) return KIND_POSITIVE
  if (answer.isTooMany || !answer.isChainWhole) return KIND_INCOMPLETE
  if (answer.hasSoa) return KIND_NODATA
  // Without an SOA record a chain merely stopped short, or other servers are named to ask.
  return answer.chainSteps > 0 || answer.section.hasReferral ? KIND_INCOMPLETE : KIND_NODATA
}

/** First the addresses in A and AAAA records of the chain's end, then the hints. */
function collectAddresses(packet: Uint8Array, start: number, qclass: number, into: Answer): void {
  if (qclass !== CLASS_IN) return
  const section = into.section
  for (let index = 0; index < section.count; index++) {
    const type = section.types[index]!
    if (type !== TYPE_A && type !== TYPE_AAAA) continue
    if (!isAtEnd(packet, start, index, into)) continue
    noteAddress(section.rdatas[index]! - start, type === TYPE_A ? 4 : 6, into)
  }
  into.hintsFrom = into.addressCount
  for (let index = 0; index < section.count; index++) {
    const type = section.types[index]!
    if (type !== TYPE_SVCB && type !== TYPE_HTTPS) continue
    if (!isAtEnd(packet, start, index, into)) continue
    collectHints(packet, start, section.rdatas[index]!, section.rdataEnds[index]!, into)
  }
}

/**
 * Addresses that a client may connect to without asking for them: those in a record of
 * ServiceMode. In AliasMode (priority 0) parameters are ignored. Source: RFC 9460 §2.4.2, §7.3.
 */
function collectHints(
  packet: Uint8Array,
  start: number,
  rdataAt: number,
  rdataEnd: number,
  into: Answer,
): void {
  if (getU16(packet, rdataAt) === 0) return
  let at = skipName(packet, rdataAt + 2, rdataEnd)
  while (at < rdataEnd) {
    const key = getU16(packet, at)
    const end = at + 4 + getU16(packet, at + 2)
    const family = key === SVCB_IPV4HINT ? 4 : key === SVCB_IPV6HINT ? 6 : 0
    if (family !== 0) {
      const size = family === 4 ? 4 : 16
      for (let hint = at + 4; hint < end; hint += size) noteAddress(hint - start, family, into)
    }
    at = end
  }
}

function noteAddress(offset: number, family: number, into: Answer): void {
  if (into.addressCount === RECORDS_MAX) {
    into.isTooMany = true
    return
  }
  into.addressOffsets[into.addressCount] = offset
  into.addressFamilies[into.addressCount] = family
  into.addressCount++
}

function clear(answer: Answer): void {
  answer.id = 0
  answer.flags = 0
  answer.rcode = 0
  answer.isTruncated = false
  answer.kind = 0
  answer.questionBytes = 0
  answer.isTooMany = false
  answer.ttlCount = 0
  answer.minimumTtl = 0
  answer.endNameBytes = 0
  answer.chainSteps = 0
  answer.isChainWhole = false
  answer.addressCount = 0
  answer.hintsFrom = 0
  answer.hasSoa = false
  answer.soaTtl = 0
  answer.soaMinimum = 0
  answer.optAt = 0
  answer.ede = EDE_NONE
  answer.keptBytes = 0
  answer.keptAdditional = 0
  answer.section.count = 0
  answer.section.aliasCount = 0
  answer.section.hasReferral = false
}
