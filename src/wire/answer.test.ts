import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import {
  Answer,
  ANSWER_FOREIGN,
  ANSWER_MALFORMED,
  ANSWER_OK,
  KIND_ERROR,
  KIND_INCOMPLETE,
  KIND_NODATA,
  KIND_NXDOMAIN,
  KIND_POSITIVE,
  KIND_TRUNCATED,
  parseAnswer,
} from './answer.ts'
import { getU32 } from './bytes.ts'
import { FLAG_QR, FLAG_RA, FLAG_RD, FLAG_TC, QUESTION_AT } from './header.ts'
import { buildMessage, type MessageParts } from './message.ts'
import { formatRecord, parseRecord } from './record-text.ts'
import { formatName } from './text.ts'

const FLAGS = FLAG_QR | FLAG_RD | FLAG_RA
const QUESTION = 'www.example.com. A'

/** What parseAnswer makes of a reply, the same wherever in a buffer it lies. */
function readBytes(packet: Uint8Array, question = QUESTION) {
  const sent = buildMessage({ question })
  const questionBytes = sent.length - QUESTION_AT
  const answer = new Answer()
  const code = parseAnswer(packet, 0, packet.length, sent, QUESTION_AT, questionBytes, answer)
  const buffer = new Uint8Array(packet.length + 400).fill(0xc0)
  buffer.set(packet, 200)
  const end = 200 + packet.length
  const again = new Answer()
  const used = reply({ answers: ['www.example.com. A 192.0.2.99'], edns: { ede: 3 } })
  parseAnswer(used, 0, used.length, sent, QUESTION_AT, questionBytes, again)
  assert.equal(parseAnswer(buffer, 200, end, sent, QUESTION_AT, questionBytes, again), code)
  if (code === ANSWER_OK) {
    assert.deepEqual(summary(buffer.subarray(200), again), summary(packet, answer))
  }
  return { code, answer, ...summary(packet, answer) }
}

/** What an Answer says, without what is left in its arrays from the message before. */
function summary(packet: Uint8Array, answer: Answer) {
  const addresses = Array.from({ length: answer.addressCount }, (_, index) => {
    const type = answer.addressFamilies[index] === 4 ? 1 : 28
    const offset = answer.addressOffsets[index]!
    const rdata = packet.slice(offset, offset + (type === 1 ? 4 : 16))
    return formatRecord({ ...parseRecord('. 0 A 0.0.0.0'), type, rdata })
      .split(' ')
      .at(-1)!
  })
  return {
    kind: answer.kind,
    addresses: addresses.slice(0, answer.hintsFrom),
    hints: addresses.slice(answer.hintsFrom),
    end: formatName(answer.endName, 0, answer.endNameBytes),
    ttls: Array.from(answer.ttlOffsets.subarray(0, answer.ttlCount), (at) => getU32(packet, at)),
    rcode: answer.rcode,
    ede: answer.ede,
    optAt: answer.optAt,
    keptBytes: answer.keptBytes,
    keptAdditional: answer.keptAdditional,
    minimumTtl: answer.minimumTtl,
    soa: [answer.hasSoa, answer.soaTtl, answer.soaMinimum],
    isTooMany: answer.isTooMany,
    chain: [answer.chainSteps, answer.isChainWhole],
  }
}

const reply = (parts: Partial<MessageParts>) =>
  buildMessage({ flags: FLAGS, question: QUESTION, ...parts })
const read = (parts: Partial<MessageParts>) => readBytes(reply(parts), parts.question ?? QUESTION)
const learned = (...answers: string[]) => read({ answers }).addresses

const SOA = 'example.com. 900 IN SOA ns1.example.com. admin.example.com. 1 7200 900 1209600 30'

