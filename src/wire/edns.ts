/**
 * The OPT record, which speaks for one hop only (RFC 6891 §6.1.1): a client's ends here and we
 * write our own to the upstream; the upstream's ends here and the client gets ours, if it sent
 * one. So client subnets, cookies and padding never pass through us.
 *
 * LAYOUT, bytes
 *      0  u8   0, the root
 *      1  u16  type            41
 *      3  u16  class           how many bytes its sender takes by UDP
 *      5  u8   extended rcode  upper 8 bits of the rcode
 *      6  u8   version         0
 *      7  u16  flags           DO is the highest bit
 *      9  u16  RDLENGTH
 *     11       options: u16 code, u16 length, bytes
 */
import { getU16, putU16 } from './bytes.ts'
import { EDE_NONE, RECORD_CLASS, TYPE_OPT } from './header.ts'
import type { RecordView } from './record.ts'

/** What we take by UDP, from clients and upstreams: fits every path unfragmented. RFC 9715 §3. */
export const UDP_BYTES = 1232
/** What everybody takes by UDP. Source: RFC 1035 §2.3.4. */
export const UDP_BYTES_MIN = 512

/** An OPT record of ours with an extended error and a keepalive in it. */
export const OPT_BYTES_MAX = 23

/** For how long a client's TCP connection may be idle, as it is told if it asks. RFC 7766 §6.2.3. */
export const TCP_IDLE_MS = 10_000

const OPT_FIXED_BYTES = 11
/** Without value in a query; in a reply a u16, in units of 100 ms. Source: RFC 7828 §3.1. */
export const OPTION_KEEPALIVE = 11
const OPTION_PADDING = 12
/** What a client's messages are padded to a multiple of. Source: RFC 8467 §4.1. */
const PADDED_BYTES = 128
/** The most that padOpt adds: an option's code and length, and what is missing. */
export const PADDING_BYTES_MAX = 4 + PADDED_BYTES - 1
const OPTION_EDE = 15
/** Code, length, and a u16. */
const OPTION_BYTES = 6
const DO = 0x80

/**
 * Whether the record is a well-formed OPT record: owned by the root, its options fill it.
 * Source: RFC 6891 §6.1.2.
 */
export function isOptWhole(packet: Uint8Array, record: RecordView): boolean {
  if (packet[record.ownerAt] !== 0) return false
  let at = record.rdataAt
  while (at < record.rdataEnd) {
    if (at + 4 > record.rdataEnd) return false
    at += 4 + getU16(packet, at + 2)
  }
  return at === record.rdataEnd
}

/** What the sender takes by UDP; less than 512 means 512. Source: RFC 6891 §6.2.3. */
export function optUdpBytes(packet: Uint8Array, record: RecordView): number {
  const bytes = getU16(packet, record.ttlAt - (4 - RECORD_CLASS))
  return bytes < UDP_BYTES_MIN ? UDP_BYTES_MIN : bytes
}

export function optExtendedRcode(packet: Uint8Array, record: RecordView): number {
  return packet[record.ttlAt]!
}

export function optVersion(packet: Uint8Array, record: RecordView): number {
  return packet[record.ttlAt + 1]!
}

export function isOptDnssecOk(packet: Uint8Array, record: RecordView): boolean {
  return (packet[record.ttlAt + 2]! & DO) !== 0
}

/** Whether a whole OPT record has an edns-tcp-keepalive option. Source: RFC 7828 §3.1. */
export function hasKeepalive(packet: Uint8Array, record: RecordView): boolean {
  let at = record.rdataAt
  while (at < record.rdataEnd) {
    if (getU16(packet, at) === OPTION_KEEPALIVE) return true
    at += 4 + getU16(packet, at + 2)
  }
  return false
}

/** Info code of the first extended error in a whole OPT record, or EDE_NONE. RFC 8914 §2. */
export function optEde(packet: Uint8Array, record: RecordView): number {
  let at = record.rdataAt
  while (at < record.rdataEnd) {
    const length = getU16(packet, at + 2)
    if (getU16(packet, at) === OPTION_EDE && length >= 2) return getU16(packet, at + 4)
    at += 4 + length
  }
  return EDE_NONE
}

/**
 * Writes an OPT record of ours.
 * @param rcode  its upper bits go here, the lower four into the header
 * @param ede    info code of an extended error, or EDE_NONE
 * @param isKeptAlive  says for how long the connection may be idle
 * @returns the offset behind it, at most OPT_BYTES_MAX further
 */
export function putOpt(
  out: Uint8Array,
  at: number,
  udpBytes: number,
  isDnssecOk: boolean,
  rcode: number,
  ede: number,
  isKeptAlive: boolean,
): number {
  out[at] = 0
  putU16(out, at + 1, TYPE_OPT)
  putU16(out, at + 3, udpBytes)
  out[at + 5] = rcode >>> 4
  out[at + 6] = 0
  out[at + 7] = isDnssecOk ? DO : 0
  out[at + 8] = 0
  let end = at + OPT_FIXED_BYTES
  if (ede !== EDE_NONE) end = putOption(out, end, OPTION_EDE, ede)
  if (isKeptAlive) end = putOption(out, end, OPTION_KEEPALIVE, TCP_IDLE_MS / 100)
  putU16(out, at + 9, end - at - OPT_FIXED_BYTES)
  return end
}

/**
 * Pads a message of ours, so that its length tells those who watch the encrypted connection little
 * (RFC 7830). Never in clear text: it would hide nothing there.
 * @param bytes  length of the message at `at`, which ends in an OPT record without options
 * @returns the new length, at most PADDING_BYTES_MAX more
 */
export function padOpt(out: Uint8Array, at: number, bytes: number): number {
  const end = at + bytes
  const padding = -(bytes + 4) & (PADDED_BYTES - 1)
  putU16(out, end - 2, 4 + padding)
  putU16(out, end, OPTION_PADDING)
  putU16(out, end + 2, padding)
  for (let index = end + 4; index < end + 4 + padding; index++) out[index] = 0
  return bytes + 4 + padding
}

function putOption(out: Uint8Array, at: number, code: number, value: number): number {
  putU16(out, at, code)
  putU16(out, at + 2, 2)
  putU16(out, at + 4, value)
  return at + OPTION_BYTES
}
