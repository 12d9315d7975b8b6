import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseAddress } from '../identity/address.ts'
import { type FlowFields, decodeFlow, encodeFlow, type QuestionFlow } from './decode.ts'
import { REASON_ANSWERED_BY_UPSTREAM, REASON_NO_GRANT } from './reason.ts'
import {
  FLAG_CACHED,
  FLAG_SHARED,
  FLAGS_OPCODE_SHIFT,
  FLOW_CONNECTION,
  FLOW_QUESTION,
  FLOW_REASON,
  FLOW_VERDICT,
  VERDICT_DENIED,
  VERDICT_FORWARDED,
} from './record.ts'

const QUESTION: FlowFields = {
  type: FLOW_QUESTION,
  timeMs: Date.UTC(2026, 8, 1, 2, 36, 13, 439),
  verdict: VERDICT_FORWARDED,
  reason: REASON_ANSWERED_BY_UPSTREAM,
  protocol: 17,
  flags: FLAG_CACHED | FLAG_SHARED,
  source: parseAddress('10.0.0.7')!,
  sourcePort: 34034,
  destination: parseAddress('10.96.0.10')!,
  destinationPort: 53,
  interfaceIndex: 7,
}

interface TestRecord {
  readonly type: number
  readonly ttl: number
  readonly data: Uint8Array
}

const NAME = Buffer.from('\x03www\x07example\x03com\x00', 'latin1')
/** cdn.example.com: its parent is a pointer into the question's name. */
const TARGET = Buffer.from('\x03cdn\xc0\x10', 'latin1')

