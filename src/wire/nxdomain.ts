/**
 * An NXDOMAIN for one name, made of the NXDOMAIN for a name at or above it: "there really is nothing
 * underneath" (RFC 8020). pipeline/nothing-below.ts says when that is wanted.
 *
 * It is made of a message whose answer section is empty: behind a CNAME or DNAME record what does
 * not exist is the chain's end, and the name that was asked does (RFC 6604 §3, RFC 8020 §2). And of
 * one whose SOA record is of a zone that the denied name can be in: whoever speaks for another zone
 * has not denied this name (RFC 2308 §2.1).
 */
import { copyBytes, getU16, putU16 } from './bytes.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  FLAG_QR,
  FLAGS_AT,
  HEADER_BYTES,
  ID_AT,
  NSCOUNT_AT,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_NXDOMAIN,
  RECORD_RDATA,
  RECORD_RDLENGTH,
  RECORD_TTL,
  TYPE_SOA,
} from './header.ts'
import { BAD_NAME, isNameAt, NAME_BYTES_MAX, parentAt, readName, skipName } from './name.ts'
import { BAD_RECORD, RecordView, readRecord } from './record.ts'

/** Type and class. */
const QUESTION_TAIL_BYTES = 4
const POINTER_BYTES = 2
/** Serial, refresh, retry, expire, minimum. */
const SOA_NUMBERS_BYTES = 20

/** Room that writeNxdomain may need. */
export const NXDOMAIN_BYTES_MAX =
  HEADER_BYTES +
  (NAME_BYTES_MAX + QUESTION_TAIL_BYTES) +
  (POINTER_BYTES + RECORD_RDATA + 2 * NAME_BYTES_MAX + SOA_NUMBERS_BYTES)

/** It was not made: the message does not deny the name, or its SOA record is not to be had. */
export const NO_NXDOMAIN = 0

/** One object, reused. */
const record = new RecordView()

/**
 * Writes the NXDOMAIN for `name`, with the SOA record of the message that denied the name which
 * begins at `deniedAt` in it. The question's bytes are left out: finishAnswer (build.ts) writes
 * them, as it does for every answer.
 * @param out  has room for NXDOMAIN_BYTES_MAX at `outAt`
 * @param source  from its first byte the message that denied it, an NXDOMAIN, `sourceBytes` long
 * @returns the message's length, or NO_NXDOMAIN. The SOA's TTL lies at nxdomainTtlAt
 */
export function writeNxdomain(
  out: Uint8Array,
  outAt: number,
  source: Uint8Array,
  sourceBytes: number,
  name: Uint8Array,
  nameAt: number,
  nameBytes: number,
  deniedAt: number,
): number {
  const deniedBytes = nameAt + nameBytes - deniedAt
  const recordsAt = QUESTION_AT + deniedBytes + QUESTION_TAIL_BYTES
  if (recordsAt > sourceBytes || getU16(source, ANCOUNT_AT) !== 0) return NO_NXDOMAIN
  if (!findSoa(source, recordsAt, sourceBytes)) return NO_NXDOMAIN
  const zoneAt = ownerIn(source, name, deniedAt, deniedBytes)
  if (zoneAt < 0) return NO_NXDOMAIN
  putU16(out, outAt + ID_AT, 0)
  putU16(out, outAt + FLAGS_AT, FLAG_QR | RCODE_NXDOMAIN)
  putU16(out, outAt + QDCOUNT_AT, 1)
  putU16(out, outAt + ANCOUNT_AT, 0)
  putU16(out, outAt + NSCOUNT_AT, 1)
  putU16(out, outAt + ARCOUNT_AT, 0)
  const at = outAt + QUESTION_AT + nameBytes + QUESTION_TAIL_BYTES
  putU16(out, at, 0xc000 | (QUESTION_AT + zoneAt - nameAt))
  // Type, class and TTL as they are.
  const fixedAt = at + POINTER_BYTES
  copyBytes(source, record.ttlAt - RECORD_TTL, RECORD_RDLENGTH, out, fixedAt)
  const rdataAt = fixedAt + RECORD_RDATA
  const end = putSoaRdata(source, out, rdataAt)
  if (end === BAD_NAME) return NO_NXDOMAIN
  putU16(out, fixedAt + RECORD_RDLENGTH, end - rdataAt)
  return end - outAt
}

/** Where the TTL lies in a message of writeNxdomain, from its first byte. */
export function nxdomainTtlAt(nameBytes: number): number {
  return QUESTION_AT + nameBytes + QUESTION_TAIL_BYTES + POINTER_BYTES + RECORD_TTL
}

/** Reads the authority section's SOA record into `record`; false without one. */
function findSoa(source: Uint8Array, recordsAt: number, sourceBytes: number): boolean {
  const count = getU16(source, NSCOUNT_AT)
  let at = recordsAt
  record.steps = 0
  for (let index = 0; index < count; index++) {
    at = readRecord(source, 0, at, sourceBytes, record)
    if (at === BAD_RECORD) return false
    if (record.type === TYPE_SOA) return true
  }
  return false
}

/** Where in `name` the record's owner begins, or -1: it is neither the denied name nor above it. */
function ownerIn(
  source: Uint8Array,
  name: Uint8Array,
  deniedAt: number,
  deniedBytes: number,
): number {
  const end = deniedAt + deniedBytes
  let at = deniedAt
  for (;;) {
    if (isNameAt(source, 0, record.ownerAt, name, at, end - at)) return at
    if (at >= end - 1) return -1
    at = parentAt(name, at)
  }
}

/** Writes the record's RDATA without compression; returns the offset behind it, or BAD_NAME. */
function putSoaRdata(source: Uint8Array, out: Uint8Array, at: number): number {
  const { rdataAt, rdataEnd } = record
  const secondAt = skipName(source, rdataAt, rdataEnd)
  const first = readName(source, 0, rdataAt, rdataEnd, out, at)
  if (first === BAD_NAME) return BAD_NAME
  const second = readName(source, 0, secondAt, rdataEnd, out, at + first)
  if (second === BAD_NAME) return BAD_NAME
  const numbersAt = at + first + second
  copyBytes(source, rdataEnd - SOA_NUMBERS_BYTES, SOA_NUMBERS_BYTES, out, numbersAt)
  return numbersAt + SOA_NUMBERS_BYTES
}
