import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  formatClass,
  formatName,
  formatRcode,
  formatType,
  parseClass,
  parseName,
  parseNameAsWritten,
  parseRcode,
  parseType,
  TextError,
} from './text.ts'

const bytes = (text: string) => Array.from(text, (letter) => letter.charCodeAt(0))

describe('a text is a name', () => {
  const cases: [string, number[]][] = [
    ['.', [0]],
    ['com', [3, ...bytes('com'), 0]],
    ['com.', [3, ...bytes('com'), 0]],
    ['WWW.Example.Com.', [3, ...bytes('www'), 7, ...bytes('example'), 3, ...bytes('com'), 0]],
    ['_8443._https.a', [5, ...bytes('_8443'), 6, ...bytes('_https'), 1, 0x61, 0]],
    ['a\\.b.com', [3, ...bytes('a.b'), 3, ...bytes('com'), 0]],
    ['a\\046b.com', [3, ...bytes('a.b'), 3, ...bytes('com'), 0]],
    ['evil\\000.com', [5, ...bytes('evil'), 0, 3, ...bytes('com'), 0]],
    ['\\255\\ \\\\', [3, 255, 32, 0x5c, 0]],
    ['*.example.com', [1, 0x2a, 7, ...bytes('example'), 3, ...bytes('com'), 0]],
  ]
  for (const [text, name] of cases) {
    test(text, () => assert.deepEqual(Array.from(parseName(text)), name))
  }
  test('its case is kept where case travels', () => {
    assert.deepEqual(Array.from(parseNameAsWritten('Ab')), [2, 0x41, 0x62, 0])
  })
})

describe('a text is no name', () => {
  const label63 = 'a'.repeat(63)
  const cases = [
    '',
    '..',
    '.com',
    'www..com',
    'www.com..',
    'a'.repeat(64),
    `${label63}.${label63}.${label63}.${'a'.repeat(62)}`,
    'a b',
    'bücher.example.com',
    'a\u0000',
    'a\\',
    'a\\25',
    'a\\256',
  ]
  for (const text of cases) {
    test(JSON.stringify(text), () => assert.throws(() => parseName(text), TextError))
  }
  test('one byte less than too long is one', () => {
    const text = `${label63}.${label63}.${label63}.${'a'.repeat(61)}`
    assert.equal(parseName(text).length, 255)
  })
})

describe('a name as text', () => {
  test('has a final dot, and the root is one', () => {
    assert.equal(formatName(parseName('www.example.com')), 'www.example.com.')
    assert.equal(formatName(parseName('.')), '.')
  })
  test('can be taken out of a larger buffer', () => {
    const buffer = Uint8Array.of(9, 9, ...parseName('example.com'), 9)
    assert.equal(formatName(buffer, 2, 13), 'example.com.')
  })
  test('#18 cannot break a log line or a terminal: bytes are escaped', () => {
    const name = Uint8Array.of(6, 0, 10, 27, 0x2e, 0x5c, 200, 0)
    assert.equal(formatName(name), '\\000\\010\\027\\.\\\\\\200.')
  })
  test('is "(bad name)" for bytes that are none', () => {
    assert.equal(formatName(Uint8Array.of(3, 1)), '(bad name)')
    assert.equal(formatName(Uint8Array.of()), '(bad name)')
    assert.equal(formatName(Uint8Array.of(1, 65, 0xc0, 12)), '(bad name)')
  })
  test('reads back as the same name, whatever its bytes', () => {
    const label = fc.uint8Array({ minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(fc.array(label, { maxLength: 8 }), (labels) => {
        const name = Uint8Array.from([...labels.flatMap((part) => [part.length, ...part]), 0])
        const text = formatName(name)
        assert.match(text, /^[\x21-\x7e]+$/)
        assert.deepEqual(parseNameAsWritten(text), name)
      }),
    )
  })
})

test('types have names or numbers, classes and rcodes too', () => {
  assert.equal(formatType(28), 'AAAA')
  assert.equal(formatType(65), 'HTTPS')
  assert.equal(formatType(65280), 'TYPE65280')
  assert.equal(parseType('aaaa'), 28)
  assert.equal(parseType('TYPE65'), 65)
  assert.throws(() => parseType('TYPE65536'), TextError)
  assert.throws(() => parseType('NONSENSE'), TextError)
  assert.equal(formatClass(1), 'IN')
  assert.equal(formatClass(77), 'CLASS77')
  assert.equal(parseClass('ch'), 3)
  assert.equal(parseClass('CLASS77'), 77)
  assert.equal(parseClass('A'), null)
  assert.equal(formatRcode(3), 'NXDOMAIN')
  assert.equal(formatRcode(11), 'RCODE11')
  assert.equal(parseRcode('REFUSED'), 5)
  assert.throws(() => parseRcode('BAD'), TextError)
})

test('every type from 0 to 65535 reads back', () => {
  for (let type = 0; type < 65536; type++) assert.equal(parseType(formatType(type)), type)
})
