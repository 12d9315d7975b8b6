/**
 * Whole messages as objects: what tests, scripted upstreams and the CLI make and read. Cold; the
 * data plane uses query.ts, answer.ts and build.ts on the same bytes and makes no objects.
 *
 *     const reply = buildMessage({
 *       id: 7,
 *       flags: FLAG_QR | FLAG_RD | FLAG_RA,
 *       question: 'www.example.com. A',
 *       answers: ['www.example.com. 30 IN CNAME api.example.com.', 'api.example.com. 30 IN A 192.0.2.10'],
 *     })
 */
import { getU16, getU32, putU16 } from './bytes.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  CLASS_IN,
  EDE_NONE,
  FLAGS_AT,
  HEADER_BYTES,
  ID_AT,
  MESSAGE_BYTES_MAX,
  NSCOUNT_AT,
  QDCOUNT_AT,
  QUESTION_AT,
  RCODE_MASK,
  TYPE_CNAME,
  TYPE_DNAME,
  TYPE_MX,
  TYPE_NS,
  TYPE_OPT,
  TYPE_PTR,
  TYPE_SOA,
  TYPE_SRV,
} from './header.ts'
import {
  isOptDnssecOk,
  isOptWhole,
  OPT_BYTES_MAX,
  optEde,
  optExtendedRcode,
  optUdpBytes,
  optVersion,
  putOpt,
  UDP_BYTES,
} from './edns.ts'
import { BAD_NAME, NAME_BYTES_MAX, readName, skipName } from './name.ts'
import { BAD_RECORD, RecordView, readRecord } from './record.ts'
import { parseRecord, type ResourceRecord } from './record-text.ts'
import { parseClass, parseNameAsWritten, parseType, TextError } from './text.ts'

export interface MessageParts {
  /** Default 0. */
  readonly id?: number
  /** The flags word, without rcode: FLAG_QR | FLAG_RA … Default 0. */
  readonly flags?: number
  /** Its upper bits need `edns`. Default NOERROR. */
  readonly rcode?: number
  /** 'www.example.com. AAAA' or 'www.example.com. CH TXT'; null for none. */
  readonly question: string | null
  /** Records as parseRecord reads them, or as it gives them. */
  readonly answers?: readonly (string | ResourceRecord)[]
  readonly authority?: readonly (string | ResourceRecord)[]
  readonly additional?: readonly (string | ResourceRecord)[]
  /** Makes an OPT record, the last of the additional section. */
  readonly edns?: {
    /** Default UDP_BYTES. */
    readonly udpBytes?: number
    readonly isDnssecOk?: boolean
    readonly version?: number
    /** An extended error. */
    readonly ede?: number
  }
  /** Whether names that occurred before become pointers. Default true, as servers do. */
  readonly isCompressed?: boolean
}

export interface Message {
  readonly id: number
  readonly flags: number
  /** With the upper bits from the OPT record. */
  readonly rcode: number
  readonly question: {
    readonly name: Uint8Array
    readonly type: number
    readonly class: number
  } | null
  /** Without the OPT record. */
  readonly answers: readonly ResourceRecord[]
  readonly authority: readonly ResourceRecord[]
  readonly additional: readonly ResourceRecord[]
  readonly edns: {
    readonly udpBytes: number
    readonly isDnssecOk: boolean
    readonly version: number
    readonly ede: number | null
  } | null
  /** False when fewer records could be read than the counts say, or bytes are left over. */
  readonly isWhole: boolean
}

export function buildMessage(parts: MessageParts): Uint8Array {
  const out = new Writer(parts.isCompressed ?? true)
  const sections = [parts.answers ?? [], parts.authority ?? [], parts.additional ?? []]
  const rcode = parts.rcode ?? 0
  out.u16(parts.id ?? 0)
  out.u16((parts.flags ?? 0) | (rcode & RCODE_MASK))
  out.u16(parts.question === null ? 0 : 1)
  for (const [index, section] of sections.entries()) {
    out.u16(section.length + (index === 2 && parts.edns !== undefined ? 1 : 0))
  }
  if (parts.question !== null) out.question(parts.question)
  for (const record of sections.flat()) {
    out.record(typeof record === 'string' ? parseRecord(record) : record)
  }
  if (parts.edns !== undefined) {
    const { udpBytes = UDP_BYTES, isDnssecOk = false, version = 0, ede = EDE_NONE } = parts.edns
    const opt = new Uint8Array(OPT_BYTES_MAX)
    const length = putOpt(opt, 0, udpBytes, isDnssecOk, rcode, ede, false)
    opt[6] = version
    out.bytes.push(...opt.subarray(0, length))
  }
  if (out.bytes.length > MESSAGE_BYTES_MAX) throw new TextError('a message is longer than 65,535')
  return Uint8Array.from(out.bytes)
}

