import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
// @ts-expect-error dns-packet ships no types
import dnsPacket from 'dns-packet'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { Answer, ANSWER_OK, parseAnswer } from './answer.ts'
import {
  ageTtls,
  cutAtOpt,
  finishAnswer,
  SMALL_BYTES_MAX,
  writeError,
  writeLoopback,
  writeMinimalAny,
  writeQuestion,
} from './build.ts'
import { getU16 } from './bytes.ts'
import { UDP_BYTES } from './edns.ts'
import {
  EDE_BLOCKED,
  EDE_NONE,
  EDE_STALE_ANSWER,
  FLAG_AA,
  FLAG_AD,
  FLAG_CD,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  FLAGS_AT,
  MESSAGE_BYTES_MAX,
  RCODE_REFUSED,
} from './header.ts'
import { buildMessage, type Message, type MessageParts, parseMessage } from './message.ts'
import { parseQuery, Query } from './query.ts'
import { formatRecord } from './record-text.ts'
import { formatName, parseNameAsWritten } from './text.ts'

/** Where the client's message and the answer lie in their buffers: not at 0. */
const START = 100
const OUT_AT = 33

function client(parts: Partial<MessageParts>) {
  const sent = buildMessage({
    id: 0x1234,
    flags: FLAG_RD,
    question: 'wWw.example.com. A',
    ...parts,
  })
  const packet = new Uint8Array(START + sent.length + 50).fill(0xee)
  packet.set(sent, START)
  const query = new Query(1)
  const code = parseQuery(packet, START, START + sent.length, query, new Uint8Array(255), 0)
  return { packet, query, code }
}

/** What was written, read back; every byte outside of it must be as it was. */
function written(out: Uint8Array, bytes: number): Message {
  assert.ok(out.subarray(0, OUT_AT).every((byte) => byte === 0xdd))
  const message = parseMessage(out, OUT_AT, OUT_AT + bytes)
  assert.ok(message?.isWhole)
  dnsPacket.decode(Buffer.from(out.subarray(OUT_AT, OUT_AT + bytes)))
  return message
}

describe('writeQuestion', () => {
  test('asks with the name as given, flags, and an OPT record of ours', () => {
    const out = new Uint8Array(600).fill(0xdd)
    const name = parseNameAsWritten('wWw.ExAmple.com')
    const buffer = Uint8Array.of(1, 2, ...name)
    const flags = FLAG_RD | FLAG_CD
    const bytes = writeQuestion(
      out,
      OUT_AT,
      0xabcd,
      flags,
      buffer,
      2,
      name.length,
      65,
      1,
      true,
      1232,
    )
    const message = written(out, bytes)
    assert.deepEqual([message.id, message.flags, message.rcode], [0xabcd, flags, 0])
    assert.deepEqual(message.question, { name, type: 65, class: 1 })
    assert.deepEqual(message.edns, { udpBytes: 1232, isDnssecOk: true, version: 0, ede: null })
    assert.ok(out.subarray(OUT_AT + bytes).every((byte) => byte === 0xdd))
  })
  test('the longest question fits the room that is promised', () => {
    const label = 'a'.repeat(63)
    const name = parseNameAsWritten(`${label}.${label}.${label}.${'a'.repeat(61)}`)
    const out = new Uint8Array(600)
    const bytes = writeQuestion(out, OUT_AT, 1, 0, name, 0, name.length, 1, 1, false, 1232)
    assert.ok(bytes <= SMALL_BYTES_MAX)
  })
})

