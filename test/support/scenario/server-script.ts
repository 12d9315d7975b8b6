/**
 * What a scripted upstream server says: records, and one fault at a time. Pure: a question in,
 * datagrams or one message of a stream out, each with its delay. In process the channels hand them
 * on by the clock; a real server sends the same bytes by its sockets.
 */
import assert from 'node:assert/strict'
import { putU16 } from '../../../src/wire/bytes.ts'
import {
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  FLAGS_AT,
  OPCODE_MASK,
  RCODE_NOERROR,
  RCODE_NXDOMAIN,
  TYPE_CNAME,
} from '../../../src/wire/header.ts'
import { buildMessage, type Message, parseMessage } from '../../../src/wire/message.ts'
import { LABEL_BYTES_MAX } from '../../../src/wire/name.ts'
import { formatClass, formatName, formatType } from '../../../src/wire/text.ts'
import { LIE, type LieSubject, type RecordChange, type ServerFault } from './scenario.ts'

/**
 * What comes back from a question. 'refused': an ICMP error, or a connection that is refused;
 * 'forwarded': what we ourselves answer, when the server asks us.
 */
export interface Said {
  readonly afterMs: number
  readonly bytes: Uint8Array | 'refused' | 'forwarded'
}

/** Records as a zone-file line each, by 'name TYPE' in lower case; and names that don't exist. */
export class ServerRecords {
  readonly #lines = new Map<string, string[]>()
  readonly #negative = new Map<string, Negative>()
  readonly #names = new Set<string>()

  change({ name, type, rdata, ttlSeconds, soaMinimum, isReplacing }: RecordChange): void {
    const folded = name.toLowerCase()
    const key = `${folded} ${type}`
    if (isReplacing || rdata === null) {
      this.#lines.delete(key)
      this.#negative.delete(key)
      this.#negative.delete(`${folded} NXDOMAIN`)
    }
    if (rdata === null) {
      this.#negative.set(key, { ttlSeconds, minimum: soaMinimum ?? ttlSeconds })
      if (type !== 'NXDOMAIN') this.#names.add(folded)
      return
    }
    this.#names.add(folded)
    const lines = this.#lines.get(key) ?? []
    this.#lines.set(key, [...lines, `${name}. ${ttlSeconds} IN ${type} ${rdata}`])
  }

  /** Along CNAME records as far as they lead, each name once. */
  find(name: string, type: string): { rcode: number; answers: string[]; soa: Negative | null } {
    const answers: string[] = []
    const seen = new Set<string>()
    let at = name.toLowerCase().replace(/\.$/, '')
    while (!seen.has(at)) {
      seen.add(at)
      const own = this.#lines.get(`${at} ${type}`)
      if (own !== undefined) {
        return { rcode: RCODE_NOERROR, answers: [...answers, ...own], soa: null }
      }
      const alias = this.#lines.get(`${at} ${formatType(TYPE_CNAME)}`)
      if (alias === undefined) {
        const isKnown = this.#names.has(at)
        const soa = this.#negative.get(`${at} ${isKnown ? type : 'NXDOMAIN'}`) ?? UNKNOWN
        return { rcode: isKnown ? RCODE_NOERROR : RCODE_NXDOMAIN, answers, soa }
      }
      answers.push(...alias)
      at = alias[0]!.split(' ').at(-1)!.toLowerCase().replace(/\.$/, '')
    }
    return { rcode: RCODE_NOERROR, answers, soa: null }
  }
}

/** Of the SOA record with which something is denied. */
interface Negative {
  readonly ttlSeconds: number
  readonly minimum: number
}

const ROOT = Uint8Array.of(0)
const UNKNOWN: Negative = { ttlSeconds: 300, minimum: 300 }

export class ScriptedServer {
  readonly records: ServerRecords
  #fault: ServerFault = { kind: 'none' }
  #toDrop = 0
  /** By name in lower case without final dot. */
  readonly #asked: { readonly name: string; readonly isTcp: boolean }[] = []

  constructor(records: ServerRecords) {
    this.records = records
  }

  setFault(fault: ServerFault): void {
    this.#fault = fault
    this.#toDrop = fault.kind === 'drops' ? fault.count : 0
  }

