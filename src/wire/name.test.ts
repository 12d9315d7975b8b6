import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { HEADER_BYTES } from './header.ts'
import {
  BAD_NAME,
  checkName,
  foldName,
  hashName,
  isInZone,
  isNameAt,
  labelCount,
  LOWER,
  NAME_BYTES_MAX,
  parentAt,
  readName,
  sameName,
  sameNameFolded,
  skipName,
} from './name.ts'
import { parseName, parseNameAsWritten } from './text.ts'

/** A message of a header and the given bytes: the first of them is at offset 12. */
function message(...body: (number | string)[]): Uint8Array {
  const bytes = body.flatMap((part) =>
    typeof part === 'number' ? [part] : Array.from(part, (letter) => letter.charCodeAt(0)),
  )
  return Uint8Array.of(...new Uint8Array(HEADER_BYTES), ...bytes)
}

const NO_TTLS = new Uint16Array(0)

/** The name at `at`, read at two places of a larger buffer with different bytes around it. */
function read(packet: Uint8Array, at: number): Uint8Array | typeof BAD_NAME {
  const results = [
    { before: 0, fill: 0 },
    { before: 300, fill: 0xc0 },
    { before: 77, fill: 1 },
  ].map(({ before, fill }) => {
    const buffer = new Uint8Array(before + packet.length + 300).fill(fill)
    buffer.set(packet, before)
    const out = new Uint8Array(NAME_BYTES_MAX)
    const end = before + packet.length
    const length = readName(buffer, before, before + at, end, out, 0)
    const steps = checkName(buffer, before, before + at, end, NO_TTLS, 0)
    assert.equal(steps === BAD_NAME, length === BAD_NAME, 'checkName and readName agree')
    return length === BAD_NAME ? BAD_NAME : out.slice(0, length)
  })
  assert.deepEqual(results[1], results[0], 'the bytes around a message do not matter')
  assert.deepEqual(results[2], results[0], 'the bytes around a message do not matter')
  return results[0]!
}

const labels63 = Array.from({ length: 3 }, () => [63, ...new Array(63).fill(0x61)]).flat()

describe('a name is read', () => {
  const cases: [string, Uint8Array, number, string][] = [
    ['the root', message(0), 12, '.'],
    ['without compression', message(3, 'www', 7, 'example', 3, 'com', 0), 12, 'www.example.com'],
    ['in lower case', message(3, 'WwW', 7, 'eXAMPLE', 3, 'COM', 0), 12, 'www.example.com'],
    [
      'through a pointer',
      message(7, 'example', 3, 'com', 0, 3, 'www', 0xc0, 12),
      25,
      'www.example.com',
    ],
    ['as a mere pointer', message(7, 'example', 3, 'com', 0, 0xc0, 12), 25, 'example.com'],
    ['into the middle of a name', message(7, 'example', 3, 'com', 0, 0xc0, 20), 25, 'com'],
    [
      'through two pointers',
      message(3, 'com', 0, 7, 'example', 0xc0, 12, 3, 'www', 0xc0, 17),
      27,
      'www.example.com',
    ],
    ['through a pointer to the root', message(0, 3, 'com', 0xc0, 12), 13, 'com'],
  ]
  for (const [name, packet, at, text] of cases) {
    test(name, () => assert.deepEqual(read(packet, at), parseName(text)))
  }

  test('of 255 bytes, the longest there is', () => {
    const packet = message(...labels63, 61, 'a'.repeat(61), 0)
    assert.equal(packet.length - HEADER_BYTES, 255)
    assert.notEqual(read(packet, 12), BAD_NAME)
  })

  test('of 127 labels, the most there are', () => {
    const packet = message(...new Array(127).fill([1, 0x61]).flat(), 0)
    assert.notEqual(read(packet, 12), BAD_NAME)
  })
})

