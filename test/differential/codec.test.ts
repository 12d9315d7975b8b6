/**
 * The codec against dns-packet, another implementation of the same RFCs which shares no line with
 * ours: messages of every record type that both know, made by each and read by the other, and
 * messages with a byte or two changed.
 *
 * Where the two differ on purpose, and who says so:
 *   - dns-packet reads names as text, so a label with a dot, or bytes that are no UTF-8, is another
 *     name there; labels here are made of letters, digits, '-' and '_' (RFC 2181 §11 allows any);
 *   - it takes the length of a record from its data, where RDLENGTH says so (RFC 1035 §3.2.1): a
 *     changed message is compared when its RDLENGTHs are those of its data;
 *   - it writes an IPv6 address in a way of its own: `::1:0:0:0:0:0` is `0:0:1::` (RFC 5952 §4.2.3);
 *   - it splits off the highest bit of a class, which means something in multicast DNS only
 *     (RFC 6762 §10.2);
 *   - it reads names in the data of types that RFC 3597 §4 does not list (NAPTR, RP, RRSIG …) where
 *     we pass bytes on: the same unless a pointer is in them, which no generator of ours makes.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
// @ts-expect-error dns-packet ships no types
import dnsPacket from 'dns-packet'
// @ts-expect-error nor for its list of types
import { toString, toType } from 'dns-packet/types.js'
import fc from 'fast-check'
import { canonicalAddress } from '../../src/identity/address.ts'
import { Answer, ANSWER_OK, KIND_POSITIVE, parseAnswer } from '../../src/wire/answer.ts'
import { FLAG_AA, FLAG_QR, QUESTION_AT, TYPE_A, TYPE_AAAA } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatRecord, parseRecord, type ResourceRecord } from '../../src/wire/record-text.ts'
import { formatName, parseNameAsWritten } from '../../src/wire/text.ts'

/** What dns-packet makes of a record. */
interface TheirRecord {
  readonly name: string
  readonly type: string
  readonly ttl: number
  readonly class: string
  readonly data: unknown
}

interface TheirMessage {
  readonly answers: readonly TheirRecord[]
  readonly authorities: readonly TheirRecord[]
  readonly additionals: readonly TheirRecord[]
}

const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,12}$/)
const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'))
const ttl = fc.integer({ min: 0, max: 0x7fffffff })
const u8 = fc.nat(255)
const u16 = fc.nat(65535)
const v4 = fc.ipV4()
/** Not IPv4 in IPv6 form, which has two canonical texts. */
const v6 = fc.ipV6().filter((address) => !/[.]|ffff/i.test(address))
const bytes = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((some) => Buffer.from(some))
const text = fc.stringMatching(/^[ -~]{0,30}$/)
const types = fc.uniqueArray(fc.constantFrom('A', 'NS', 'TXT', 'AAAA', 'RRSIG', 'CAA'), {
  minLength: 1,
})

/** The data of each type, as dns-packet wants it. */
const DATA = {
  A: v4,
  AAAA: v6,
  CNAME: name,
  NS: name,
  PTR: name,
  DNAME: name,
  MX: fc.record({ preference: u16, exchange: name }),
  SRV: fc.record({ priority: u16, weight: u16, port: u16, target: name }),
  SOA: fc.record({
    ...{ mname: name, rname: name, serial: fc.nat(), refresh: fc.nat(), retry: fc.nat() },
    ...{ expire: fc.nat(), minimum: fc.nat() },
  }),
  TXT: fc.array(bytes, { minLength: 1, maxLength: 3 }),
  HINFO: fc.record({ cpu: text, os: text }),
  NULL: bytes,
  CAA: fc.record({ flags: u8, tag: fc.stringMatching(/^[a-z]{1,15}$/), value: text }),
  DNSKEY: fc.record({ flags: u16, algorithm: u8, key: bytes }),
  RRSIG: fc.record({
    ...{ typeCovered: fc.constantFrom('A', 'SOA', 'MX'), algorithm: u8, labels: u8 },
    ...{ originalTTL: ttl, expiration: fc.nat(), inception: fc.nat(), keyTag: u16 },
    ...{ signersName: name, signature: bytes },
  }),
  RP: fc.record({ mbox: name, txt: name }),
  NSEC: fc.record({ nextDomain: name, rrtypes: types }),
  NSEC3: fc.record({
    ...{ algorithm: u8, flags: u8, iterations: u16, salt: bytes, nextDomain: bytes },
    rrtypes: types,
  }),
  DS: fc.record({ keyTag: u16, algorithm: u8, digestType: u8, digest: bytes }),
  SSHFP: fc.record({
    ...{ algorithm: fc.constantFrom(1, 4), hash: fc.constant(1) },
    fingerprint: fc.uint8Array({ minLength: 20, maxLength: 20 }).map((some) => {
      return Buffer.from(some).toString('hex')
    }),
  }),
  NAPTR: fc.record({
    ...{ order: u16, preference: u16, flags: text, services: text, regexp: text },
    replacement: name,
  }),
  TLSA: fc.record({ usage: u8, selector: u8, matchingType: u8, certificate: bytes }),
  UNKNOWN_65280: bytes,
} as const

