import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { addressFault, canonicalAddress, formatAddress, isMapped, parseAddress } from './address.ts'

const CANONICAL: readonly (readonly [string, string])[] = [
  ['192.0.2.1', '192.0.2.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['2001:DB8::0007', '2001:db8::7'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['::', '::'],
  ['::1', '::1'],
  ['fe80::', 'fe80::'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
]

test('an address has one spelling', () => {
  for (const [written, spelled] of CANONICAL) assert.equal(canonicalAddress(written), spelled)
})

const REFUSED = [
  '',
  '192.0.2',
  '192.0.2.1.1',
  '192.0.2.01',
  '192.0.2.256',
  ' 192.0.2.1',
  '192.0.2.1/32',
  '0x7f.0.0.1',
  '2001:db8',
  '2001:db8::1::2',
  ':::',
  '::12345',
  'fe80::1%eth0',
  '[::1]',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '1.2.3.4::',
  '::1.2.3.4:1',
  '::1.2.3',
]

test('what is no address is refused', () => {
  for (const text of REFUSED) assert.equal(parseAddress(text), null, text)
})

test('an IPv4 address in IPv6 form is refused, and the message says what to write', () => {
  for (const text of ['::ffff:192.0.2.1', '::FFFF:c000:201', '0:0:0:0:0:ffff:192.0.2.1']) {
    assert.equal(parseAddress(text), null)
    assert.equal(addressFault(text), `'${text}' is an IPv4 address in IPv6 form; write 192.0.2.1`)
  }
  assert.equal(addressFault('192.0.2'), "'192.0.2' is no IP address")
})

test('an IPv4-mapped address is shown as such', () => {
  const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1])
  assert.equal(formatAddress(bytes, 0, 6), '::ffff:192.0.2.1')
})

test('text and bytes of an address go back and forth', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc
      .array(fc.constantFrom(0, 0, 0, 1, 0xff), { minLength: 16, maxLength: 16 })
      .map((all) => Uint8Array.from(all)),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  )
  fc.assert(
    fc.property(bytes, (address) => {
      const family = address.length === 4 ? 4 : 6
      const text = formatAddress(address, 0, family)
      assert.equal(isIP(text), family)
      const expected = family === 6 && isMapped(address, 0) ? null : address
      assert.deepEqual(parseAddress(text), expected)
    }),
  )
})

test('an address is what Node takes for one, but for zones and IPv4 in IPv6 form', () => {
  const text = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.stringMatching(/^[0-9a-f:.]{0,20}$/),
    fc.stringMatching(/^(::)?([0-9]{1,3}\.){3}[0-9]{1,3}$/),
    fc.stringMatching(/^([0-9a-f]{0,4}:){1,8}[0-9a-f]{0,4}$/),
  )
  fc.assert(
    fc.property(text, (written) => {
      const bytes = parseAddress(written)
      const isMappedText = addressFault(written).includes('in IPv6 form')
      assert.equal(bytes !== null || isMappedText, isIP(written) !== 0)
    }),
    { numRuns: 2000 },
  )
})