// RFC 9267 is a list of what DNS parsers forgot to check; section numbers are its.
describe('a name is refused', () => {
  const cases: [string, Uint8Array, number][] = [
    ['§2 a pointer to itself', message(0xc0, 12), 12],
    ['§2 a pointer to the name that it ends', message(1, 'a', 0xc0, 12), 12],
    ['§2 two pointers to each other', message(0xc0, 14, 0xc0, 12), 14],
    ['§2 a forward pointer', message(0xc0, 14, 1, 'a', 0), 12],
    ['§2 a pointer behind the message', message(0xc0, 200), 12],
    ['§2 a pointer into the header', message(0xc0, 11), 12],
    ['§2 a pointer to the start of the message', message(0xc0, 0), 12],
    ['§2 a pointer whose second byte is missing', message(1, 'a', 0xc0), 12],
    [
      '§2 a back pointer whose labels run into it again',
      message(3, 'www', 0xc0, 13, 0, 0xc0, 12),
      16,
    ],
    [
      '§2 a pointer to labels that reach into the name itself',
      message(5, 'a', 1, 'b', 0xc0, 12, 0),
      14,
    ],
    ['§3 label type 01', message(0x41, 0x61, 0), 12],
    ['§3 label type 10', message(0x80, 0x61, 0), 12],
    ['§3 a label of 64 bytes', message(64, 'a'.repeat(64), 0), 12],
    ['§3 no final zero', message(3, 'www'), 12],
    ['§3 a label that ends behind the message', message(9, 'www', 0), 12],
    ['§3 256 bytes', message(...labels63, 62, 'a'.repeat(62), 0), 12],
    [
      '§3 256 bytes of which a pointer holds most',
      message(...labels63, 0, 62, 'a'.repeat(62), 0xc0, 12),
      205,
    ],
    ['§3 128 labels', message(...new Array(128).fill([1, 0x61]).flat(), 0), 12],
    ['§4 nothing at all', message(), 12],
  ]
  for (const [name, packet, at] of cases) {
    test(name, () => assert.equal(read(packet, at), BAD_NAME))
  }

  test('#35 a staircase of pointers, each to the one before, after 126 steps', () => {
    const stairs = (count: number) => {
      const body = [0]
      for (let step = 0; step < count; step++) {
        const to = step === 0 ? 12 : 13 + 2 * (step - 1)
        body.push(0xc0 | (to >>> 8), to & 0xff)
      }
      return { packet: message(...body), at: HEADER_BYTES + body.length - 2 }
    }
    const most = stairs(126)
    assert.deepEqual(read(most.packet, most.at), Uint8Array.of(0))
    const tooMany = stairs(127)
    assert.equal(read(tooMany.packet, tooMany.at), BAD_NAME)
  })

  test('#35 expansion: a long name reached again and again never passes 255 bytes', () => {
    // Each name is one label of 63 bytes in front of the name before.
    const body: number[] = []
    const starts: number[] = []
    for (let step = 0; step < 6; step++) {
      starts.push(HEADER_BYTES + body.length)
      body.push(63, ...new Array<number>(63).fill(0x61))
      const before = starts[step - 1]
      if (before === undefined) body.push(0)
      else body.push(0xc0 | (before >>> 8), before & 0xff)
    }
    const packet = message(...body)
    assert.deepEqual(
      starts.map((at) => read(packet, at) === BAD_NAME),
      [false, false, false, true, true, true],
    )
  })
})

describe('a pointer leads to labels that run over a TTL', () => {
  const packet = message(3, 'www', 3, 'com', 0, 1, 'a', 0xc0, 12)
  const steps = (...offsets: number[]) => {
    return checkName(packet, 0, 21, packet.length, Uint16Array.from(offsets), offsets.length)
  }
  test('and is refused: the name would change as the TTL runs down', () => {
    for (const offset of [9, 12, 15, 20]) {
      assert.equal(steps(offset), BAD_NAME)
      assert.equal(steps(1, 5, offset, 40, 50), BAD_NAME)
    }
  })
  test('where the TTLs lie beside them, it is followed', () => {
    assert.equal(steps(8), 5)
    assert.equal(steps(21), 5)
    assert.equal(steps(0, 4, 8, 21, 25, 60), 5)
    assert.equal(steps(), 5)
  })
})