const record = fc.oneof(
  ...Object.entries(DATA).map(([type, data]) =>
    fc.record({ type: fc.constant(type), name, ttl, data: data as fc.Arbitrary<unknown> }),
  ),
)
const sections = fc.record({
  id: u16,
  answers: fc.array(record, { maxLength: 6 }),
  authorities: fc.array(record, { maxLength: 3 }),
  additionals: fc.array(record, { maxLength: 3 }),
})

function encode(asked: string, section: object): Buffer {
  return dnsPacket.encode({
    type: 'response',
    flags: dnsPacket.AUTHORITATIVE_ANSWER,
    questions: [{ type: 'A', name: asked }],
    ...section,
  })
}

for (const type of Object.keys(DATA) as (keyof typeof DATA)[]) {
  test(`${type}: what dns-packet writes we read, and what we write of it dns-packet reads`, () => {
    const one = fc.record({ name, ttl, data: DATA[type] as fc.Arbitrary<unknown> })
    fc.assert(
      fc.property(one, (made) => sameBothWays(made.name, { answers: [{ type, ...made }] })),
      { numRuns: 60 },
    )
  })
}

test('whole messages of all types are the same both ways', () => {
  fc.assert(fc.property(name, sections, sameBothWays), { numRuns: 400 })
})

function sameBothWays(asked: string, section: object): void {
  const theirs = encode(asked, section)
  const decoded = dnsPacket.decode(theirs) as TheirMessage
  const read = parseMessage(theirs)
  assert.ok(read?.isWhole)
  assert.equal(read.flags, FLAG_QR | FLAG_AA)
  assert.deepEqual(read.question?.name, parseNameAsWritten(asked))
  assert.deepEqual(headsOf(read), headsOfTheirs(decoded))
  const records = [...read.answers, ...read.authority, ...read.additional]
  for (const one of records) assert.deepEqual(parseRecord(formatRecord(one)), one, 'as text too')
  for (const isCompressed of [true, false]) {
    const ours = buildMessage({
      id: read.id,
      flags: read.flags,
      question: `${asked} A`,
      answers: read.answers,
      authority: read.authority,
      additional: read.additional,
      isCompressed,
    })
    assert.deepEqual(dnsPacket.decode(Buffer.from(ours)), decoded)
  }
}

type Sections = Pick<
  NonNullable<ReturnType<typeof parseMessage>>,
  'answers' | 'authority' | 'additional'
>

/** Owner, type, class and TTL of all records; addresses and plain names of the data too. */
function headsOf({ answers, authority, additional }: Sections): string[][] {
  return [answers, authority, additional].map((section) => section.map(headOf))
}

function headOf({ name: owner, type, ttl: seconds, class: class_, rdata }: ResourceRecord): string {
  const data = WITH_PLAIN_DATA.some((known) => toType(known) === type)
    ? formatRecord({ name: owner, type, ttl: seconds, class: class_, rdata }).split(' ').at(-1)
    : ''
  return `${formatName(owner)} ${seconds} ${class_} ${type} ${data}`
}

const CLASSES: Readonly<Record<string, number>> = { IN: 1, CS: 2, CH: 3, HS: 4, ANY: 255 }
const WITH_PLAIN_DATA = ['A', 'AAAA', 'CNAME', 'NS', 'PTR', 'DNAME']

function headsOfTheirs({ answers, authorities, additionals }: TheirMessage): string[][] {
  return [answers, authorities, additionals].map((section) =>
    section.map((one) => {
      const data = WITH_PLAIN_DATA.includes(one.type) ? plainOf(one) : ''
      return `${absolute(one.name)} ${one.ttl} ${CLASSES[one.class]} ${toType(one.type)} ${data}`
    }),
  )
}

/** An address in canonical text, or a name. */
function plainOf({ type, data }: TheirRecord): string {
  const plain = String(data)
  return type === 'A' || type === 'AAAA' ? canonicalAddress(plain)! : absolute(plain)
}

function absolute(text: string): string {
  return text === '.' ? text : `${text}.`
}

