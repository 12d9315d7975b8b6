import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FLAG_QR, FLAG_RA, FLAG_RD } from './header.ts'
import { buildMessage, type MessageParts, parseMessage } from './message.ts'
import { formatRecord } from './record-text.ts'
import { formatName } from './text.ts'

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
