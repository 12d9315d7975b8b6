import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { allocatesNothing, allocationTest } from './allocation.ts'

const packet = new Uint8Array(512)

allocatesNothing('a plain read of a byte allocates nothing', () => {
  packet[7] = 200
  return (call) => packet[call & 511]
})

allocationTest(
  'a subarray that escapes is seen, all 100 bytes of it',
  () => () => packet.subarray(12, 20),
  (bytes) => assert.ok(bytes > 90 && bytes < 130, `${bytes} bytes`),
)

allocationTest(
  'a fresh object is seen',
  () => (call) => ({ call }),
  (bytes) => assert.ok(bytes > 15 && bytes < 64, `${bytes} bytes`),
)

allocationTest(
  'a number past 31 bits that escapes is seen: it lives on the heap',
  () => (call) => (call | 0x8000_0000) >>> 0,
  (bytes) => assert.ok(bytes > 11 && bytes < 25, `${bytes} bytes`),
)

allocationTest(
  'an object made in one of ten calls is seen',
  () => (call) => (call % 10 === 0 ? packet.subarray(call & 511) : 0),
  (bytes) => assert.ok(bytes > 8, `${bytes} bytes`),
)

describe('inside a suite', () => {
  allocatesNothing('the child finds its test (also with .*?+ in its name) as well', () => () => 1)
})
