/**
 * One resource record of a message from outside: where its parts lie, and whether they are whole.
 * parseQuery and parseAnswer walk every record of a message with it, so that counts, lengths and
 * names are known to be true before anybody else looks at the bytes.
 *
 * Bad RDATA makes the whole message malformed, also where a client might have skipped the record:
 * what we check and what a client uses must be the same thing. RDATA of types that we do not know
 * is opaque and passes (RFC 3597); it holds no compression that we would have to understand.
 */
import { getU16 } from './bytes.ts'
import {
  CLASS_IN,
  RECORD_CLASS,
  RECORD_RDATA,
  RECORD_RDLENGTH,
  RECORD_TTL,
  RECORD_TYPE,
  SVCB_IPV4HINT,
  SVCB_IPV6HINT,
  TYPE_A,
  TYPE_AAAA,
  TYPE_CNAME,
  TYPE_DNAME,
  TYPE_HTTPS,
  TYPE_MX,
  TYPE_NS,
  TYPE_PTR,
  TYPE_SOA,
  TYPE_SRV,
  TYPE_SVCB,
} from './header.ts'
import { BAD_NAME, checkName, skipName } from './name.ts'

export const BAD_RECORD = -1

/**
 * Labels and pointers that may be read to check one message. 4,000 ordinary records of 6 labels
 * need 28,000; a hostile message of 64 KiB could ask for 1.4 million, which is 3 ms.
 */
export const STEPS_MAX = 65536

const NO_OFFSETS = new Uint16Array(0)

/** What a record looks like; offsets count from the buffer's first byte. */
export class RecordView {
  ownerAt = 0
  type = 0
  class = 0
  ttlAt = 0
  rdataAt = 0
  rdataEnd = 0
  /** TTL fields that will be rewritten, for checkName: rising offsets from the message's start. */
  readonly ttlOffsets: Uint16Array
  ttlCount = 0
  /** Work done since it was last set to 0: labels and pointers read, see STEPS_MAX. */
  steps = 0

  /** @param ttlOffsets  to be filled by whoever wants to rewrite TTLs; not kept up to date here */
  constructor(ttlOffsets: Uint16Array = NO_OFFSETS) {
    this.ttlOffsets = ttlOffsets
  }
}

/**
 * Checks the record at `at` and describes it in `into`.
 * @returns the offset behind it, or BAD_RECORD
 */
export function readRecord(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  into: RecordView,
): number {
  const steps = checkName(packet, start, at, end, into.ttlOffsets, into.ttlCount)
  const fixedAt = skipName(packet, at, end)
  if (steps === BAD_NAME || fixedAt === BAD_NAME || fixedAt + RECORD_RDATA > end) return BAD_RECORD
  const rdataAt = fixedAt + RECORD_RDATA
  const rdataEnd = rdataAt + getU16(packet, fixedAt + RECORD_RDLENGTH)
  if (rdataEnd > end) return BAD_RECORD
  into.ownerAt = at
  into.type = getU16(packet, fixedAt + RECORD_TYPE)
  into.class = getU16(packet, fixedAt + RECORD_CLASS)
  into.ttlAt = fixedAt + RECORD_TTL
  into.rdataAt = rdataAt
  into.rdataEnd = rdataEnd
  const rdataSteps = checkRdata(packet, start, into)
  into.steps += steps + rdataSteps
  return rdataSteps === BAD_RECORD || into.steps > STEPS_MAX ? BAD_RECORD : rdataEnd
}

/** Steps of the names in a record's RDATA, or BAD_RECORD. */
function checkRdata(packet: Uint8Array, start: number, record: RecordView): number {
  const at = record.rdataAt
  const end = record.rdataEnd
  switch (record.type) {
    case TYPE_NS:
    case TYPE_CNAME:
    case TYPE_PTR:
    case TYPE_DNAME:
      return checkNameTo(packet, start, at, end, record)
    case TYPE_MX:
      return checkNameTo(packet, start, at + 2, end, record)
    case TYPE_SOA: {
      const secondAt = skipName(packet, at, end)
      if (secondAt === BAD_NAME) return BAD_RECORD
      const first = checkNameTo(packet, start, at, secondAt, record)
      const second = checkNameTo(packet, start, secondAt, end - 20, record)
      return first === BAD_RECORD || second === BAD_RECORD ? BAD_RECORD : first + second
    }
    default:
      // The format of the others is that of the Internet class; in CH an A record is another one.
      return record.class === CLASS_IN ? checkInternetRdata(packet, start, record) : 0
  }
}

function checkInternetRdata(packet: Uint8Array, start: number, record: RecordView): number {
  const at = record.rdataAt
  const end = record.rdataEnd
  switch (record.type) {
    case TYPE_A:
      return end - at === 4 ? 0 : BAD_RECORD
    case TYPE_AAAA:
      return end - at === 16 ? 0 : BAD_RECORD
    case TYPE_SRV:
      return checkNameTo(packet, start, at + 6, end, record)
    case TYPE_SVCB:
    case TYPE_HTTPS: {
      const paramsAt = skipName(packet, at + 2, end)
      if (paramsAt === BAD_NAME || !areSvcbParamsWhole(packet, paramsAt, end)) return BAD_RECORD
      return checkNameTo(packet, start, at + 2, paramsAt, record)
    }
    default:
      return 0
  }
}

/** Steps of a name whose bytes fill `at` to `end` (RDLENGTH must be true), or BAD_RECORD. */
function checkNameTo(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  record: RecordView,
): number {
  if (skipName(packet, at, end) !== end) return BAD_RECORD
  return checkName(packet, start, at, end, record.ttlOffsets, record.ttlCount)
}

/**
 * Whether SvcParams fill `at` to `end`, keys rise, and address hints are whole addresses.
 * Source: RFC 9460 §2.2 (otherwise the record is malformed), §7.3.
 */
function areSvcbParamsWhole(packet: Uint8Array, at: number, end: number): boolean {
  let lastKey = -1
  while (at < end) {
    if (at + 4 > end) return false
    const key = getU16(packet, at)
    const length = getU16(packet, at + 2)
    if (key <= lastKey || at + 4 + length > end) return false
    if (key === SVCB_IPV4HINT && (length === 0 || length % 4 !== 0)) return false
    if (key === SVCB_IPV6HINT && (length === 0 || length % 16 !== 0)) return false
    lastKey = key
    at += 4 + length
  }
  return true
}