describe('writeError', () => {
  const refuse = (parts: Partial<MessageParts>, rcode = 5, ede = EDE_BLOCKED) => {
    const { packet, query } = client(parts)
    const out = new Uint8Array(600).fill(0xdd)
    return written(out, writeError(out, OUT_AT, packet, START, query, rcode, ede))
  }
  test('repeats ID, opcode, RD and CD and the question with its case, and sets RA', () => {
    const message = refuse({ flags: FLAG_RD | FLAG_CD | FLAG_AD | FLAG_AA | FLAG_TC })
    assert.deepEqual(
      [message.id, message.flags, message.rcode],
      [0x1234, FLAG_QR | FLAG_RA | FLAG_RD | FLAG_CD, 5],
    )
    assert.equal(formatName(message.question!.name), 'wWw.example.com.')
    assert.equal(message.edns, null, 'a client without EDNS gets none')
  })
  test('tells a client that speaks EDNS the reason (RFC 8914), and repeats DO', () => {
    const edns = { udpBytes: UDP_BYTES, isDnssecOk: true, version: 0, ede: EDE_BLOCKED }
    assert.deepEqual(refuse({ edns: { isDnssecOk: true } }).edns, edns)
    assert.equal(refuse({ edns: {} }, 5, EDE_NONE).edns?.ede, null)
  })
  test('says BADVERS in both places where its bits lie', () => {
    const message = refuse({ edns: { version: 7 } }, 16, EDE_NONE)
    assert.equal(message.rcode, 16)
    assert.equal(message.edns?.version, 0)
  })
  test('goes without a question where none could be read', () => {
    const message = refuse({ question: null }, 1)
    assert.deepEqual([message.id, message.rcode, message.question], [0x1234, 1, null])
    assert.equal(refuse({ question: null, flags: 0x2800 }, 4).flags & 0x7800, 0x2800)
  })
})

test('ANY is answered with one HINFO record (RFC 8482)', () => {
  for (const edns of [undefined, {}]) {
    const { packet, query } = client({
      question: 'wWw.example.com. ANY',
      ...(edns === undefined ? {} : { edns }),
    })
    const out = new Uint8Array(600).fill(0xdd)
    const bytes = writeMinimalAny(out, OUT_AT, packet, START, query)
    const message = written(out, bytes)
    assert.ok(bytes <= SMALL_BYTES_MAX)
    assert.deepEqual(message.answers.map(formatRecord), [
      'wWw.example.com. 3600 IN HINFO "RFC8482" ""',
    ])
    assert.equal(message.edns !== null, edns !== undefined)
  }
})

test('localhost is answered with the loopback address of the family asked for (RFC 6761 §6.3)', () => {
  for (const [type, address] of [
    ['A', '127.0.0.1'],
    ['AAAA', '::1'],
  ]) {
    const { packet, query } = client({ question: `LocalHost. ${type}`, edns: {} })
    const out = new Uint8Array(600).fill(0xdd)
    const bytes = writeLoopback(out, OUT_AT, packet, START, query)
    const lines = written(out, bytes).answers.map(formatRecord)
    assert.deepEqual(lines, [`LocalHost. 3600 IN ${type} ${address}`])
  }
})

const ANSWERS = [
  'www.example.com. 60 IN CNAME api.example.com.',
  'api.example.com. 30 IN A 192.0.2.10',
  'api.example.com. 30 IN A 192.0.2.11',
]
const upstream: MessageParts = {
  id: 0x9999,
  flags: FLAG_QR | FLAG_RD | FLAG_RA | FLAG_AD | FLAG_AA,
  question: 'www.example.com. A',
  answers: ANSWERS,
  authority: ['example.com. 90 IN NS ns1.example.com.'],
  additional: ['ns1.example.com. 90 IN A 192.0.2.53'],
}

/** An answer as it lies in the cache: read once, copied, its OPT record taken off. */
function learn(parts: Partial<MessageParts> = {}) {
  const sent = buildMessage({ question: 'www.example.com. A' })
  const packet = buildMessage({ ...upstream, ...parts })
  const answer = new Answer()
  const code = parseAnswer(packet, 0, packet.length, sent, 12, sent.length - 12, answer)
  assert.equal(code, ANSWER_OK)
  const out = new Uint8Array(OUT_AT + packet.length + 2000).fill(0xdd)
  out.set(packet, OUT_AT)
  return { out, answer, bytes: cutAtOpt(out, OUT_AT, answer) }
}

function finish(
  parts: Partial<MessageParts> = {},
  {
    from = {},
    bytesMax = 512,
    ede = EDE_NONE,
  }: { from?: Partial<MessageParts>; bytesMax?: number; ede?: number } = {},
) {
  const { out, bytes } = learn(from)
  const { packet, query } = client(parts)
  const length = finishAnswer(out, OUT_AT, bytes, packet, START, query, bytesMax, ede)
  return { message: written(out, length), length }
}