describe('an answer', () => {
  test('gives the addresses of the name, its lowest TTL and where all TTLs lie', () => {
    const result = read({
      answers: ['www.example.com. 60 A 192.0.2.10', 'www.example.com. 30 A 192.0.2.11'],
      authority: ['example.com. 10 NS ns1.example.com.'],
      additional: ['ns1.example.com. 20 A 192.0.2.53'],
      edns: {},
    })
    assert.equal(result.code, ANSWER_OK)
    assert.equal(result.kind, KIND_POSITIVE)
    assert.deepEqual(result.addresses, ['192.0.2.10', '192.0.2.11'])
    assert.equal(result.minimumTtl, 30)
    assert.deepEqual(result.ttls, [60, 30, 10, 20])
    assert.deepEqual(result.chain, [0, true])
  })
  test('gives IPv6 addresses too', () => {
    const question = 'www.example.com. AAAA'
    const result = read({ question, answers: ['www.example.com. AAAA 2001:db8::10'] })
    assert.deepEqual(result.addresses, ['2001:db8::10'])
  })
  test('#24 a TTL with its high bit set is 0 (RFC 2181 §8)', () => {
    const answers = ['www.example.com. 2147483648 A 192.0.2.10', 'www.example.com. 9 A 192.0.2.11']
    assert.equal(read({ answers }).minimumTtl, 0)
    const soa = SOA.replace('900 IN', '4294967295 IN').replace(/30$/, '2147483648')
    assert.deepEqual(read({ authority: [soa] }).soa, [true, 0, 0])
  })
  test('of another type is positive and gives no address', () => {
    const question = 'example.com. MX'
    const result = read({ question, answers: ['example.com. MX 1 mail.example.com.'] })
    assert.deepEqual([result.kind, result.addresses], [KIND_POSITIVE, []])
  })
  test('owner names are matched in any case', () => {
    assert.deepEqual(learned('WWW.Example.COM. A 192.0.2.10'), ['192.0.2.10'])
  })
  test('to a question whose case was made at random is followed and learned from all the same', () => {
    const question = 'wWw.eXample.com. A'
    const answers = ['www.example.com. CNAME a.Example.net.', 'A.example.net. A 192.0.2.10']
    const result = read({ question, answers })
    assert.deepEqual([result.addresses, result.end], [['192.0.2.10'], 'a.example.net.'])
    assert.deepEqual(read({ question, authority: [SOA] }).end, 'www.example.com.')
  })
  test('in another class gives no address', () => {
    const question = 'www.example.com. CH A'
    const answers = ['www.example.com. CH A \\# 4 c000020a']
    assert.deepEqual(read({ question, answers }).addresses, [])
    assert.equal(read({ answers }).kind, KIND_NODATA)
  })
  test('bytes behind its last record are cut off, nobody sees them', () => {
    const packet = reply({ answers: ['www.example.com. A 192.0.2.10'] })
    const result = readBytes(Uint8Array.of(...packet, 1, 2, 3))
    assert.deepEqual([result.code, result.keptBytes], [ANSWER_OK, packet.length])
  })
})

describe('#6 an address is learned from nowhere but the end of the chain:', () => {
  test('not of another name in the answer section', () => {
    const answers = ['www.example.com. A 192.0.2.10', 'evil.example.net. A 192.0.2.66']
    assert.deepEqual(learned(...answers), ['192.0.2.10'])
  })
  test('not of a name above or below', () => {
    assert.deepEqual(learned('example.com. A 192.0.2.1', 'a.www.example.com. A 192.0.2.2'), [])
  })
  test('not of a name in the middle of the chain', () => {
    assert.deepEqual(
      learned(
        'www.example.com. CNAME a.example.net.',
        'a.example.net. CNAME b.example.net.',
        'b.example.net. A 192.0.2.10',
        'www.example.com. AAAA 2001:db8::66',
        'a.example.net. AAAA 2001:db8::66',
      ),
      ['192.0.2.10'],
    )
  })
  test('not from the authority or additional section', () => {
    const result = read({
      answers: ['www.example.com. A 192.0.2.10'],
      authority: ['www.example.com. A 192.0.2.66'],
      additional: [
        'www.example.com. A 192.0.2.67',
        'www.example.com. HTTPS 1 . ipv4hint=192.0.2.68',
      ],
    })
    assert.deepEqual([result.addresses, result.hints], [['192.0.2.10'], []])
  })
  test('not from an answer that is no NOERROR', () => {
    for (const rcode of [2, 3, 5]) {
      assert.deepEqual(read({ rcode, answers: ['www.example.com. A 192.0.2.10'] }).addresses, [])
    }
  })
  test('#18 not of a name that only looks the same as text', () => {
    assert.deepEqual(learned('www\\.example.com. A 192.0.2.66'), [])
    assert.deepEqual(learned('www.example\\000.com. A 192.0.2.66'), [])
  })
})