// What one program read as one name and another as another opened holes; labels are bytes.
describe('unusual bytes in a label', () => {
  test('#16 a NUL does not end a name: evil\\000.example.com is below example.com, and not evil', () => {
    const packet = message(5, 'evil', 0, 7, 'example', 3, 'com', 0)
    const name = read(packet, 12)
    assert.ok(name !== BAD_NAME)
    assert.equal(name.length, 19)
    assert.ok(!sameName(name, 0, parseName('evil.example.com'), 0, 18))
    assert.ok(sameName(name, parentAt(name, 0), parseName('example.com'), 0, 13))
  })

  test('#18 a dot inside a label never equals two labels', () => {
    const one = read(message(11, 'example.com', 0), 12)
    assert.ok(one !== BAD_NAME)
    assert.equal(one.length, parseName('example.com').length)
    assert.ok(!sameName(one, 0, parseName('example.com'), 0, one.length))
    assert.equal(labelCount(one, 0), 1)
  })

  test('#18 a backslash is a byte like others', () => {
    const name = read(message(3, 'a\\b', 0), 12)
    assert.deepEqual(name, Uint8Array.of(3, 0x61, 0x5c, 0x62, 0))
  })

  test('#19 only A to Z are folded: the Kelvin sign and bytes above 127 stay', () => {
    for (let byte = 0; byte < 256; byte++) {
      const isUpper = byte >= 0x41 && byte <= 0x5a
      assert.equal(LOWER[byte], isUpper ? byte + 32 : byte)
    }
  })

  test('#17 a name that continues behind 255 bytes is no name, not a shorter one', () => {
    assert.equal(read(message(...labels63, ...labels63, 0), 12), BAD_NAME)
  })
})

describe('skipName', () => {
  test('steps over labels up to the root, or over a pointer without following it', () => {
    assert.equal(skipName(message(3, 'www', 0, 9), 12, 18), 17)
    assert.equal(skipName(message(3, 'www', 0xff, 0xff, 9), 12, 19), 18)
  })
  test('refuses what does not end inside the message', () => {
    assert.equal(skipName(message(3, 'www', 0), 12, 16), BAD_NAME)
    assert.equal(skipName(message(3, 'www', 0xc0), 12, 17), BAD_NAME)
    assert.equal(skipName(message(0x40), 12, 13), BAD_NAME)
    assert.equal(skipName(message(...labels63, ...labels63, 0), 12, 500), BAD_NAME)
  })
})

describe('comparing', () => {
  const packet = message(7, 'EXAMPLE', 3, 'com', 0, 3, 'wWw', 0xc0, 12)
  const same = (text: string, at: number) => {
    const name = parseName(text)
    return isNameAt(packet, 0, at, name, 0, name.length)
  }
  test('a name in a packet is compared through pointers and case', () => {
    assert.ok(same('www.example.com', 25))
    assert.ok(same('example.com', 12))
  })
  test('neither a longer nor a shorter nor another name is the same', () => {
    assert.ok(!same('example.com', 25))
    assert.ok(!same('a.www.example.com', 25))
    assert.ok(!same('wwx.example.com', 25))
    assert.ok(!same('www.example.org', 25))
    assert.ok(!same('.', 25))
    assert.ok(!same('www.example.com', 12))
  })
  test('sameNameFolded ignores case, sameName does not', () => {
    const upper = parseNameAsWritten('WWW.example.com')
    const lower = parseName('www.example.com')
    assert.ok(sameNameFolded(upper, 0, lower, 0, 17))
    assert.ok(!sameName(upper, 0, lower, 0, 17))
    foldName(upper, 0, 17)
    assert.ok(sameName(upper, 0, lower, 0, 17))
  })
  test('labelCount and parentAt walk up to the root', () => {
    const name = parseName('www.example.com')
    assert.equal(labelCount(name, 0), 3)
    const com = parentAt(name, parentAt(name, 0))
    assert.equal(labelCount(name, com), 1)
    assert.equal(labelCount(name, parentAt(name, com)), 0)
  })
})

const label = fc.uint8Array({ minLength: 1, maxLength: 20 })
const anyName = fc.array(label, { maxLength: 8 }).map((parts) => {
  return Uint8Array.from([...parts.flatMap((part) => [part.length, ...part]), 0])
})

test('every name, whatever its bytes, reads as itself in lower case', () => {
  fc.assert(
    fc.property(anyName, (name) => {
      const folded = name.slice()
      foldName(folded, 0, folded.length)
      assert.deepEqual(read(Uint8Array.of(...new Uint8Array(12), ...name), 12), folded)
    }),
  )
})

test('whatever the bytes, a name that is read has 1 to 255 bytes, ends in the root, and is itself', () => {
  const bytes = fc.array(
    fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 2, 0xc0, 12, 13, 14, 16)),
    { maxLength: 80 },
  )
  fc.assert(
    fc.property(bytes, fc.nat(90), (body, at) => {
      const packet = Uint8Array.of(...new Uint8Array(12), ...body)
      const name = read(packet, at)
      if (name === BAD_NAME) return
      assert.ok(name.length >= 1 && name.length <= 255)
      assert.equal(skipName(name, 0, name.length), name.length)
      assert.ok(isNameAt(packet, 0, at, name, 0, name.length))
      assert.notEqual(skipName(packet, at, packet.length), BAD_NAME)
    }),
    { numRuns: 2000 },
  )
})