/**
 * Reads a message as far as it is sound; null when there is not even a header. A message that was
 * cut (a flow keeps the first bytes only) gives its first records.
 */
export function parseMessage(packet: Uint8Array, start = 0, end = packet.length): Message | null {
  if (end - start < HEADER_BYTES) return null
  const flags = getU16(packet, start + FLAGS_AT)
  const counts = [ANCOUNT_AT, NSCOUNT_AT, ARCOUNT_AT].map((at) => getU16(packet, start + at))
  const sections: ResourceRecord[][] = [[], [], []]
  let rcode = flags & RCODE_MASK
  let edns: Message['edns'] = null
  let at = start + QUESTION_AT
  let question: Message['question'] = null
  const questionCount = getU16(packet, start + QDCOUNT_AT)
  let isWhole = questionCount <= 1
  if (questionCount === 1) {
    const nameEnd = skipName(packet, at, end)
    const read = readName(packet, start, at, end, new Uint8Array(NAME_BYTES_MAX), 0)
    isWhole = read !== BAD_NAME && nameEnd + 4 <= end
    if (isWhole) {
      const name = expandName(packet, start, at)
      question = { name, type: getU16(packet, nameEnd), class: getU16(packet, nameEnd + 2) }
      at = nameEnd + 4
    }
  }
  const view = new RecordView()
  for (const [index, section] of sections.entries()) {
    for (let count = counts[index]!; count > 0 && isWhole; count--) {
      const next = readRecord(packet, start, at, end, view)
      isWhole = next !== BAD_RECORD
      if (!isWhole) break
      at = next
      if (view.type === TYPE_OPT && isOptWhole(packet, view)) {
        const ede = optEde(packet, view)
        rcode |= optExtendedRcode(packet, view) << 4
        edns = {
          udpBytes: optUdpBytes(packet, view),
          isDnssecOk: isOptDnssecOk(packet, view),
          version: optVersion(packet, view),
          ede: ede === EDE_NONE ? null : ede,
        }
      } else {
        section.push(toRecord(packet, start, view))
      }
    }
  }
  return {
    id: getU16(packet, start + ID_AT),
    flags: flags & ~RCODE_MASK,
    rcode,
    question,
    answers: sections[0]!,
    authority: sections[1]!,
    additional: sections[2]!,
    edns,
    isWhole: isWhole && at === end,
  }
}

function toRecord(packet: Uint8Array, start: number, view: RecordView): ResourceRecord {
  return {
    name: expandName(packet, start, view.ownerAt),
    type: view.type,
    class: view.class,
    ttl: getU32(packet, view.ttlAt),
    rdata: expandRdata(packet, start, view),
  }
}

/** The uncompressed name at `at`, which was checked, with its case. */
function expandName(packet: Uint8Array, start: number, at: number): Uint8Array {
  const name: number[] = []
  while (packet[at] !== 0) {
    const label = packet[at]!
    if (label >= 0xc0) {
      at = start + (((label & 0x3f) << 8) | packet[at + 1]!)
    } else {
      for (let index = 0; index <= label; index++) name.push(packet[at + index]!)
      at += 1 + label
    }
  }
  return Uint8Array.from([...name, 0])
}

/** RDATA with its names uncompressed, for the types that may hold compressed ones. */
function expandRdata(packet: Uint8Array, start: number, view: RecordView): Uint8Array {
  const out: number[] = []
  let at = view.rdataAt
  const fixed = fixedBytes(view.type, view.class)
  if (fixed !== null) {
    for (let names = view.type === TYPE_SOA ? 2 : 1; names > 0; names--) {
      for (const nameAt = at + fixed; at < nameAt; at++) out.push(packet[at]!)
      out.push(...expandName(packet, start, at))
      at = skipName(packet, at, view.rdataEnd)
    }
  }
  for (; at < view.rdataEnd; at++) out.push(packet[at]!)
  return Uint8Array.from(out)
}