describe('a chain', () => {
  const chain = [
    'www.example.com. 300 CNAME a.example.net.',
    'a.example.net. 20 CNAME b.example.org.',
    'b.example.org. 60 A 192.0.2.10',
  ]
  test('is followed to its end, and its lowest TTL counts', () => {
    const result = read({ answers: chain })
    assert.deepEqual(result.addresses, ['192.0.2.10'])
    assert.deepEqual(
      [result.end, result.minimumTtl, result.chain],
      ['b.example.org.', 20, [2, true]],
    )
  })
  test('may come in any order', () => {
    assert.deepEqual(learned(...chain.toReversed()), ['192.0.2.10'])
    assert.deepEqual(learned(chain[1]!, chain[2]!, chain[0]!), ['192.0.2.10'])
  })
  test('that ends short of an answer is incomplete', () => {
    assert.equal(read({ answers: chain.slice(0, 2) }).kind, KIND_INCOMPLETE)
    assert.equal(read({ answers: [chain[0]!, chain[2]!] }).kind, KIND_INCOMPLETE)
  })
  test('that ends at a name without this type is NODATA, if an SOA record says so', () => {
    const result = read({ answers: chain.slice(0, 2), authority: [SOA] })
    assert.deepEqual([result.kind, result.end], [KIND_NODATA, 'b.example.org.'])
  })
  test('that ends at a name that does not exist is NXDOMAIN (RFC 6604)', () => {
    const result = read({ rcode: 3, answers: chain.slice(0, 2), authority: [SOA] })
    assert.deepEqual([result.kind, result.end], [KIND_NXDOMAIN, 'b.example.org.'])
  })
  test('is not followed when the CNAME itself was asked for', () => {
    const result = read({ question: 'www.example.com. CNAME', answers: chain })
    assert.deepEqual([result.kind, result.chain, result.addresses], [KIND_POSITIVE, [0, true], []])
  })
  test('#35 in a loop is not followed for ever, and opens nothing', () => {
    for (const answers of [
      ['www.example.com. CNAME www.example.com.'],
      ['www.example.com. CNAME a.example.net.', 'a.example.net. CNAME www.example.com.'],
    ]) {
      const result = read({ answers })
      assert.deepEqual([result.code, result.kind], [ANSWER_OK, KIND_INCOMPLETE])
      assert.equal(result.answer.isChainWhole, false)
    }
  })
  const long = (steps: number) => [
    'www.example.com. CNAME 1.example.net.',
    ...Array.from(
      { length: steps - 1 },
      (_, n) => `${n + 1}.example.net. CNAME ${n + 2}.example.net.`,
    ),
    `${steps}.example.net. A 192.0.2.10`,
  ]
  test('of 16 steps is followed, of 17 not', () => {
    assert.deepEqual(learned(...long(16)), ['192.0.2.10'])
    assert.deepEqual(learned(...long(17)), [])
    assert.equal(read({ answers: long(17) }).kind, KIND_INCOMPLETE)
  })
  test('hidden among more than 32 CNAME records is not looked for', () => {
    const others = Array.from({ length: 32 }, (_, n) => `${n}.example.org. CNAME x.example.org.`)
    const result = read({ answers: [...others, ...chain] })
    assert.deepEqual([result.kind, result.isTooMany], [KIND_INCOMPLETE, true])
  })
})

describe('a DNAME (RFC 6672)', () => {
  const dname = 'example.com. 60 DNAME example.net.'
  test('leads to its target, with the CNAME made from it', () => {
    const answers = [
      dname,
      'www.example.com. CNAME www.example.net.',
      'www.example.net. A 192.0.2.10',
    ]
    assert.deepEqual(learned(...answers), ['192.0.2.10'])
  })
  test('leads there without that CNAME', () => {
    assert.deepEqual(learned(dname, 'www.example.net. A 192.0.2.10'), ['192.0.2.10'])
  })
  test('says nothing about its owner itself', () => {
    const answers = [dname, 'example.net. A 192.0.2.66']
    assert.deepEqual(read({ question: 'example.com. A', answers }).addresses, [])
  })
  test('says nothing about a name that merely ends in the same letters', () => {
    const answers = ['ample.com. DNAME example.net.', 'www.ex.example.net. A 192.0.2.66']
    assert.deepEqual(learned(...answers), [])
  })
  test('that makes a name too long leads nowhere', () => {
    const label = 'a'.repeat(63)
    const target = `${label}.${label}.${label}.${'a'.repeat(60)}.`
    const result = read({ answers: [`example.com. DNAME ${target}`] })
    assert.deepEqual(
      [result.code, result.kind, result.end],
      [ANSWER_OK, KIND_NODATA, 'www.example.com.'],
    )
  })
})