test('what is learned from an answer is what dns-packet sees at the end of its chain', () => {
  const few = fc.constantFrom('a.example.com', 'b.example.com', 'c.example.net', 'd.example.org')
  const chain = fc.array(
    fc.oneof(
      fc.record({ type: fc.constant('A'), name: few, ttl, data: v4 }),
      fc.record({ type: fc.constant('AAAA'), name: few, ttl, data: v6 }),
      fc.record({ type: fc.constant('CNAME'), name: few, ttl, data: few }),
    ),
    { maxLength: 8 },
  )
  let positive = 0
  fc.assert(
    fc.property(few, chain, (asked, answers) => {
      const packet = encode(asked, { answers })
      const question = buildMessage({ question: `${asked} A` }).subarray(QUESTION_AT)
      const answer = new Answer()
      const code = parseAnswer(packet, 0, packet.length, question, 0, question.length, answer)
      assert.equal(code, ANSWER_OK)
      const decoded = (dnsPacket.decode(packet) as TheirMessage).answers
      const expected = chainEnd(asked, decoded)
      if (answer.kind !== KIND_POSITIVE) {
        assert.ok(expected === null || !decoded.some((one) => isAt(one, expected, 'A')))
        return
      }
      positive++
      assert.equal(formatName(answer.endName, 0, answer.endNameBytes), `${expected}.`)
      const addresses = Array.from({ length: answer.addressCount }, (_, index) => {
        const at = answer.addressOffsets[index]!
        const size = answer.addressFamilies[index] === 4 ? 4 : 16
        return formatRecord({
          ...{ name: Uint8Array.of(0), type: size === 4 ? TYPE_A : TYPE_AAAA, class: 1, ttl: 0 },
          rdata: packet.subarray(at, at + size),
        })
          .split(' ')
          .at(-1)
      })
      const theirs = decoded.filter(
        (one) => isAt(one, expected!, 'A') || isAt(one, expected!, 'AAAA'),
      )
      assert.deepEqual(addresses, theirs.map(plainOf))
    }),
    { numRuns: 1000 },
  )
  assert.ok(positive > 100, 'the test is about something')
})

function isAt(one: TheirRecord, owner: string, type: string): boolean {
  return one.name === owner && one.type === type
}

/** Where the CNAME records lead; null for a loop. The first record of two for a name counts. */
function chainEnd(asked: string, records: readonly TheirRecord[]): string | null {
  let at = asked
  for (let steps = 0; steps <= 16; steps++) {
    if (records.some((one) => isAt(one, at, 'A'))) return at
    const alias = records.find((one) => isAt(one, at, 'CNAME'))
    if (alias === undefined) return at
    at = String(alias.data)
  }
  return null
}

test('of a message with changed bytes, what both take is read the same', () => {
  const changes = fc.array(fc.tuple(fc.nat(0xffff), u8), { minLength: 1, maxLength: 2 })
  let compared = 0
  fc.assert(
    fc.property(name, sections, changes, (asked, section, changed) => {
      const packet = buildCompressed(asked, section)
      for (const [at, byte] of changed) packet[at % packet.length] = byte
      const read = parseMessage(packet)
      const theirs = tryDecode(packet)
      if (!read?.isWhole || read.question === null || theirs === null) return
      if (!isComparable(read, theirs)) return
      compared++
      assert.deepEqual(headsOf(read), headsOfTheirs(theirs))
    }),
    { numRuns: 1500, seed: 1035 },
  )
  assert.ok(compared > 300, 'the test is about something')
})

/** dns-packet does not compress; ours of the same records does. */
function buildCompressed(asked: string, section: object): Uint8Array {
  const read = parseMessage(encode(asked, section))!
  return buildMessage({ ...read, question: `${asked} A`, edns: undefined } as never)
}

function tryDecode(packet: Uint8Array): TheirMessage | null {
  try {
    return dnsPacket.decode(Buffer.from(packet)) as TheirMessage
  } catch {
    return null
  }
}

/** See the head of this file for what is not. */
function isComparable(read: Sections, theirs: TheirMessage): boolean {
  const records = [...read.answers, ...read.authority, ...read.additional]
  const others = [...theirs.answers, ...theirs.authorities, ...theirs.additionals]
  return (
    records.length === others.length &&
    records.every((one) => (one.class & 0x8000) === 0 && isDataAsLong(one)) &&
    others.every((one) => one.type !== 'OPT' && CLASSES[one.class] !== undefined) &&
    [...headsOf(read), ...headsOfTheirs(theirs)].flat().every((head) => /^[\w.: -]+$/.test(head))
  )
}

function isDataAsLong({ type, rdata }: ResourceRecord): boolean {
  const codec = dnsPacket.record(toString(type))
  try {
    codec.decode(Buffer.from([rdata.length >> 8, rdata.length & 0xff, ...rdata]), 0)
  } catch {
    return false
  }
  return codec.decode.bytes === rdata.length + 2
}
