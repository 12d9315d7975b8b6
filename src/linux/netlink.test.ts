import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { attribute, attributeEnd, concatBytes, findAttribute, nfgenmsg } from './netlink.ts'

test('an attribute is padded to 4 bytes, and its end is the end of its value', () => {
  const bytes = concatBytes(attribute(1, Uint8Array.of(7)), attribute(2, Uint8Array.of(1, 2, 3, 4)))
  assert.deepEqual([...bytes], [5, 0, 1, 0, 7, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4])
  const first = findAttribute(bytes, 0, bytes.length, 1)
  assert.deepEqual([first, attributeEnd(bytes, first)], [4, 5])
  assert.equal(findAttribute(bytes, 0, bytes.length, 2), 12)
  assert.equal(findAttribute(bytes, 0, bytes.length, 3), -1)
  assert.equal(findAttribute(bytes, 0, 15, 2), -1, 'one byte is missing')
})

test('the flags of a nested attribute do not hide its type', () => {
  const bytes = attribute(0x8000 | 3, attribute(1, Uint8Array.of(9)))
  assert.equal(findAttribute(bytes, 0, bytes.length, 3), 4)
})

test('random bytes never lead outside', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(20), (bytes, type) => {
      const at = findAttribute(bytes, 0, bytes.length, type)
      if (at >= 0) assert.ok(attributeEnd(bytes, at) <= bytes.length)
    }),
  )
})

test('the resource of an nfgenmsg is big-endian', () => {
  assert.deepEqual([...nfgenmsg(2, 0x1234)], [2, 0, 0x12, 0x34])
})