describe('address hints (RFC 9460)', () => {
  const question = 'www.example.com. HTTPS'
  const hints = (...answers: string[]) => read({ question, answers }).hints
  const one = '1 . alpn=h2 ipv4hint=192.0.2.10,192.0.2.11 ipv6hint=2001:db8::10'
  test('#12 are learned: clients connect to them without asking', () => {
    const result = read({ question, answers: [`www.example.com. HTTPS ${one}`] })
    assert.deepEqual(result.hints, ['192.0.2.10', '192.0.2.11', '2001:db8::10'])
    assert.deepEqual([result.kind, result.addresses], [KIND_POSITIVE, []])
  })
  test('count at the end of a chain, and not elsewhere', () => {
    const cname = 'www.example.com. CNAME a.example.net.'
    assert.equal(hints(cname, `a.example.net. HTTPS ${one}`).length, 3)
    assert.equal(hints(cname, 'a.example.net. HTTPS 1 .', `b.example.net. HTTPS ${one}`).length, 0)
  })
  test('in AliasMode are ignored', () => {
    assert.deepEqual(hints('www.example.com. HTTPS 0 a.example.net. ipv4hint=192.0.2.66'), [])
  })
  for (const [what, rdata] of [
    ['an address that is cut', '0001 00 0004 0003 c00002'],
    ['an IPv6 address that is cut', '0001 00 0006 0004 20010db8'],
    ['no address at all', '0001 00 0004 0000'],
    ['keys in wrong order', '0001 00 0004 0004 c000020a 0003 0002 01bb'],
    ['a key twice', '0001 00 0004 0004 c000020a 0004 0004 c000020b'],
    ['a parameter longer than the record', '0001 00 0004 0008 c000020a'],
    ['a parameter without a length', '0001 00 0004'],
    ['a target that does not end', '0001 03 777777'],
  ] as const) {
    test(`with ${what} make the message malformed`, () => {
      const bytes = rdata.replaceAll(' ', '')
      const answers = [`www.example.com. HTTPS \\# ${bytes.length / 2} ${bytes}`]
      assert.equal(read({ question, answers }).code, ANSWER_MALFORMED)
    })
  }
})

describe('a negative answer', () => {
  test('NXDOMAIN: SOA TTL and MINIMUM are there to bound its life (RFC 2308 §5)', () => {
    const result = read({ rcode: 3, authority: [SOA] })
    assert.deepEqual([result.kind, result.soa], [KIND_NXDOMAIN, [true, 900, 30]])
  })
  test('behind a chain lives no longer than the chain, which may lead elsewhere then', () => {
    const answers = [
      'www.example.com. 60 CNAME a.example.com.',
      'a.example.com. 5 CNAME b.example.com.',
    ]
    assert.deepEqual(read({ answers, authority: [SOA] }).soa, [true, 5, 30])
    assert.deepEqual(read({ rcode: 3, answers, authority: [SOA] }).soa, [true, 5, 30])
  })
  test('NODATA likewise; without an SOA record it says so', () => {
    assert.deepEqual([read({ authority: [SOA] }).kind, read({}).kind], [KIND_NODATA, KIND_NODATA])
    assert.equal(read({}).answer.hasSoa, false)
  })
  test('an SOA record in the answer section is no sign of NODATA', () => {
    assert.equal(read({ question: 'example.com. SOA', answers: [SOA] }).kind, KIND_POSITIVE)
    assert.equal(read({ answers: [SOA] }).answer.hasSoa, false)
  })
  test('a referral is no answer', () => {
    const result = read({ authority: ['example.com. NS ns1.example.com.'] })
    assert.equal(result.kind, KIND_INCOMPLETE)
  })
  test('other rcodes are errors, also those that need the OPT record', () => {
    assert.deepEqual([read({ rcode: 2 }).kind, read({ rcode: 5 }).rcode], [KIND_ERROR, 5])
    const badvers = read({ rcode: 16, edns: {} })
    assert.deepEqual([badvers.kind, badvers.rcode], [KIND_ERROR, 16])
  })
})

