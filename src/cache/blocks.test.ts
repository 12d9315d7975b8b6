import { test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { BLOCK_BYTES, BlockStore } from './blocks.ts'

function storeOf(count: number): BlockStore {
  return new BlockStore(new ArrayBuffer((count + 1) * BLOCK_BYTES), 0, (count + 1) * BLOCK_BYTES)
}

test('every block is given out once, and block 0 never', () => {
  const store = storeOf(50)
  const chains = [store.allocate(1), store.allocate(20), store.allocate(29)]
  assert.equal(store.freeCount, 0)
  const seen = new Set(chains.flatMap((first) => chainOf(store, first)))
  assert.equal(seen.size, 50)
  assert.equal(seen.has(0), false)
})

test('blocks that were given back are used before untouched ones', () => {
  const store = storeOf(1000)
  for (let round = 0; round < 100; round++) {
    const [a, b] = [store.allocate(10), store.allocate(5)]
    store.release(a)
    store.release(b)
  }
  assert.equal(store.freeCount, 1000)
  assert.ok(
    store.words.subarray(16 * 16).every((word) => word === 0),
    'the rest is untouched',
  )
})

test('blocks are neither lost nor doubled by any order of taking and giving back', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(20), fc.nat(30)), { maxLength: 200 }), (steps) => {
      const store = storeOf(100)
      const held: number[] = []
      for (const [count, which] of steps) {
        if (count > 0 && count <= store.freeCount) held.push(store.allocate(count))
        else if (held.length > 0) store.release(held.splice(which % held.length, 1)[0]!)
        const blocks = held.flatMap((first) => chainOf(store, first))
        assert.equal(new Set(blocks).size, blocks.length)
        assert.equal(blocks.length + store.freeCount, 100)
      }
    }),
    { numRuns: 100 },
  )
})

test('a stream of parts comes back part by part, wherever its blocks lie', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      fc.uint16Array({ maxLength: 70 }),
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      fc.nat(14),
      fc.nat(7),
      (first, halves, last, startWord, outAt) => {
        const store = storeOf(64)
        // Mix the blocks up, so that chains jump.
        const apart = Array.from({ length: 64 }, () => store.allocate(1))
        for (const index of [...apart.keys()].sort((a, b) => ((a * 37) % 64) - ((b * 37) % 64))) {
          store.release(apart[index]!)
        }
        const start = store.allocate(60) * 16 + 1 + startWord
        const families = Uint8Array.from(halves, (half) => half & 0xff)
        const halvesAt = store.writeBytes(start, first, 0, first.length)
        const pairsAt = store.writeHalves(halvesAt, halves, halves.length)
        const lastAt = store.writePairs(pairsAt, halves, families, halves.length)
        store.writeBytes(lastAt, last, 0, last.length)
        const firstWords = Math.ceil(first.length / 4)
        const halfWords = Math.ceil(halves.length / 2)
        assert.equal(store.skip(start, firstWords), halvesAt)
        assert.equal(store.skip(start, firstWords + halfWords), pairsAt)
        assert.equal(store.skip(start, firstWords + halfWords + halves.length), lastAt)
        assert.ok(store.equals(start, first, 0, first.length))
        assert.ok(store.equals(lastAt, last, 0, last.length))
        const other = Uint8Array.from(last)
        other[other.length - 1]! ^= 1
        assert.ok(!store.equals(lastAt, other, 0, other.length))
        const out = new Uint8Array(320).fill(0xee)
        store.readBytes(lastAt, out, outAt, last.length)
        assert.deepEqual(out.slice(outAt, outAt + last.length), last)
        assert.equal(out[outAt + last.length], 0xee)
        const halvesOut = new Uint16Array(70)
        const familiesOut = new Uint8Array(70)
        store.readHalves(halvesAt, halvesOut, halves.length)
        assert.deepEqual(halvesOut.slice(0, halves.length), halves)
        store.readPairs(pairsAt, halvesOut, familiesOut, halves.length)
        assert.deepEqual(halvesOut.slice(0, halves.length), halves)
        assert.deepEqual(familiesOut.slice(0, halves.length), families)
      },
    ),
    { numRuns: 200 },
  )
})

test('answers can be copied to more buffers than are remembered', () => {
  const store = storeOf(4)
  const at = store.allocate(1) * 16 + 1
  store.writeBytes(at, Uint8Array.of(1, 2, 3, 4, 5), 0, 5)
  for (let round = 0; round < 3; round++) {
    for (const out of Array.from({ length: 9 }, () => new Uint8Array(9))) {
      store.readBytes(at, out, 2, 5)
      assert.deepEqual([...out], [0, 0, 1, 2, 3, 4, 5, 0, 0])
    }
  }
})

function chainOf(store: BlockStore, first: number): number[] {
  const chain = []
  for (let block = first; block !== 0; block = store.words[block * 16]!) chain.push(block)
  return chain
}
