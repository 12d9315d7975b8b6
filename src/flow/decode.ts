/**
 * Flow records as objects, for people and programs that look at them: `observe`, `explain`.
 *
 * Cold: called for the records that somebody asked for, in the main thread. The bytes may come
 * from the peer, which may be of another release, so nothing in them is trusted: a record that is
 * not whole is null, and an answer is read as far as it is sound.
 */
import { type Family, formatAddress, IPV4_BYTES } from '../identity/address.ts'
import {
  ANCOUNT_AT,
  CLASS_IN,
  FLAGS_AT,
  HEADER_BYTES,
  OPCODE_MASK,
  QDCOUNT_AT,
  RCODE_MASK,
  TYPE_A,
  TYPE_AAAA,
  TYPE_CNAME,
} from '../wire/header.ts'
import { getTtl, getU16 } from '../wire/bytes.ts'
import { BAD_NAME, NAME_BYTES_MAX, readName, skipName } from '../wire/name.ts'
import { BAD_RECORD, RecordView, readRecord } from '../wire/record.ts'
import { formatName, formatOpcode, formatType } from '../wire/text.ts'
import { reasonOfCode } from './reason.ts'
import {
  FLAG_CACHED,
  FLAG_SHARED,
  FLAG_STALE,
  FLAGS_OPCODE_SHIFT,
  FLOW_CONNECTION,
  FLOW_DESTINATION,
  FLOW_DESTINATION_PORT,
  FLOW_DURATION_US,
  FLOW_FAMILY,
  FLOW_FLAGS,
  FLOW_HEADER_BYTES,
  FLOW_INTERFACE,
  FLOW_MESSAGE_BYTES,
  FLOW_MILLISECONDS,
  FLOW_NAME_BYTES,
  FLOW_PROTOCOL,
  FLOW_QCLASS,
  FLOW_QTYPE,
  FLOW_QUESTION,
  FLOW_REASON,
  FLOW_SECONDS,
  FLOW_SOURCE,
  FLOW_SOURCE_PORT,
  FLOW_TYPE,
  FLOW_VERDICT,
  MESSAGE_BYTES_MAX,
  VERDICT_AUDIT,
  VERDICT_DENIED,
  VERDICT_ERROR,
  VERDICT_FORWARDED,
} from './record.ts'

/** Hubble's words. */
export type Verdict = 'FORWARDED' | 'DROPPED' | 'ERROR' | 'AUDIT'
export const VERDICTS: readonly Verdict[] = ['FORWARDED', 'DROPPED', 'ERROR', 'AUDIT']

export type Flow = QuestionFlow | ConnectionFlow

interface FlowCommon {
  /** Milliseconds since 1970, when it was decided. */
  readonly timeMs: number
  readonly verdict: Verdict
  /** Reason.id; 'REASON_200' for one that only a later release knows. */
  readonly reason: string
  /** 'tcp', 'udp', 'sctp', 'icmp', 'icmpv6', or the protocol's number. */
  readonly protocol: string
  /** The client. */
  readonly source: Peer
  /** Whom it asked or connected to. */
  readonly destination: Peer
  /** 0: unknown. */
  readonly interfaceIndex: number
}

export interface Peer {
  /** Canonical text. */
  readonly address: string
  /** 0 where the protocol has none. */
  readonly port: number
}

export interface QuestionFlow extends FlowCommon {
  readonly type: 'question'
  /** Absolute, with its final dot; '' when the query could not be read so far. */
  readonly name: string
  /** 'A', or 'TYPE1234'. */
  readonly qtype: string
  readonly qclass: number
  /** 'QUERY', 'NOTIFY', 'UPDATE', …, or 'OPCODE9'. */
  readonly opcode: string
  readonly durationUs: number
  readonly isCached: boolean
  readonly isStale: boolean
  readonly isShared: boolean
  /** What the client was answered; null when it got nothing. */
  readonly answer: AnswerSummary | null
}

export interface AnswerSummary {
  readonly rcode: number
  readonly addresses: readonly string[]
  /** Targets of CNAME records, in their order, with final dots. */
  readonly cnames: readonly string[]
  /** Types of the records in the answer section, in their order. */
  readonly types: readonly string[]
  /** The lowest TTL in the answer section; null when it is empty. */
  readonly ttlSeconds: number | null
  /** The record held only the beginning of the answer, or the rest cannot be read. */
  readonly isCut: boolean
}

export interface ConnectionFlow extends FlowCommon {
  readonly type: 'connection'
  /** 'SYN', 'ACK', …; empty for other protocols. */
  readonly tcpFlags: readonly string[]
}