  askedCount(name: string, isTcp: boolean | null): number {
    const wanted = name.toLowerCase()
    return this.#asked.filter(
      (asked) => asked.name === wanted && (isTcp === null || asked.isTcp === isTcp),
    ).length
  }

  /** Whether nobody listens just now. */
  get isRefusing(): boolean {
    return this.#fault.kind === 'refuses'
  }

  /** @param bytes  the question as it came, without the length that a stream puts before it */
  ask(bytes: Uint8Array, isTcp: boolean): Said[] {
    const query = parseMessage(bytes)
    assert(query !== null, 'a message to an upstream can be read')
    const isQuestion = (query.flags & OPCODE_MASK) === 0
    assert(query.question !== null || !isQuestion, 'a query has a question')
    const name = formatName(query.question?.name ?? ROOT).replace(/(.)\.$/, '$1')
    this.#asked.push({ name: name.toLowerCase(), isTcp })
    if (this.#toDrop > 0) {
      this.#toDrop--
      return []
    }
    const answered = (flags?: number, added?: readonly string[]): Uint8Array =>
      isQuestion ? this.#answer(query, flags, added) : confirmed(bytes, query.flags)
    const fault = this.#fault
    switch (fault.kind) {
      case 'refuses':
        return [{ afterMs: 0, bytes: 'refused' }]
      case 'forwards':
        return [{ afterMs: 0, bytes: 'forwarded' }]
      case 'delays':
        return [{ afterMs: fault.ms, bytes: answered() }]
      case 'says':
        return [{ afterMs: 0, bytes: this.#error(query, fault.rcode) }]
      case 'truncates':
        return [{ afterMs: 0, bytes: answered(isTcp && !fault.isAlways ? 0 : FLAG_TC) }]
      case 'answers twice':
        return [0, 0].map((afterMs) => ({ afterMs, bytes: answered() }))
      case 'adds':
        return [{ afterMs: 0, bytes: answered(0, [fault.record]) }]
      case 'lies': {
        const truth: Said = { afterMs: 0, bytes: answered() }
        // Nobody but the server itself can write into a connection.
        if (isTcp) return [truth]
        const lie = lieTo(query, fault.about)
        return [...Array.from({ length: fault.count }, () => ({ afterMs: 0, bytes: lie })), truth]
      }
      default:
        return [{ afterMs: 0, bytes: answered() }]
    }
  }

  #answer(query: Message, flags = 0, added: readonly string[] = []): Uint8Array {
    const question = query.question!
    const name = formatName(question.name)
    const { rcode, answers, soa } = this.records.find(name, formatType(question.type))
    return buildMessage({
      ...head(query, flags),
      rcode,
      answers: [...answers, ...added],
      authority: soa === null ? [] : [soaRecord(soa)],
    })
  }

  #error(query: Message, rcode: number): Uint8Array {
    return buildMessage({ ...head(query, 0), rcode })
  }
}

/** To a message of another opcode: as it came, but for the bits that say so. */
function confirmed(bytes: Uint8Array, flags: number): Uint8Array {
  const reply = bytes.slice()
  putU16(reply, FLAGS_AT, flags | FLAG_QR | FLAG_RA)
  return reply
}

function head(query: Message, flags: number): Pick<Parts, 'id' | 'flags' | 'question' | 'edns'> {
  const { question } = query
  const opcode = query.flags & OPCODE_MASK
  return {
    id: query.id,
    flags: FLAG_QR | FLAG_RD | FLAG_RA | opcode | flags,
    question:
      question === null
        ? null
        : `${formatName(question.name)} ${formatClass(question.class)} ${formatType(question.type)}`,
    ...(opcode === 0 ? { edns: {} } : {}),
  }
}
type Parts = Parameters<typeof buildMessage>[0]

function soaRecord({ ttlSeconds, minimum }: Negative): string {
  return `example.com. ${ttlSeconds} IN SOA ns.example.com. hostmaster.example.com. 1 3600 600 86400 ${minimum}`
}

/** An answer that would be believed, were it not for one thing. */
function lieTo(query: Message, about: LieSubject): Uint8Array {
  const question = query.question!
  const name = formatName(question.name)
  const type = formatType(question.type)
  const asked = about === 'question' ? 'other.example.net.' : name
  const rdata = type === 'AAAA' ? LIE.v6 : LIE.v4
  const lie = buildMessage({
    ...head(query, 0),
    question: `${asked} ${type}`,
    answers: [`${asked} 300 IN ${type === 'AAAA' ? 'AAAA' : 'A'} ${rdata}`],
    isCompressed: false,
  })
  if (about === 'id') putU16(lie, 0, query.id ^ 0x5555)
  if (about === 'case') swapCase(lie, 12)
  return lie
}

/** Of the first letter of the name at `at`. */
function swapCase(message: Uint8Array, at: number): void {
  assert(message[at]! > 0 && message[at]! <= LABEL_BYTES_MAX, 'a name begins with a label')
  message[at + 1] = message[at + 1]! ^ 0x20
}