describe('a finished answer', () => {
  test('has the ID of the client and its question, with its case', () => {
    const { message } = finish()
    assert.equal(message.id, 0x1234)
    assert.equal(formatName(message.question!.name), 'wWw.example.com.')
    // Names that were compressed against the question follow its case; they are the same names.
    const lines = message.answers.map((record) => formatRecord(record).toLowerCase())
    assert.deepEqual(
      lines,
      ANSWERS.map((line) => line.toLowerCase()),
    )
    assert.equal(message.additional.length, 1)
  })
  test('has RD and CD of the client, RA set and AA clear', () => {
    assert.equal(finish().message.flags, FLAG_QR | FLAG_RA | FLAG_RD)
    assert.equal(finish({ flags: FLAG_CD }).message.flags, FLAG_QR | FLAG_RA | FLAG_CD)
  })
  test('keeps AD only for a client that set AD or DO (RFC 6840 §5.8)', () => {
    const hasAd = (parts: Partial<MessageParts>, from = {}) =>
      (finish(parts, { from }).message.flags & FLAG_AD) !== 0
    assert.equal(hasAd({}), false)
    assert.equal(hasAd({ flags: FLAG_AD }), true)
    assert.equal(hasAd({ edns: { isDnssecOk: true } }), true)
    assert.equal(hasAd({ flags: FLAG_AD }, { flags: FLAG_QR }), false)
  })
  test('keeps its rcode', () => {
    const soa = 'example.com. 900 IN SOA ns1.example.com. admin.example.com. 1 2 3 4 5'
    const { message } = finish({}, { from: { rcode: 3, answers: [], authority: [soa] } })
    assert.equal(message.rcode, 3)
  })
  test('has no OPT record of the upstream, and ours for a client with EDNS', () => {
    const from = { edns: { udpBytes: 4096, ede: 22 } }
    assert.equal(finish({}, { from }).message.edns, null)
    const { message } = finish({ edns: {} }, { from, ede: EDE_STALE_ANSWER })
    const ours = { udpBytes: UDP_BYTES, isDnssecOk: false, version: 0, ede: EDE_STALE_ANSWER }
    assert.deepEqual(message.edns, ours)
    assert.equal(message.additional.length, 1)
  })
})

// Records behind the OPT record may point into each other: moved up, they would name other names.
test('an upstream OPT record in the middle goes with all behind it, and the rest stays whole', () => {
  const additional = [
    'ns1.example.com. 90 IN A 192.0.2.53',
    '. 0 CLASS1232 OPT \\# 0',
    'ns2.other.example.net. 90 IN A 192.0.2.54',
    'ns2.other.example.net. 90 IN AAAA 2001:db8::54',
  ]
  const { out, answer, bytes } = learn({ additional })
  assert.ok(answer.ttlOffsets.subarray(0, answer.ttlCount).every((at) => at < bytes))
  ageTtls(out, OUT_AT, answer.ttlOffsets, 0, answer.ttlCount, 10, 0, 3600)
  const { packet, query } = client({ edns: {} })
  const length = finishAnswer(out, OUT_AT, bytes, packet, START, query, 1232, EDE_NONE)
  const message = written(out, length)
  assert.deepEqual(message.additional.map(formatRecord), ['ns1.example.com. 80 IN A 192.0.2.53'])
  assert.equal(message.answers.length, 3)
  assert.notEqual(message.edns, null)
})

describe('an answer that is too long for its client', () => {
  const from = {
    answers: Array.from({ length: 40 }, (_, n) => `www.example.com. 60 IN A 192.0.2.${n}`),
    edns: {},
  }
  test('becomes TC, its question and its OPT record', () => {
    for (const edns of [undefined, { isDnssecOk: true }]) {
      const { message, length } = finish(edns === undefined ? {} : { edns }, { from, ede: 3 })
      assert.notEqual(message.flags & FLAG_TC, 0)
      assert.equal(message.answers.length + message.authority.length + message.additional.length, 0)
      assert.equal(message.edns?.isDnssecOk, edns?.isDnssecOk)
      assert.equal(message.edns?.ede, edns === undefined ? undefined : 3)
      assert.ok(length <= 512)
    }
  })
  test('goes out whole by TCP', () => {
    const { message } = finish({}, { from, bytesMax: MESSAGE_BYTES_MAX })
    assert.equal(message.flags & FLAG_TC, 0)
    assert.equal(message.answers.length, 40)
  })
  test('is so from the first byte that does not fit, OPT record included', () => {
    const whole = finish({ edns: {} }, { from, bytesMax: 1232 }).length
    assert.equal(finish({ edns: {} }, { from, bytesMax: whole }).length, whole)
    assert.notEqual(finish({ edns: {} }, { from, bytesMax: whole - 1 }).length, whole)
  })
})