describe('hashName', () => {
  /** HalfSipHash-1-3 word by word as its authors and Linux (lib/siphash.c) write it. */
  function halfSipHash(bytes: Uint8Array, key0: number, key1: number): number {
    const rotate = (word: number, by: number) => (word << by) | (word >>> (32 - by))
    let [a, b, c, d] = [key0, key1, 0x6c796765 ^ key0, 0x74656462 ^ key1]
    const round = () => {
      a = (a + b) | 0
      b = rotate(b, 5) ^ a
      a = rotate(a, 16)
      c = (c + d) | 0
      d = rotate(d, 8) ^ c
      a = (a + d) | 0
      d = rotate(d, 7) ^ a
      c = (c + b) | 0
      b = rotate(b, 13) ^ c
      c = rotate(c, 16)
    }
    const whole = bytes.length - (bytes.length % 4)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const words = Array.from({ length: whole / 4 }, (_, word) => view.getInt32(4 * word, true))
    let last = bytes.length << 24
    bytes.subarray(whole).forEach((byte, index) => (last |= byte << (8 * index)))
    for (const word of [...words, last]) {
      d ^= word
      round()
      a ^= word
    }
    c ^= 0xff
    round()
    round()
    round()
    return (b ^ d) >>> 0
  }

  test('the reference below gives the vectors of Linux (lib/tests/siphash_kunit.c)', () => {
    const vectors = [0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6]
    const bytes = Uint8Array.from({ length: 64 }, (_, index) => index)
    assert.deepEqual(
      vectors.map((_, length) => halfSipHash(bytes.subarray(0, length), 0x03020100, 0x07060504)),
      vectors,
    )
  })

  test('it is the reference, cut to 31 bits', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer(), (bytes, seed) => {
        const expected = halfSipHash(bytes, seed, Math.imul(seed, 0x9e3779b1)) & 0x7fffffff
        const padded = Uint8Array.of(9, ...bytes, 9)
        assert.equal(hashName(padded, 1, bytes.length, seed), expected)
      }),
    )
  })

  test('two seeds give the same names other hashes', () => {
    const name = parseName('www.example.com')
    assert.notEqual(hashName(name, 0, name.length, 1), hashName(name, 0, name.length, 2))
  })
})

test('a zone holds itself and what ends in its labels, wherever the name lies', () => {
  const isIn = (name: string, zone: string) => {
    const bytes = Uint8Array.of(1, 2, ...parseName(name), 3)
    return isInZone(bytes, 2, bytes.length - 3, parseName(zone))
  }
  assert.ok(isIn('example.com', 'example.com'))
  assert.ok(isIn('a.b.example.com', 'example.com'))
  assert.ok(isIn('example.com', '.'))
  assert.ok(isIn('.', '.'))
  assert.ok(!isIn('badexample.com', 'example.com'))
  assert.ok(!isIn('example.com', 'www.example.com'))
  assert.ok(!isIn('example.org', 'example.com'))
  // The label's bytes spell a zone's length and name.
  assert.ok(!isIn('x\\007example.com', 'example.com'))
})

const packet = message(7, 'example', 3, 'com', 0, 3, 'wWw', 0xc0, 12)
const ttls = Uint16Array.of(31, 60, 80)
const wanted = parseName('www.example.com')
const out = new Uint8Array(512)
allocatesNothing('skipName allocates nothing', () => () => skipName(packet, 12, packet.length))
allocatesNothing('readName allocates nothing', () => (call) => {
  return readName(packet, 0, 25, packet.length, out, call & 255)
})
allocatesNothing('checkName allocates nothing', () => () => checkName(packet, 0, 25, 31, ttls, 3))
allocatesNothing('isNameAt allocates nothing', () => () => isNameAt(packet, 0, 25, wanted, 0, 17))
allocatesNothing('hashName allocates nothing', () => (call) => hashName(wanted, 0, 17, call))
allocatesNothing('sameName and sameNameFolded allocate nothing', () => (call) => {
  return sameName(wanted, 0, out, call & 255, 17) || sameNameFolded(wanted, 0, out, call & 255, 17)
})
allocatesNothing('isInZone allocates nothing', () => () => isInZone(wanted, 0, 17, wanted))
allocatesNothing('labelCount allocates nothing', () => () => labelCount(wanted, 0))