const VERDICT_WORDS: Record<number, Verdict> = {
  [VERDICT_FORWARDED]: 'FORWARDED',
  [VERDICT_DENIED]: 'DROPPED',
  [VERDICT_ERROR]: 'ERROR',
  [VERDICT_AUDIT]: 'AUDIT',
}

export const PROTOCOL_TCP = 6
const PROTOCOL_WORDS: Record<number, string> = {
  1: 'icmp',
  [PROTOCOL_TCP]: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
}

/** Bits of the TCP header's 14th byte, lowest first. Source: RFC 9293 §3.1. */
const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'] as const

/** The flow in the `length` bytes at `at`; null when they are no whole record. */
export function decodeFlow(bytes: Uint8Array, at: number, length: number): Flow | null {
  if (length < FLOW_HEADER_BYTES || at + length > bytes.length) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, length)
  const family = view.getUint8(FLOW_FAMILY)
  const verdict = VERDICT_WORDS[view.getUint8(FLOW_VERDICT)]
  if ((family !== 4 && family !== 6) || verdict === undefined) return null
  const protocol = view.getUint8(FLOW_PROTOCOL)
  const common: FlowCommon = {
    timeMs: view.getUint32(FLOW_SECONDS, true) * 1000 + view.getUint16(FLOW_MILLISECONDS, true),
    verdict,
    reason: reasonText(view.getUint8(FLOW_REASON)),
    protocol: PROTOCOL_WORDS[protocol] ?? String(protocol),
    source: {
      address: formatAddress(bytes, at + FLOW_SOURCE, family),
      port: view.getUint16(FLOW_SOURCE_PORT, true),
    },
    destination: {
      address: formatAddress(bytes, at + FLOW_DESTINATION, family),
      port: view.getUint16(FLOW_DESTINATION_PORT, true),
    },
    interfaceIndex: view.getUint32(FLOW_INTERFACE, true),
  }
  const type = view.getUint8(FLOW_TYPE)
  if (type === FLOW_QUESTION) return decodeQuestion(bytes, at, view, common)
  if (type !== FLOW_CONNECTION) return null
  const flags = protocol === PROTOCOL_TCP ? view.getUint8(FLOW_FLAGS) : 0
  const tcpFlags = TCP_FLAGS.filter((_, bit) => flags & (1 << bit))
  return { type: 'connection', ...common, tcpFlags }
}

function decodeQuestion(
  bytes: Uint8Array,
  at: number,
  view: DataView,
  common: FlowCommon,
): QuestionFlow | null {
  const nameBytes = view.getUint16(FLOW_NAME_BYTES, true)
  const messageBytes = view.getUint16(FLOW_MESSAGE_BYTES, true)
  if (FLOW_HEADER_BYTES + nameBytes + messageBytes > view.byteLength) return null
  const nameAt = at + FLOW_HEADER_BYTES
  const messageAt = nameAt + nameBytes
  const flags = view.getUint8(FLOW_FLAGS)
  return {
    type: 'question',
    ...common,
    name:
      messageBytes === 0
        ? nameText(bytes, nameAt, nameBytes)
        : questionText(bytes, messageAt, messageAt + messageBytes),
    qtype: formatType(view.getUint16(FLOW_QTYPE, true)),
    qclass: view.getUint16(FLOW_QCLASS, true),
    opcode: formatOpcode(flags >> FLAGS_OPCODE_SHIFT),
    durationUs: view.getUint32(FLOW_DURATION_US, true),
    isCached: (flags & FLAG_CACHED) !== 0,
    isStale: (flags & FLAG_STALE) !== 0,
    isShared: (flags & FLAG_SHARED) !== 0,
    answer: messageBytes === 0 ? null : readAnswer(bytes, messageAt, messageAt + messageBytes),
  }
}

/** The answer section of a message of which only a part may be there. */
function readAnswer(bytes: Uint8Array, start: number, end: number): AnswerSummary | null {
  if (end - start < HEADER_BYTES) return null
  const flags = getU16(bytes, start + FLAGS_AT)
  const rcode = flags & RCODE_MASK
  // Of another opcode the section is something else: of UPDATE, what must be so beforehand.
  const count = (flags & OPCODE_MASK) === 0 ? getU16(bytes, start + ANCOUNT_AT) : 0
  const addresses: string[] = []
  const cnames: string[] = []
  const types: string[] = []
  let ttlSeconds: number | null = null
  let at = start + HEADER_BYTES
  let isCut = getU16(bytes, start + QDCOUNT_AT) !== 1
  if (!isCut) {
    const questionEnd = skipName(bytes, at, end)
    isCut = questionEnd === BAD_NAME
    at = questionEnd + 4
  }
  const record = new RecordView()
  for (let index = 0; index < count && !isCut; index++) {
    const next = readRecord(bytes, start, at, end, record)
    isCut = next === BAD_RECORD
    if (isCut) break
    const ttl = getTtl(bytes, record.ttlAt)
    if (ttlSeconds === null || ttl < ttlSeconds) ttlSeconds = ttl
    types.push(formatType(record.type))
    // In another class an A record is something else, and its length was not checked.
    const isInternet = record.class === CLASS_IN
    if (isInternet && record.type === TYPE_A)
      addresses.push(formatAddress(bytes, record.rdataAt, 4))
    if (isInternet && record.type === TYPE_AAAA)
      addresses.push(formatAddress(bytes, record.rdataAt, 6))
    if (record.type === TYPE_CNAME) {
      const target = new Uint8Array(NAME_BYTES_MAX)
      const targetBytes = readName(bytes, start, record.rdataAt, record.rdataEnd, target, 0)
      cnames.push(formatName(target, 0, targetBytes))
    }
    at = next
  }
  return { rcode, addresses, cnames, types, ttlSeconds, isCut }
}