/**
 * Bytes of RDATA before the name in it; null for types whose RDATA is not touched. These are types
 * whose names readRecord has checked, in the classes in which it did: expandName follows pointers
 * without looking where they lead (an SRV record of class CH once kept it going for ever).
 */
function fixedBytes(type: number, class_: number): number | null {
  switch (type) {
    case TYPE_NS:
    case TYPE_CNAME:
    case TYPE_PTR:
    case TYPE_DNAME:
    case TYPE_SOA:
      return 0
    case TYPE_MX:
      return 2
    case TYPE_SRV:
      return class_ === CLASS_IN ? 6 : null
    default:
      return null
  }
}

/** Also true of some bytes inside labels: then a name is not compressed, which is right as well. */
function isPointer(byte: number): boolean {
  return byte >= 0xc0
}

/** Writes a message, with compression of owner names and of names in RDATA that may have it. */
class Writer {
  readonly bytes: number[] = []
  readonly #isCompressed: boolean
  /** Where each name that was written begins, by its bytes. Case counts: it is to be kept. */
  readonly #seen = new Map<string, number>()

  constructor(isCompressed: boolean) {
    this.#isCompressed = isCompressed
  }

  u16(value: number): void {
    this.bytes.push(value >>> 8, value & 0xff)
  }

  question(text: string): void {
    const [name, ...words] = text.trim().split(/\s+/)
    const type = words.pop()
    if (name === undefined || type === undefined || words.length > 1) {
      throw new TextError(`"${text}" is not a question: NAME [CLASS] TYPE`)
    }
    this.name(parseNameAsWritten(name))
    this.u16(parseType(type))
    this.u16(words[0] === undefined ? CLASS_IN : (parseClass(words[0]) ?? CLASS_IN))
  }

  record(record: ResourceRecord): void {
    const fixed = new Uint8Array(8)
    putU16(fixed, 0, record.type)
    putU16(fixed, 2, record.class)
    putU16(fixed, 4, record.ttl >>> 16)
    putU16(fixed, 6, record.ttl)
    this.name(record.name)
    this.bytes.push(...fixed)
    const lengthAt = this.bytes.length
    this.u16(0)
    this.#rdata(record)
    const length = this.bytes.length - lengthAt - 2
    this.bytes[lengthAt] = length >>> 8
    this.bytes[lengthAt + 1] = length & 0xff
  }

  name(name: Uint8Array): void {
    let at = 0
    while (at < name.length && name[at] !== 0) {
      const rest = String(name.subarray(at))
      const before = this.#seen.get(rest)
      if (before !== undefined && this.#isCompressed) {
        this.u16(0xc000 | before)
        return
      }
      if (this.bytes.length < 0x4000) this.#seen.set(rest, this.bytes.length)
      const next = at + 1 + name[at]!
      this.bytes.push(...name.subarray(at, next))
      at = next
    }
    this.bytes.push(0)
  }

  /** Only the types of RFC 1035 may be compressed. Source: RFC 3597 §4. */
  #rdata(record: ResourceRecord): void {
    const { type, rdata } = record
    const fixed = type === TYPE_SRV || type === TYPE_DNAME ? null : fixedBytes(type, record.class)
    const first = fixed ?? 0
    const firstEnd = fixed === null ? BAD_NAME : skipName(rdata, first, rdata.length)
    const secondEnd =
      type === TYPE_SOA && firstEnd !== BAD_NAME
        ? skipName(rdata, firstEnd, rdata.length)
        : firstEnd
    const isMalformed = firstEnd === BAD_NAME || secondEnd === BAD_NAME
    if (fixed === null || isMalformed || rdata.subarray(first, secondEnd).some(isPointer)) {
      this.bytes.push(...rdata) // what a test made malformed on purpose stays so
      return
    }
    this.bytes.push(...rdata.subarray(0, first))
    this.name(rdata.subarray(first, firstEnd))
    if (type === TYPE_SOA) this.name(rdata.subarray(firstEnd, secondEnd))
    this.bytes.push(...rdata.subarray(secondEnd))
  }
}