describe('#4 #5 not our answer, so we keep waiting for it:', () => {
  const good = reply({ answers: ['www.example.com. A 192.0.2.10'] })
  const foreign: [string, Uint8Array][] = [
    ['shorter than a header', good.subarray(0, 11)],
    ['cut in the question', good.subarray(0, 20)],
    ['a question, not a response', buildMessage({ flags: FLAG_RD, question: QUESTION })],
    ['another opcode', buildMessage({ flags: FLAGS | 0x2000, question: QUESTION })],
    ['no question', buildMessage({ flags: FLAGS, question: null })],
    ['another name', buildMessage({ flags: FLAGS, question: 'wwx.example.com. A' })],
    [
      'a name that goes on',
      buildMessage({ flags: FLAGS, question: 'www.example.com.evil.org. A' }),
    ],
    ['the name in another case', buildMessage({ flags: FLAGS, question: 'wWw.example.com. A' })],
    ['another type', buildMessage({ flags: FLAGS, question: 'www.example.com. AAAA' })],
    ['another class', buildMessage({ flags: FLAGS, question: 'www.example.com. CH A' })],
    ['two questions', Uint8Array.from(good, (byte, at) => (at === 5 ? 2 : byte))],
  ]
  for (const [what, packet] of foreign) {
    test(what, () => assert.equal(readBytes(packet).code, ANSWER_FOREIGN))
  }
  const malformed: [string, Partial<MessageParts>][] = [
    ['an A record of five bytes', { answers: ['www.example.com. A \\# 5 c000020a00'] }],
    ['an AAAA record of four bytes', { answers: ['www.example.com. AAAA \\# 4 c000020a'] }],
    ['a CNAME that is no name', { answers: ['www.example.com. CNAME \\# 2 0361'] }],
    ['a CNAME with bytes behind its name', { answers: ['www.example.com. CNAME \\# 4 01610000'] }],
    ['a CNAME that points to itself', { answers: ['www.example.com. CNAME \\# 2 c02d'] }],
    ['a CNAME that points forward', { answers: ['www.example.com. CNAME \\# 2 c0ff'] }],
    ['an SOA record without its numbers', { authority: ['example.com. SOA \\# 4 00000000'] }],
    [
      'an SOA record whose names take its numbers',
      { authority: [`example.com. SOA \\# 23 00013${'0'.repeat(41)}`] },
    ],
    ['an empty MX record', { answers: ['example.com. MX \\# 0'] }],
    ['an SRV record without a target', { additional: ['example.com. SRV \\# 6 000000000000'] }],
    ['an OPT record in the answer section', { answers: ['. OPT \\# 0'] }],
    ['two OPT records', { additional: ['. OPT \\# 0'], edns: {} }],
    ['an OPT record with a cut option', { additional: ['. OPT \\# 3 000f00'] }],
  ]
  for (const [what, parts] of malformed) {
    test(what, () => assert.equal(read(parts).code, ANSWER_MALFORMED))
  }
  test('a name that runs over a TTL, which would change it as it is counted down', () => {
    // The CNAME's target points at the first byte of the TTL before it: 1, 'x', 0, 0.
    const ttl = 0x01780000
    const answers = [`www.example.com. ${ttl} A 192.0.2.10`, 'a.example.com. CNAME \\# 2 c02d']
    const packet = reply({ answers, isCompressed: false })
    const ttlAt = 33 + 17 + 4
    packet[packet.length - 1] = ttlAt
    assert.equal(packet[ttlAt], 1)
    assert.equal(readBytes(packet).code, ANSWER_MALFORMED)
    packet[packet.length - 1] = 33
    assert.equal(readBytes(packet).code, ANSWER_OK)
  })
  test('a message cut at any byte of its records', () => {
    const packet = reply({
      answers: ['www.example.com. CNAME a.example.net.', 'a.example.net. A 192.0.2.10'],
      authority: [SOA],
      edns: { ede: 3 },
    })
    for (let end = 33; end < packet.length; end++) {
      assert.equal(readBytes(packet.slice(0, end)).code, ANSWER_MALFORMED)
    }
  })
  test('#34 counts are not believed', () => {
    for (const at of [6, 8, 10]) {
      const packet = good.slice()
      packet[at] = 0xff
      assert.equal(readBytes(packet).code, ANSWER_MALFORMED)
    }
  })
})

test('#37 a truncated answer teaches nothing, even when it is cut in the middle of a record', () => {
  const packet = reply({ flags: FLAGS | FLAG_TC, answers: ['www.example.com. A 192.0.2.10'] })
  for (const end of [packet.length, packet.length - 3]) {
    const result = readBytes(packet.slice(0, end))
    assert.deepEqual([result.code, result.kind], [ANSWER_OK, KIND_TRUNCATED])
    assert.equal(result.answer.isTruncated, true)
    assert.deepEqual([result.addresses, result.keptBytes], [[], 33])
  }
})

