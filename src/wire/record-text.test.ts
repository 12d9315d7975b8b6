import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { formatRecord, parseRecord } from './record-text.ts'
import { TextError } from './text.ts'

describe('a record reads and shows as it is written', () => {
  const cases = [
    'api.example.com. 30 IN A 192.0.2.10',
    'api.example.com. 30 IN AAAA 2001:db8::10',
    'api.example.com. 30 IN AAAA ::',
    'api.example.com. 30 IN AAAA 2001:db8:0:1:1:1:1:1',
    'api.example.com. 30 IN AAAA 2001:0:0:1::1',
    'www.example.com. 30 IN CNAME Api.Example.com.',
    'example.net. 30 IN DNAME example.com.',
    'example.com. 3600 IN NS ns1.example.com.',
    'example.com. 3600 IN SOA ns1.example.com. admin\\.dns.example.com. 1 7200 900 1209600 30',
    '10.2.0.192.in-addr.arpa. 30 IN PTR api.example.com.',
    'example.com. 30 IN MX 10 mail.example.com.',
    'example.com. 30 IN TXT "v=spf1 -all" "a \\"quoted\\" \\\\ \\000 byte" ""',
    '_sip._tcp.example.com. 30 IN SRV 10 20 5060 sip.example.com.',
    'example.com. 30 IN HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.10,192.0.2.11 ipv6hint=2001:db8::10',
    'example.com. 30 IN HTTPS 0 www.example.com.',
    '_dns.example.com. 30 IN SVCB 1 dns.example.com. alpn=dot key7="/dns-query{?dns}"',
    'example.com. 30 IN HINFO "RFC8482" ""',
    'example.com. 30 CH TXT "chaos"',
    'example.com. 30 CLASS77 TYPE65280 \\# 3 0a0b0c',
    'example.com. 30 IN TYPE65280 \\# 0',
    '. 0 IN NS a.example.net.',
  ]
  for (const text of cases) test(text, () => assert.equal(formatRecord(parseRecord(text)), text))
})

test('TTL and class may be left out and stand in either order', () => {
  const whole = parseRecord('example.com. 300 IN A 192.0.2.1')
  for (const text of [
    'example.com A 192.0.2.1',
    'example.com. IN A 192.0.2.1',
    'example.com. IN 300 A 192.0.2.1',
  ]) {
    assert.deepEqual(parseRecord(text), whole)
  }
})

test('data of any type can be written as bytes, also malformed data of a known one', () => {
  const record = parseRecord('example.com. 30 IN A \\# 3 c00002')
  assert.deepEqual(record.rdata, Uint8Array.of(192, 0, 2))
  assert.equal(formatRecord(record), 'example.com. 30 IN A \\# 3 c00002')
})

test('SVCB parameters go out in rising order, however they are written', () => {
  assert.deepEqual(
    parseRecord('a. HTTPS 1 . port=1 alpn=h2').rdata,
    Uint8Array.of(0, 1, 0, 0, 1, 0, 3, 2, 0x68, 0x32, 0, 3, 0, 2, 0, 1),
  )
})

describe('a text is refused', () => {
  const cases = [
    '',
    'example.com.',
    'example.com. 30 IN',
    'example.com. 30 IN A',
    'example.com. 30 IN A 192.0.2',
    'example.com. 30 IN A 192.0.2.256',
    'example.com. 30 IN A 192.0.2.01',
    'example.com. 30 IN A 192.0.2.1 192.0.2.2',
    'example.com. 30 IN AAAA 2001:db8',
    'example.com. 30 IN AAAA 1::2::3',
    'example.com. 30 IN AAAA 1:2:3:4:5:6:7:8:9',
    'example.com. 30 IN AAAA 1:2:3:4::5:6:7:8',
    'example.com. 30 IN AAAA fffff::',
    'example.com. 4294967296 IN A 192.0.2.1',
    'example.com. 30 IN MX 65536 mail.example.com.',
    'example.com. 30 IN HTTPS 1 . nonsense=1',
    'example.com. 30 IN HTTPS 1',
    'example.com. 30 IN NONSENSE 1',
    'example.com. 30 IN TYPE65280 0a',
    'example.com. 30 IN TYPE65280 \\# 2 0a',
  ]
  for (const text of cases) test(text, () => assert.throws(() => parseRecord(text), TextError))
})

test('IPv6 addresses read back, whatever their zeros', () => {
  const group = fc.constantFrom(0, 0, 0, 1, 0xffff, 0xdb8)
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const rdata = Uint8Array.from(groups.flatMap((word) => [word >>> 8, word & 0xff]))
      const record = { ...parseRecord('a. AAAA ::'), rdata }
      const text = formatRecord(record)
      assert.deepEqual(parseRecord(text), record)
      const written = text.split(' ').at(-1)!
      assert.equal(written, new URL(`http://[${written}]`).hostname.slice(1, -1), 'RFC 5952')
    }),
  )
})

test('any data shows as text that reads back, for every type we know and some we do not', () => {
  const type = fc.constantFrom(1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 39, 64, 65, 65280)
  fc.assert(
    fc.property(type, fc.uint8Array({ maxLength: 40 }), (number, rdata) => {
      const record = { ...parseRecord('a. A 192.0.2.1'), type: number, rdata }
      const text = formatRecord(record)
      assert.match(text, /^[\x20-\x7e]+$/)
      const again = parseRecord(text)
      assert.deepEqual(again.rdata, rdata)
    }),
    { numRuns: 1000 },
  )
})
