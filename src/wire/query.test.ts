import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
// @ts-expect-error dns-packet ships no types
import dnsPacket from 'dns-packet'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { putU16 } from './bytes.ts'
import {
  ARCOUNT_AT,
  FLAG_CD,
  FLAG_QR,
  FLAG_RD,
  RCODE_BADVERS,
  RCODE_FORMERR,
  RCODE_NOTIMP,
} from './header.ts'
import { buildMessage, type MessageParts } from './message.ts'
import { NAME_BYTES_MAX } from './name.ts'
import {
  NO_RCODE,
  parseQuery,
  Query,
  QUERY_COUNT,
  QUERY_IS_RESPONSE,
  QUERY_NAME,
  QUERY_OK,
  QUERY_OPCODE,
  QUERY_OPT,
  QUERY_RECORDS,
  QUERY_SHORT,
  QUERY_TRAILING,
  QUERY_VERSION,
  rcodeOfQuery,
} from './query.ts'
import { formatName, parseName } from './text.ts'

const SEED = 42

function read(packet: Uint8Array): { code: number; query: Query; name: string } {
  const query = new Query(SEED)
  const names = new Uint8Array(16 + NAME_BYTES_MAX)
  const code = parseQuery(packet, 0, packet.length, query, names, 16)
  // Elsewhere in a larger buffer, with a Query that was used before: the same.
  const buffer = new Uint8Array(packet.length + 400).fill(0xc1)
  buffer.set(packet, 200)
  const again = new Query(SEED)
  const names2 = new Uint8Array(16 + NAME_BYTES_MAX)
  const used = buildMessage({ question: 'used.example.org. AAAA', edns: { isDnssecOk: true } })
  parseQuery(used, 0, used.length, again, names2, 16)
  assert.equal(parseQuery(buffer, 200, 200 + packet.length, again, names2, 16), code)
  assert.deepEqual({ ...again, record: 0 }, { ...query, record: 0 })
  return { code, query, name: query.nameBytes === 0 ? '' : formatName(names, 16, query.nameBytes) }
}

const plain: MessageParts = { id: 0x1234, flags: FLAG_RD, question: 'WwW.example.com. AAAA' }
const codeOf = (parts: Partial<MessageParts>) => read(buildMessage({ ...plain, ...parts })).code
const bytesOf = (...changes: [number, number][]) => {
  const packet = buildMessage({ ...plain, edns: {} })
  for (const [at, value] of changes) packet[at] = value
  return packet
}

test('a question is read: its name in lower case, its case left in the packet', () => {
  const packet = buildMessage(plain)
  const { code, query, name } = read(packet)
  assert.equal(code, QUERY_OK)
  assert.equal(query.id, 0x1234)
  assert.equal(query.flags, FLAG_RD)
  assert.equal(query.opcode, 0)
  assert.equal(query.type, 28)
  assert.equal(query.class, 1)
  assert.equal(query.nameBytes, 17)
  assert.equal(query.questionBytes, 21)
  assert.equal(name, 'www.example.com.')
  assert.equal(query.hasEdns, false)
  assert.equal(query.udpBytes, 512)
  assert.deepEqual([query.optAt, query.optEnd], [0, 0])
})

test('the root, and the longest name, can be asked for', () => {
  const label = 'a'.repeat(63)
  const longest = `${label}.${label}.${label}.${'a'.repeat(61)}`
  assert.equal(read(buildMessage({ question: '. NS' })).query.nameBytes, 1)
  assert.equal(read(buildMessage({ question: `${longest} NS` })).query.nameBytes, 255)
})

test('a name hashes the same in any case, and otherwise with another seed', () => {
  const hash = (name: string, seed: number) => {
    const query = new Query(seed)
    const packet = buildMessage({ question: `${name} A` })
    parseQuery(packet, 0, packet.length, query, new Uint8Array(255), 0)
    return query.nameHash
  }
  assert.equal(hash('www.example.com', 1), hash('WWW.EXAMPLE.COM', 1))
  assert.notEqual(hash('www.example.com', 1), hash('www.example.com', 2))
})