/** A response to the question for NAME; every record's owner is a pointer to it. */
function message(records: readonly TestRecord[], rcode = 0): Uint8Array {
  const header = Buffer.alloc(12)
  header.writeUInt16BE(0x8180 | rcode, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(records.length, 6)
  const parts: Uint8Array[] = [header, NAME, Buffer.of(0, 1, 0, 1)]
  for (const record of records) {
    const fixed = Buffer.alloc(12)
    fixed.writeUInt16BE(0xc00c, 0)
    fixed.writeUInt16BE(record.type, 2)
    fixed.writeUInt16BE(1, 4)
    fixed.writeUInt32BE(record.ttl, 6)
    fixed.writeUInt16BE(record.data.length, 10)
    parts.push(fixed, record.data)
  }
  return Buffer.concat(parts)
}

/** The flow of a question whose answer is `answer`. */
function questionFlow(answer: Uint8Array): QuestionFlow {
  const question = { name: NAME, qtype: 1, qclass: 1, durationUs: 9000, message: answer }
  const bytes = encodeFlow({ ...QUESTION, question })
  const flow = decodeFlow(bytes, 0, bytes.length)
  assert.equal(flow?.type, 'question')
  return flow
}

test('a question reads back as it was written, with addresses, aliases and the lowest TTL', () => {
  const flow = questionFlow(
    message([
      { type: 5, ttl: 300, data: TARGET },
      { type: 1, ttl: 60, data: parseAddress('192.0.2.10')! },
      { type: 28, ttl: 90, data: parseAddress('2001:db8::10')! },
    ]),
  )
  assert.deepEqual(flow, {
    type: 'question',
    timeMs: QUESTION.timeMs,
    verdict: 'FORWARDED',
    reason: 'ANSWERED_BY_UPSTREAM',
    protocol: 'udp',
    source: { address: '10.0.0.7', port: 34034 },
    destination: { address: '10.96.0.10', port: 53 },
    interfaceIndex: 7,
    name: 'www.example.com.',
    qtype: 'A',
    qclass: 1,
    opcode: 'QUERY',
    durationUs: 9000,
    isCached: true,
    isStale: false,
    isShared: true,
    answer: {
      rcode: 0,
      addresses: ['192.0.2.10', '2001:db8::10'],
      cnames: ['cdn.example.com.'],
      types: ['CNAME', 'A', 'AAAA'],
      ttlSeconds: 60,
      isCut: false,
    },
  })
})

test('of another opcode the opcode is told, and its sections are no answers', () => {
  const answer = message([{ type: 1, ttl: 60, data: parseAddress('192.0.2.10')! }])
  answer[2] = 0xa8 // QR, UPDATE
  const question = { name: NAME, qtype: 6, qclass: 1, durationUs: 9000, message: answer }
  const bytes = encodeFlow({ ...QUESTION, flags: 5 << FLAGS_OPCODE_SHIFT, question })
  const flow = decodeFlow(bytes, 0, bytes.length)
  assert(flow?.type === 'question')
  assert.deepEqual([flow.opcode, flow.qtype, flow.isCached], ['UPDATE', 'SOA', false])
  assert.deepEqual(flow.answer?.addresses, [])
})

test('a dropped connection reads back as it was written', () => {
  const bytes = encodeFlow({
    ...QUESTION,
    type: FLOW_CONNECTION,
    verdict: VERDICT_DENIED,
    reason: REASON_NO_GRANT,
    protocol: 6,
    flags: 0x12,
    source: parseAddress('2001:db8::7')!,
    destination: parseAddress('2001:db8:1::1')!,
    destinationPort: 443,
  })
  assert.deepEqual(decodeFlow(bytes, 0, bytes.length), {
    type: 'connection',
    timeMs: QUESTION.timeMs,
    verdict: 'DROPPED',
    reason: 'NO_GRANT',
    protocol: 'tcp',
    source: { address: '2001:db8::7', port: 34034 },
    destination: { address: '2001:db8:1::1', port: 443 },
    interfaceIndex: 7,
    tcpFlags: ['SYN', 'ACK'],
  })
})

test('an answer longer than the record keeps shows what is whole, and that it was cut', () => {
  const answers = Array.from({ length: 40 }, (_, index) => ({
    type: 1,
    ttl: 30,
    data: Uint8Array.of(192, 0, 2, index),
  }))
  const { answer } = questionFlow(message(answers))
  assert.ok(answer!.addresses.length > 10 && answer!.addresses.length < 40)
  assert.equal(answer!.addresses[0], '192.0.2.0')
  assert.equal(answer!.isCut, true)
})

test('an empty answer has no TTL, an error has its rcode, a withheld answer is null', () => {
  assert.deepEqual(questionFlow(message([], 3)).answer, {
    rcode: 3,
    addresses: [],
    cnames: [],
    types: [],
    ttlSeconds: null,
    isCut: false,
  })
  assert.equal(questionFlow(new Uint8Array(0)).answer, null)
})

test('a record that is not whole, or of a kind nobody knows, is no flow', () => {
  const bytes = encodeFlow(QUESTION)
  assert.equal(decodeFlow(bytes, 0, bytes.length - 1), null)
  const question = { name: NAME, qtype: 1, qclass: 1, durationUs: 0, message: message([]) }
  const asked = encodeFlow({ ...QUESTION, question })
  assert.equal(decodeFlow(asked, 0, asked.length - 1), null)
  const verdict = bytes.slice()
  verdict[FLOW_VERDICT] = 9
  assert.equal(decodeFlow(verdict, 0, verdict.length), null)
})

test('a reason of a later release keeps its number', () => {
  const bytes = encodeFlow(QUESTION)
  bytes[FLOW_REASON] = 200
  assert.equal(decodeFlow(bytes, 0, bytes.length)?.reason, 'REASON_200')
})

test('bytes of a peer gone mad are a flow or null, never an exception', () => {
  const answer = message([{ type: 1, ttl: 1, data: Uint8Array.of(192, 0, 2, 1) }])
  const question = { name: NAME, qtype: 1, qclass: 1, durationUs: 0, message: answer }
  const whole = encodeFlow({ ...QUESTION, question })
  const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255))
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), fc.nat(whole.length), (changes, length) => {
      const bytes = whole.slice()
      for (const [at, value] of changes) bytes[at] = value
      const flow = decodeFlow(bytes, 0, length)
      assert.ok(flow === null || flow.type === 'question' || flow.type === 'connection')
    }),
    { numRuns: 2000 },
  )
})
