import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
// @ts-expect-error dns-packet ships no types
import dnsPacket from 'dns-packet'
import fc from 'fast-check'
import { FLAG_AA, FLAG_QR, FLAG_RA, FLAG_RD } from './header.ts'
import { buildMessage, type MessageParts, parseMessage } from './message.ts'
import { formatRecord, parseRecord } from './record-text.ts'
import { formatName, parseNameAsWritten } from './text.ts'

const parts: MessageParts = {
  id: 7,
  flags: FLAG_QR | FLAG_RD | FLAG_RA,
  question: 'www.example.com. A',
  answers: [
    'www.example.com. 30 IN CNAME api.example.com.',
    'api.example.com. 30 IN A 192.0.2.10',
    'example.com. 60 IN MX 10 mail.example.com.',
    'example.com. 60 IN SRV 1 2 3 mail.example.com.',
  ],
  authority: ['example.com. 60 IN SOA ns1.example.com. admin.example.com. 1 2 3 4 5'],
  additional: ['mail.example.com. 60 IN AAAA 2001:db8::25'],
  edns: { udpBytes: 4096, isDnssecOk: true, ede: 3 },
}

describe('a message that is built', () => {
  for (const isCompressed of [true, false]) {
    test(`reads back (${isCompressed ? 'compressed' : 'not compressed'})`, () => {
      const message = parseMessage(buildMessage({ ...parts, isCompressed }))
      assert.ok(message !== null)
      assert.equal(message.isWhole, true)
      assert.equal(message.id, 7)
      assert.equal(message.flags, FLAG_QR | FLAG_RD | FLAG_RA)
      assert.equal(formatName(message.question!.name), 'www.example.com.')
      assert.deepEqual(message.answers.map(formatRecord), parts.answers)
      assert.deepEqual(message.authority.map(formatRecord), parts.authority)
      assert.deepEqual(message.additional.map(formatRecord), parts.additional)
      assert.deepEqual(message.edns, { udpBytes: 4096, isDnssecOk: true, version: 0, ede: 3 })
    })
  }
  test('is shorter with compression', () => {
    const long = buildMessage({ ...parts, isCompressed: false }).length
    assert.ok(buildMessage(parts).length < long - 80)
  })
  test('keeps the case of names', () => {
    const message = parseMessage(
      buildMessage({ question: 'WwW.example.com. A', answers: ['www.Example.com. A 192.0.2.1'] }),
    )
    assert.equal(formatName(message!.question!.name), 'WwW.example.com.')
    assert.equal(formatName(message!.answers[0]!.name), 'www.Example.com.')
  })
  test('can have an extended rcode, and no question', () => {
    const message = parseMessage(buildMessage({ question: null, rcode: 16, edns: {} }))
    assert.equal(message?.rcode, 16)
    assert.equal(message?.question, null)
  })
})

test('a message that was cut anywhere gives the records before the cut, and says that it is cut', () => {
  const packet = buildMessage(parts)
  for (let end = 0; end < packet.length; end++) {
    const message = parseMessage(packet, 0, end)
    assert.equal(message === null, end < 12)
    assert.notEqual(message?.isWhole, true)
    const texts = message?.answers.map(formatRecord) ?? []
    assert.deepEqual(texts, parts.answers!.slice(0, texts.length))
  }
})

// Only in class IN does an SRV record have the form of RFC 2782; in others its bytes are opaque.
test('what looks like a name in the data of another class is not followed', () => {
  const packet = buildMessage({ question: null, answers: ['. CH SRV \\# 8 000000000000c01d'] })
  assert.deepEqual(parseMessage(packet)?.answers[0]?.rdata, packet.slice(-8))
})

test('bytes behind the last record are seen', () => {
  assert.equal(parseMessage(Uint8Array.of(...buildMessage(parts), 0))?.isWhole, false)
})

// dns-packet is another implementation of the same RFCs, and compresses differently.
const label = fc.stringMatching(/^[a-z0-9_-]{1,12}$/)
const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'))
const ttl = fc.integer({ min: 0, max: 0x7fffffff })
const v4 = fc.ipV4()
const v6 = fc.ipV6().filter((text) => !text.includes('.'))
const record = fc.oneof(
  fc.record({ type: fc.constant('A'), name, ttl, data: v4 }),
  fc.record({ type: fc.constant('AAAA'), name, ttl, data: v6 }),
  fc.record({ type: fc.constantFrom('CNAME', 'NS', 'PTR', 'DNAME'), name, ttl, data: name }),
  fc.record({
    type: fc.constant('MX'),
    name,
    ttl,
    data: fc.record({ preference: fc.nat(65535), exchange: name }),
  }),
  fc.record({
    type: fc.constant('SRV'),
    name,
    ttl,
    data: fc.record({
      priority: fc.nat(65535),
      weight: fc.nat(65535),
      port: fc.nat(65535),
      target: name,
    }),
  }),
  fc.record({
    type: fc.constant('TXT'),
    name,
    ttl,
    data: fc.array(fc.uint8Array({ maxLength: 40 }).map(Buffer.from), {
      minLength: 1,
      maxLength: 3,
    }),
  }),
  fc.record({
    type: fc.constant('SOA'),
    name,
    ttl,
    data: fc.record({
      mname: name,
      rname: name,
      serial: fc.nat(),
      refresh: fc.nat(),
      retry: fc.nat(),
      expire: fc.nat(),
      minimum: fc.nat(),
    }),
  }),
)

test('what dns-packet writes, we read, and what we write of it, dns-packet reads the same', () => {
  const sections = fc.record({
    id: fc.nat(65535),
    answers: fc.array(record, { maxLength: 6 }),
    authorities: fc.array(record, { maxLength: 3 }),
    additionals: fc.array(record, { maxLength: 3 }),
  })
  fc.assert(
    fc.property(sections, name, (section, asked) => {
      const theirs = dnsPacket.encode({
        type: 'response',
        flags: dnsPacket.AUTHORITATIVE_ANSWER,
        questions: [{ type: 'A', name: asked }],
        ...section,
      })
      const read = parseMessage(theirs)
      assert.ok(read?.isWhole)
      assert.equal(read.flags, FLAG_QR | FLAG_AA)
      assert.deepEqual(read.question?.name, parseNameAsWritten(asked))
      const lines = [...read.answers, ...read.authority, ...read.additional].map(formatRecord)
      assert.deepEqual(
        lines.map((line) => formatRecord(parseRecord(line))),
        lines,
      )
      const ours = buildMessage({
        id: read.id,
        flags: read.flags,
        question: `${asked} A`,
        answers: read.answers,
        authority: read.authority,
        additional: read.additional,
      })
      assert.deepEqual(dnsPacket.decode(Buffer.from(ours)), dnsPacket.decode(theirs))
    }),
    { numRuns: 300 },
  )
})