describe('EDNS', () => {
  test('size and DO are read, and where the OPT record lies', () => {
    const edns = { udpBytes: 4096, isDnssecOk: true }
    const packet = buildMessage({ ...plain, flags: FLAG_CD, edns })
    const { code, query } = read(packet)
    assert.equal(code, QUERY_OK)
    assert.deepEqual(
      [query.hasEdns, query.udpBytes, query.isDnssecOk, query.optAt, query.optEnd],
      [true, 4096, true, packet.length - 11, packet.length],
    )
  })
  test('a size below 512 counts as 512', () => {
    assert.equal(read(buildMessage({ ...plain, edns: { udpBytes: 100 } })).query.udpBytes, 512)
  })
  test('options that fill the record are passed over', () => {
    // A cookie (10) of 8 bytes and padding (12) of 0.
    const opt = '. 0 CLASS1232 OPT \\# 16 000a0008 0102030405060708 000c0000'
    assert.equal(codeOf({ additional: [opt] }), QUERY_OK)
  })
  test('other records may follow and precede the OPT record', () => {
    const other = 'example.com. A 192.0.2.1'
    const { code, query } = read(
      buildMessage({ ...plain, additional: [other, '. 0 CLASS1400 OPT \\# 0', other] }),
    )
    assert.deepEqual([code, query.udpBytes], [QUERY_OK, 1400])
  })
})

describe('dropped without a word:', () => {
  test('fewer bytes than a header', () => {
    for (let bytes = 0; bytes < 12; bytes++) {
      const { code } = read(buildMessage(plain).subarray(0, bytes))
      assert.equal(code, QUERY_SHORT)
      assert.equal(rcodeOfQuery(code), NO_RCODE)
    }
  })
  test('a response, or two servers would answer each other for ever', () => {
    assert.equal(codeOf({ flags: FLAG_QR }), QUERY_IS_RESPONSE)
    assert.equal(rcodeOfQuery(QUERY_IS_RESPONSE), NO_RCODE)
    assert.equal(codeOf({ flags: FLAG_QR | 0x2800, question: null }), QUERY_IS_RESPONSE)
  })
})

describe('refused with FORMERR:', () => {
  const cases: [string, Uint8Array, number][] = [
    ['no question (RFC 9619)', buildMessage({ ...plain, question: null }), QUERY_COUNT],
    ['two questions (RFC 9619)', bytesOf([5, 2]), QUERY_COUNT],
    ['65,535 questions', bytesOf([4, 255], [5, 255]), QUERY_COUNT],
    ['a question name that is a pointer to itself', bytesOf([12, 0xc0], [13, 12]), QUERY_NAME],
    ['a question name that points into the header', bytesOf([12, 0xc0], [13, 4]), QUERY_NAME],
    ['a label longer than the message', bytesOf([12, 63]), QUERY_NAME],
    ['a label of a reserved type', bytesOf([12, 0x43]), QUERY_NAME],
    ['a question without a class', buildMessage(plain).subarray(0, 31), QUERY_NAME],
    ['more additional records than there are', bytesOf([11, 2]), QUERY_RECORDS],
    [
      'more answers than there are',
      buildMessage({ ...plain, answers: ['a. A 192.0.2.1'] }).subarray(0, -1),
      QUERY_RECORDS,
    ],
    ['bytes behind the last record', Uint8Array.of(...buildMessage(plain), 0), QUERY_TRAILING],
    ['an OPT record that no count announces', bytesOf([11, 0]), QUERY_TRAILING],
    [
      'an OPT record with an owner',
      buildMessage({ ...plain, additional: ['a. OPT \\# 0'] }),
      QUERY_OPT,
    ],
    [
      'an OPT record in the authority section',
      buildMessage({ ...plain, authority: ['. OPT \\# 0'] }),
      QUERY_OPT,
    ],
    [
      'two OPT records',
      buildMessage({ ...plain, additional: ['. OPT \\# 0'], edns: {} }),
      QUERY_OPT,
    ],
    [
      'an option longer than its record',
      buildMessage({ ...plain, additional: ['. OPT \\# 5 000a000200'] }),
      QUERY_OPT,
    ],
    [
      'an option that is cut in its head',
      buildMessage({ ...plain, additional: ['. OPT \\# 3 000a00'] }),
      QUERY_OPT,
    ],
    ['RDLENGTH behind the message', bytesOf([43, 9]), QUERY_RECORDS],
    [
      'an A record of three bytes',
      buildMessage({ ...plain, answers: ['a. A \\# 3 000000'] }),
      QUERY_RECORDS,
    ],
  ]
  for (const [what, packet, code] of cases) {
    test(what, () => {
      const result = read(packet)
      assert.equal(result.code, code)
      assert.equal(result.query.hasEdns, false, 'a malformed message speaks no EDNS')
      assert.equal(rcodeOfQuery(code), RCODE_FORMERR)
    })
  }
  test('but what could be read of it is there for the answer', () => {
    const { query } = read(bytesOf([11, 2]))
    assert.deepEqual([query.id, query.questionBytes, query.flags], [0x1234, 21, FLAG_RD])
  })
})