describe('TTLs', () => {
  const aged = (elapsed: number, floor: number, cap: number, answers = ANSWERS) => {
    const { out, answer, bytes } = learn({ answers, edns: {} })
    ageTtls(out, OUT_AT, answer.ttlOffsets, 0, answer.ttlCount, elapsed, floor, cap)
    const message = parseMessage(out, OUT_AT, OUT_AT + bytes)
    return [...message!.answers, ...message!.authority, ...message!.additional].map(
      ({ ttl }) => ttl,
    )
  }
  test('run down, to 0 and not further', () => {
    assert.deepEqual(aged(0, 0, 3600), [60, 30, 30, 90, 90])
    assert.deepEqual(aged(45, 0, 3600), [15, 0, 0, 45, 45])
  })
  test('are never above what the entry itself has left', () => {
    assert.deepEqual(aged(10, 0, 20), [20, 20, 20, 20, 20])
  })
  test('are 30 s in a stale answer (RFC 8767 §4)', () => {
    assert.deepEqual(aged(4000, 30, 30), [30, 30, 30, 30, 30])
  })
  test('#24 with the high bit set are 0', () => {
    const answers = ['www.example.com. 4294967295 IN A 192.0.2.10']
    assert.deepEqual(aged(0, 0, 3600, answers).slice(0, 1), [0])
  })
  test('are found by a copy of the offsets, from its middle, too', () => {
    const { out, answer } = learn()
    const table = new Uint16Array(20)
    table.set(answer.ttlOffsets.subarray(0, answer.ttlCount), 7)
    ageTtls(out, OUT_AT, table, 7, answer.ttlCount, 10, 0, 3600)
    assert.equal(parseMessage(out, OUT_AT, OUT_AT + answer.keptBytes)?.answers[0]?.ttl, 50)
  })
})

const hotClient = client({ edns: { isDnssecOk: true } })
const hotLearned = learn({ edns: {} })
const hotOut = new Uint8Array(4096)
const hotName = parseNameAsWritten('www.example.com')
allocatesNothing('writeQuestion allocates nothing', () => (call) => {
  return writeQuestion(hotOut, 0, call & 0xffff, FLAG_RD, hotName, 0, 17, 1, 1, false, 1232)
})
allocatesNothing('writeError, writeMinimalAny and writeLoopback allocate nothing', () => (call) => {
  const { packet, query } = hotClient
  const any = writeMinimalAny(hotOut, 0, packet, START, query)
  const bytes = any + writeLoopback(hotOut, 0, packet, START, query)
  return (
    bytes + writeError(hotOut, 0, packet, START, query, call & 15, call % 2 === 0 ? 3 : EDE_NONE)
  )
})
allocatesNothing('cutAtOpt, ageTtls and finishAnswer allocate nothing', () => (call) => {
  const { out, answer, bytes } = hotLearned
  const { packet, query } = hotClient
  cutAtOpt(out, OUT_AT, answer)
  ageTtls(out, OUT_AT, answer.ttlOffsets, 0, answer.ttlCount, 0, 5, 60)
  const bytesMax = call % 8 === 0 ? 100 : 1232
  return finishAnswer(out, OUT_AT, bytes, packet, START, query, bytesMax, EDE_STALE_ANSWER)
})
allocatesNothing('reading a header field allocates nothing', () => (call) => {
  return getU16(hotOut, FLAGS_AT) + (call & 1)
})

test('a client that asks for it is told for how long its connection may be idle', () => {
  const { packet, query } = client({ edns: {} })
  const reply = (ede: number): Uint8Array => {
    const out = new Uint8Array(SMALL_BYTES_MAX)
    return out.slice(0, writeError(out, 0, packet, START, query, RCODE_REFUSED, ede))
  }
  const before = reply(EDE_BLOCKED)
  query.wantsKeepalive = true
  const bytes = reply(EDE_BLOCKED)
  // Code 11, two bytes: 100 × 100 ms. RFC 7828 §3.1.
  assert.deepEqual([...bytes.subarray(-6)], [0, 11, 0, 2, 0, 100])
  assert.equal(bytes.length, before.length + 6)
  assert.equal(parseMessage(bytes)?.edns?.ede, EDE_BLOCKED)
  assert.deepEqual([...reply(EDE_NONE).subarray(-8)], [0, 6, 0, 11, 0, 2, 0, 100])
})