/** The name of the message's question in lower case, '' when it has none. */
function questionText(bytes: Uint8Array, at: number, end: number): string {
  if (end - at < HEADER_BYTES || getU16(bytes, at + QDCOUNT_AT) !== 1) return ''
  const name = new Uint8Array(NAME_BYTES_MAX)
  const length = readName(bytes, at, at + HEADER_BYTES, end, name, 0)
  return length === BAD_NAME ? '' : formatName(name, 0, length)
}

/** '' for bytes that are no name: a record may have been written for a query that had none. */
function nameText(bytes: Uint8Array, at: number, length: number): string {
  const isName = length > 0 && skipName(bytes, at, at + length) === at + length
  return isName ? formatName(bytes, at, length) : ''
}

function reasonText(code: number): string {
  return reasonOfCode(code)?.id ?? `REASON_${code}`
}

/** What encodeFlow writes; see flow/record.ts for each field. */
export interface FlowFields {
  readonly type: typeof FLOW_QUESTION | typeof FLOW_CONNECTION
  readonly timeMs: number
  readonly verdict: number
  readonly reason: number
  readonly protocol: number
  readonly flags: number
  /** 4 or 16 bytes; the destination is of the same family. */
  readonly source: Uint8Array
  readonly sourcePort: number
  readonly destination: Uint8Array
  readonly destinationPort: number
  readonly interfaceIndex: number
  /** Questions only. */
  readonly question?: {
    /** Wire form, lower case. */
    readonly name: Uint8Array
    readonly qtype: number
    readonly qclass: number
    readonly durationUs: number
    /** The answer as sent; empty: none. */
    readonly message: Uint8Array
  }
}

/**
 * A flow record, for connections that the kernel reports to the main thread, and for tests. The
 * worker writes its records in place (pipeline/record.ts) and does not come here.
 */
export function encodeFlow(fields: FlowFields): Uint8Array {
  const { question } = fields
  const name = question?.name ?? new Uint8Array(0)
  const message = (question?.message ?? new Uint8Array(0)).subarray(0, MESSAGE_BYTES_MAX)
  const bytes = new Uint8Array(FLOW_HEADER_BYTES + name.length + message.length)
  const view = new DataView(bytes.buffer)
  const family: Family = fields.source.length === IPV4_BYTES ? 4 : 6
  view.setUint32(FLOW_SECONDS, Math.floor(fields.timeMs / 1000), true)
  view.setUint16(FLOW_MILLISECONDS, Math.floor(fields.timeMs % 1000), true)
  view.setUint8(FLOW_TYPE, fields.type)
  view.setUint8(FLOW_VERDICT, fields.verdict)
  view.setUint8(FLOW_REASON, fields.reason)
  view.setUint8(FLOW_FAMILY, family)
  view.setUint8(FLOW_PROTOCOL, fields.protocol)
  view.setUint8(FLOW_FLAGS, fields.flags)
  view.setUint16(FLOW_SOURCE_PORT, fields.sourcePort, true)
  view.setUint16(FLOW_DESTINATION_PORT, fields.destinationPort, true)
  bytes.set(fields.source, FLOW_SOURCE)
  bytes.set(fields.destination, FLOW_DESTINATION)
  view.setUint32(FLOW_INTERFACE, fields.interfaceIndex, true)
  if (question) {
    view.setUint16(FLOW_QTYPE, question.qtype, true)
    view.setUint16(FLOW_QCLASS, question.qclass, true)
    view.setUint32(FLOW_DURATION_US, question.durationUs, true)
    view.setUint16(FLOW_NAME_BYTES, name.length, true)
    view.setUint16(FLOW_MESSAGE_BYTES, message.length, true)
    bytes.set(name, FLOW_HEADER_BYTES)
    bytes.set(message, FLOW_HEADER_BYTES + name.length)
  }
  return bytes
}