test('an EDNS version that we do not speak is BADVERS, with the question in hand', () => {
  const { code, query } = read(buildMessage({ ...plain, edns: { version: 1 } }))
  assert.equal(code, QUERY_VERSION)
  assert.equal(rcodeOfQuery(code), RCODE_BADVERS)
  assert.deepEqual([query.hasEdns, query.nameBytes], [true, 17])
})

test('another opcode is reported with its header, whatever follows', () => {
  const { code, query, name } = read(buildMessage({ id: 9, flags: 0x2800, question: null }))
  assert.deepEqual([code, query.id, query.opcode], [QUERY_OPCODE, 9, 5])
  assert.equal(rcodeOfQuery(code), RCODE_NOTIMP)
  assert.deepEqual([name, query.questionBytes], ['.', 0])
})

test('of another opcode the name is read, if there is one, and nothing behind it', () => {
  const update = buildMessage({ ...plain, flags: 0x2800, edns: {} })
  for (const packet of [update, update.subarray(0, -3), Uint8Array.from([...update, 1, 2, 3])]) {
    const { code, query, name } = read(packet)
    assert.deepEqual([code, name, query.type], [QUERY_OPCODE, 'www.example.com.', 28])
    assert.deepEqual([query.questionBytes, query.hasEdns], [21, false])
  }
  const cut = read(update.subarray(0, 20))
  assert.deepEqual([cut.code, cut.name, cut.query.questionBytes], [QUERY_OPCODE, '.', 0])
  const two = update.slice()
  putU16(two, 4, 2)
  assert.deepEqual([read(two).name, read(two).query.questionBytes], ['.', 0])
})

test('#34 a message whose records cost more work than bytes is refused', () => {
  // One record of an unknown type holds a staircase of 120 pointers, each to the one before;
  // all records behind it are owned by its last step.
  const question = buildMessage({ question: 'a. A' })
  const rdataAt = question.length + 11
  const stairs = [0]
  for (let step = 0; step < 120; step++) {
    const to = step === 0 ? rdataAt : rdataAt + 2 * step - 1
    stairs.push(0xc0 | (to >>> 8), to & 0xff)
  }
  const ownerAt = rdataAt + stairs.length - 2
  const first = [0, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, stairs.length, ...stairs]
  const record = [0xc0 | (ownerAt >>> 8), ownerAt & 0xff, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0]
  const message = (count: number) => {
    const records = new Array<number[]>(count).fill(record).flat()
    const packet = Uint8Array.of(...question, ...first, ...records)
    putU16(packet, ARCOUNT_AT, count + 1)
    return packet
  }
  assert.equal(read(message(500)).code, QUERY_OK)
  assert.equal(read(message(600)).code, QUERY_RECORDS)
})

test('whatever dns-packet asks is read the same', () => {
  const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,20}$/)
  const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join('.'))
  const asked = fc.record({
    id: fc.nat(65535),
    name,
    type: fc.constantFrom(['A', 1], ['AAAA', 28], ['TXT', 16], ['SRV', 33], ['ANY', 255]),
    hasEdns: fc.boolean(),
    udpBytes: fc.integer({ min: 512, max: 65535 }),
    isDnssecOk: fc.boolean(),
  })
  fc.assert(
    fc.property(asked, ({ id, name, type, hasEdns, udpBytes, isDnssecOk }) => {
      const flags = isDnssecOk ? dnsPacket.DNSSEC_OK : 0
      const packet = dnsPacket.encode({
        id,
        type: 'query',
        flags: dnsPacket.RECURSION_DESIRED,
        questions: [{ name, type: type[0] }],
        additionals: hasEdns
          ? [{ type: 'OPT', name: '.', udpPayloadSize: udpBytes, flags, options: [] }]
          : [],
      })
      const { code, query, name: text } = read(packet)
      assert.equal(code, QUERY_OK)
      assert.deepEqual(
        [query.id, query.type, text, query.hasEdns, query.udpBytes, query.isDnssecOk],
        [
          id,
          type[1],
          formatName(parseName(name)),
          hasEdns,
          hasEdns ? udpBytes : 512,
          hasEdns && isDnssecOk,
        ],
      )
    }),
  )
})

const hotQuery = new Query(SEED)
const hotName = new Uint8Array(512)
const hot = buildMessage({ ...plain, edns: { isDnssecOk: true } })
allocatesNothing('parseQuery allocates nothing', () => (call) => {
  return parseQuery(hot, 0, hot.length, hotQuery, hotName, call & 255)
})
allocatesNothing('parseQuery allocates nothing for bytes that are no query', () => (call) => {
  return parseQuery(hot, 0, call % hot.length, hotQuery, hotName, 0)
})
