import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { ANSWER_OK, Answer, parseAnswer } from '../wire/answer.ts'
import { FLAG_QR, FLAG_RD } from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'
import { formatRecord } from '../wire/record-text.ts'
import { describe } from './learn.ts'
import { MessageMeta } from './meta.ts'
import { rotate } from './rotate.ts'

/** The message somewhere in a larger buffer, and what is known of it. */
function answerOf(question: string, answers: string[], isCompressed = true) {
  const query = buildMessage({ id: 1, flags: FLAG_RD, question })
  const message = buildMessage({ id: 1, flags: FLAG_QR, question, answers, isCompressed })
  const bytes = new Uint8Array(message.length + 20).fill(0xee)
  bytes.set(message, 7)
  const answer = new Answer()
  const end = 7 + message.length
  assert.equal(parseAnswer(bytes, 7, end, query, 12, query.length - 12, answer), ANSWER_OK)
  const meta = new MessageMeta()
  describe(meta, answer)
  return { bytes, meta, end }
}

/** The records after a turn, as text. */
function turned(question: string, answers: string[], turn: number, isCompressed = true): string[] {
  const { bytes, meta, end } = answerOf(question, answers, isCompressed)
  rotate(bytes, 7, meta, question.endsWith('AAAA') ? 6 : 4, turn)
  assert.deepEqual([...bytes.slice(0, 7), ...bytes.slice(end)], Array(20).fill(0xee))
  const message = parseMessage(bytes.slice(7, end))
  assert(message?.isWhole, 'it is a message still')
  return message.answers.map(formatRecord)
}

function addresses(hosts: number[], ttl = 30): string[] {
  return hosts.map((host) => `www.example.com. ${ttl} IN A 192.0.2.${host}`)
}

test('each turn puts another address in front and keeps the order behind it', () => {
  const turns = [0, 1, 2, 3, 65_535].map((turn) =>
    turned('www.example.com. A', addresses([1, 2, 3]), turn),
  )
  assert.deepEqual(turns, [
    addresses([1, 2, 3]),
    addresses([2, 3, 1]),
    addresses([3, 1, 2]),
    addresses([1, 2, 3]),
    addresses([1, 2, 3]),
  ])
})

test('IPv6 addresses are moved as whole ones', () => {
  const lines = ['1', '2:3', '4:5:6'].map((host) => `www.example.com. 30 IN AAAA 2001:db8::${host}`)
  const [first, second, third] = lines as [string, string, string]
  assert.deepEqual(turned('www.example.com. AAAA', lines, 1), [second, third, first])
})

test('CNAME records stay in front, whatever is compressed', () => {
  const chain = [
    'www.example.com. 300 IN CNAME front.example.net.',
    'front.example.net. 60 IN CNAME edge.example.net.',
  ]
  const ends = [1, 2, 3].map((host) => `edge.example.net. 30 IN A 192.0.2.${host}`)
  const [first, second, third] = ends as [string, string, string]
  for (const isCompressed of [true, false]) {
    assert.deepEqual(turned('www.example.com. A', [...chain, ...ends], 2, isCompressed), [
      ...chain,
      third,
      first,
      second,
    ])
  }
})

test('addresses with different TTLs stay where they are: an address keeps its own TTL', () => {
  const lines = [...addresses([1], 30), ...addresses([2], 5)]
  for (const turn of [1, 2, 3]) assert.deepEqual(turned('www.example.com. A', lines, turn), lines)
})

test('records of other names, and hints, stay where they are', () => {
  const other = 'other.example.com. 30 IN A 192.0.2.66'
  const hints = 'www.example.com. 30 IN HTTPS 1 . ipv4hint=192.0.2.7,192.0.2.8'
  const [first, second] = addresses([1, 2]) as [string, string]
  assert.deepEqual(turned('www.example.com. A', [first, other, hints, second], 1), [
    second,
    other,
    hints,
    first,
  ])
})

test('no address is lost or doubled, and nothing else changes, whatever the answer', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 254 }), { maxLength: 40 }),
      fc.nat(70_000),
      fc.boolean(),
      (hosts, turn, isCompressed) => {
        const shift = hosts.length === 0 ? 0 : turn % hosts.length
        const expected = [...hosts.slice(shift), ...hosts.slice(0, shift)]
        assert.deepEqual(
          turned('www.example.com. A', addresses(hosts), turn, isCompressed),
          addresses(expected),
        )
      },
    ),
  )
})

allocatesNothing('moving addresses round allocates nothing', () => {
  const { bytes, meta } = answerOf('www.example.com. A', addresses([1, 2, 3, 4]))
  return (call) => rotate(bytes, 7, meta, 4, call & 0xffff)
})