describe('the OPT record', () => {
  const answers = ['www.example.com. 60 A 192.0.2.10']
  const packet = reply({ answers, edns: { ede: 22 } })
  test('and its first extended error are found', () => {
    const result = readBytes(packet)
    assert.deepEqual(
      [result.ede, result.optAt, result.keptBytes],
      [22, packet.length - 17, packet.length - 17],
    )
    const opt = '. OPT \\# 14 000a0000 000f0002 0003 000f0000'
    assert.equal(read({ answers, additional: [opt] }).ede, 3)
    assert.equal(read({ answers, edns: {} }).ede, -1)
  })
  test('what lies behind it is checked, but neither kept nor aged', () => {
    const additional = [
      'ns1.example.com. 7 A 192.0.2.1',
      '. 0 OPT \\# 0',
      'ns2.example.com. 8 A 192.0.2.2',
    ]
    const result = read({ answers, additional })
    assert.deepEqual([result.ttls, result.keptAdditional], [[60, 7], 1])
    assert.equal(result.keptBytes, result.optAt)
  })
})

describe('many records', () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, n) => `www.example.com. A 10.0.${n >> 8}.${n & 255}`)
  test('512 are looked at', () => {
    const result = read({ answers: many(512) })
    assert.deepEqual(
      [result.kind, result.addresses.length, result.ttls.length],
      [KIND_POSITIVE, 512, 512],
    )
  })
  test('more are neither kept nor learned from', () => {
    const result = read({ answers: many(513) })
    assert.deepEqual(
      [result.code, result.isTooMany, result.kind],
      [ANSWER_OK, true, KIND_INCOMPLETE],
    )
    assert.deepEqual(result.addresses, [])
    const authority = ['example.com. NS ns1.example.com.']
    assert.equal(read({ answers: many(512), authority }).kind, KIND_INCOMPLETE)
  })
  test('more hints than that likewise', () => {
    const hints = Array.from({ length: 256 }, (_, n) => `10.0.0.${n}`).join(',')
    const answers = [1, 2, 3].map((n) => `www.example.com. HTTPS ${n} . ipv4hint=${hints}`)
    const result = read({ question: 'www.example.com. HTTPS', answers })
    assert.deepEqual([result.isTooMany, result.kind, result.hints], [true, KIND_INCOMPLETE, []])
  })
})

/** The chain and its addresses, found the slow way, on objects. */
function expectedAddresses(answers: readonly string[]): string[] {
  const records = answers.map((line) => line.split(' '))
  let name = 'www.example.com.'
  for (let step = 0; step <= 16; step++) {
    const found = records.filter(([owner, type]) => owner === name && type === 'A')
    if (found.length > 0) return found.map((words) => words[2]!)
    const alias = records.find(([owner, type]) => owner === name && type === 'CNAME')
    if (alias === undefined) return []
    name = alias[2]!
  }
  return []
}

test('chain and addresses are those that a slow search on text finds, in any tangle', () => {
  const name = fc.constantFrom(
    'www.example.com.',
    'a.example.com.',
    'b.example.com.',
    'example.com.',
  )
  const line = fc.oneof(
    fc.tuple(name, fc.constant('CNAME'), name),
    fc.tuple(name, fc.constant('A'), fc.ipV4()),
  )
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      const answers = lines.map((words) => words.join(' '))
      assert.deepEqual(read({ answers }).addresses, expectedAddresses(answers))
    }),
    { numRuns: 500 },
  )
})

const hotAnswer = new Answer()
const hotSent = buildMessage({ question: QUESTION })
const hot = reply({
  answers: [
    'www.example.com. CNAME a.example.net.',
    'a.example.net. DNAME b.example.net.',
    'a.example.net. A 192.0.2.10',
    'a.example.net. HTTPS 1 . ipv4hint=192.0.2.11',
  ],
  authority: [SOA],
  edns: { ede: 3 },
})
allocatesNothing('parseAnswer allocates nothing', () => () => {
  return parseAnswer(hot, 0, hot.length, hotSent, 12, hotSent.length - 12, hotAnswer)
})
allocatesNothing('parseAnswer allocates nothing for broken answers', () => (call) => {
  return parseAnswer(hot, 0, call % hot.length, hotSent, 12, hotSent.length - 12, hotAnswer)
})
