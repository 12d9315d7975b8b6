import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseAddress } from './address.ts'
import {
  compareBytes,
  formatPrefix,
  isCovered,
  mergePrefixes,
  mergeRanges,
  type Prefix,
  parsePrefix,
  rangeOfPrefix,
  subtractPrefixes,
} from './prefix.ts'

test('a prefix has one spelling, without bits beyond its length', () => {
  const spell = (text: string) => formatPrefix(parsePrefix(text)!)
  assert.equal(spell('10.0.0.7/8'), '10.0.0.0/8')
  assert.equal(spell('0.0.0.0/0'), '0.0.0.0/0')
  assert.equal(spell('192.0.2.255/31'), '192.0.2.254/31')
  assert.equal(spell('2001:DB8:ffff::1/33'), '2001:db8:8000::/33')
  assert.equal(spell('::1/128'), '::1/128')
})

test('what is no prefix is refused', () => {
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '::/129',
    '/8',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '::ffff:0.0.0.0/96',
    '10.0.0.0/8/8',
  ]) {
    assert.equal(parsePrefix(text), null, text)
  }
})

test('a prefix of one family covers nothing of the other', () => {
  assert.equal(isCovered(parseAddress('192.0.2.1')!, [parsePrefix('::/0')!]), false)
  assert.equal(isCovered(parseAddress('2001:db8::1')!, [parsePrefix('0.0.0.0/0')!]), false)
})

test('what is taken out of a prefix leaves the fewest prefixes', () => {
  const left = subtractPrefixes([parsePrefix('10.0.0.0/8')!], [parsePrefix('10.0.0.0/10')!])
  assert.deepEqual(left.map(formatPrefix), ['10.64.0.0/10', '10.128.0.0/9'])
  assert.deepEqual(subtractPrefixes([parsePrefix('10.0.0.0/8')!], [parsePrefix('0.0.0.0/0')!]), [])
})

/** Of 10.0.0.0/28, so that every address can be tried. */
const smallPrefix = fc
  .tuple(fc.nat({ max: 15 }), fc.integer({ min: 28, max: 32 }))
  .map(([last, bits]) => parsePrefix(`10.0.0.${last}/${bits}`)!)
const smallAddresses = Array.from({ length: 16 }, (_, last) => Uint8Array.from([10, 0, 0, last]))

test('subtracting prefixes leaves what was in the one and not in the others', () => {
  fc.assert(
    fc.property(fc.array(smallPrefix), fc.array(smallPrefix), (from, taken) => {
      const left = subtractPrefixes(from, taken)
      for (const address of smallAddresses) {
        const expected = isCovered(address, from) && !isCovered(address, taken)
        assert.equal(isCovered(address, left), expected)
      }
    }),
  )
})

test('merged ranges hold the same addresses, sorted, with a gap between any two', () => {
  fc.assert(
    fc.property(fc.array(smallPrefix), (prefixes: readonly Prefix[]) => {
      const ranges = mergeRanges(prefixes.map(rangeOfPrefix), 4)
      for (const address of smallAddresses) {
        const isIn = ranges.some(
          ({ first, last }) =>
            compareBytes(first, address) <= 0 && compareBytes(address, last) <= 0,
        )
        assert.equal(isIn, isCovered(address, prefixes))
      }
      for (const [index, range] of ranges.entries()) {
        const before = ranges[index - 1]
        if (before !== undefined) assert.ok(range.first[3]! > before.last[3]! + 1)
      }
    }),
  )
})

test('merged prefixes hold the same addresses, and no two of them make one', () => {
  const merge = (...texts: string[]) =>
    mergePrefixes(texts.map((text) => parsePrefix(text)!)).map(formatPrefix)
  assert.deepEqual(
    merge('10.0.0.3/32', '10.0.0.0/32', '10.0.0.2/32', '10.0.0.1/32', '10.0.0.1/32'),
    ['10.0.0.0/30'],
  )
  assert.deepEqual(merge('10.0.0.1/32', '10.0.0.2/32'), ['10.0.0.1/32', '10.0.0.2/32'])
  assert.deepEqual(merge('128.0.0.0/1', '0.0.0.0/1', '8000::/1', '::/1'), ['0.0.0.0/0', '::/0'])
  fc.assert(
    fc.property(fc.array(smallPrefix), (prefixes: readonly Prefix[]) => {
      const merged = mergePrefixes(prefixes)
      for (const address of smallAddresses) {
        assert.equal(isCovered(address, merged), isCovered(address, prefixes))
      }
      const sizes = merged.reduce((sum, { bits }) => sum + 2 ** (32 - bits), 0)
      assert.equal(sizes, smallAddresses.filter((address) => isCovered(address, prefixes)).length)
      assert.deepEqual(mergePrefixes(merged), merged)
    }),
  )
})

test('the last address there is ends the merging', () => {
  const all = ['255.255.255.255/32', '255.0.0.0/8', '0.0.0.0/0'].map((text) =>
    rangeOfPrefix(parsePrefix(text)!),
  )
  assert.equal(mergeRanges(all, 4).length, 1)
  assert.equal(mergeRanges(all.slice(0, 2), 4).length, 1)
  assert.equal(mergeRanges(all, 6).length, 0)
})
