import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { viewOf } from '../wire/bytes.ts'
import { FlowHistory, type HistoryCursor } from './history.ts'

function append(history: FlowHistory, value: number, bytes = 12): void {
  const record = new Uint8Array(bytes + 2)
  new DataView(record.buffer).setUint32(1, value)
  history.append(viewOf(record), 1, bytes)
}

function rest(cursor: HistoryCursor): number[] {
  const values: number[] = []
  while (cursor.next()) {
    values.push(new DataView(cursor.bytes.buffer).getUint32(cursor.recordAt))
  }
  return values
}

test('a cursor reads what was appended, and goes on when more comes', () => {
  const history = new FlowHistory(1024)
  const cursor = history.cursor(0)
  assert.equal(cursor.next(), false)
  append(history, 1)
  append(history, 2)
  assert.deepEqual(rest(cursor), [1, 2])
  append(history, 3)
  assert.deepEqual(rest(cursor), [3])
  assert.deepEqual(rest(history.cursor(1)), [2, 3])
  assert.equal(cursor.lost, 0)
})

test('the history forgets the oldest records and never grows', () => {
  const history = new FlowHistory(1024) // 16 chunks of 64 bytes: 4 records each
  for (let value = 0; value < 1000; value++) append(history, value)
  assert.equal(history.end, 1000)
  assert.equal(history.start, 936)
  assert.deepEqual(
    rest(history.cursor(0)),
    Array.from({ length: 64 }, (_, index) => 936 + index),
  )
})

test('a cursor that is overtaken goes on at the oldest record and knows what it lost', () => {
  const history = new FlowHistory(1024)
  append(history, 0)
  append(history, 1)
  const cursor = history.cursor(0)
  assert.equal(cursor.next(), true)
  for (let value = 2; value < 100; value++) append(history, value)
  const values = rest(cursor)
  assert.equal(values[0], history.start)
  assert.equal(values.at(-1), 99)
  assert.equal(1 + cursor.lost + values.length, 100)
})

test('who waits for a record is woken by it, or by his own signal', async () => {
  const history = new FlowHistory(1024)
  const never = new AbortController()
  let hasCome = false
  const waiting = history.reached(1, never.signal).then(() => (hasCome = true))
  append(history, 0)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(hasCome, false)
  append(history, 1)
  await waiting
  const stop = new AbortController()
  const stopped = history.reached(99, stop.signal)
  stop.abort()
  await stopped
})

test('whatever sizes come, cursors anywhere see every record once and in order', () => {
  const step = fc.record({ bytes: fc.integer({ min: 4, max: 60 }), reads: fc.nat(3) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      const history = new FlowHistory(1024)
      const cursor = history.cursor(0)
      let last = -1
      let seen = 0
      const readOne = () => {
        if (!cursor.next()) return false
        const value = new DataView(cursor.bytes.buffer).getUint32(cursor.recordAt)
        assert.ok(value > last)
        last = value
        seen++
        return true
      }
      for (const [value, { bytes, reads }] of steps.entries()) {
        append(history, value, bytes)
        for (let read = 0; read < reads; read++) readOne()
      }
      while (readOne());
      assert.equal(seen + cursor.lost, steps.length)
    }),
    { numRuns: 300 },
  )
})

test('a run out of a ring is taken over whole, and what the peer decided is known as such', () => {
  const history = new FlowHistory()
  const ring = Int32Array.of(0, 0, (1 << 24) | 8, 11, 12, (1 << 24) | 4, 21, 0)
  history.appendRun(ring, 2, 5, 2)
  history.append(new DataView(new ArrayBuffer(5)), 0, 5, true)
  const cursor = history.cursor(0)
  const seen: [number, boolean][] = []
  while (cursor.next()) seen.push([cursor.recordBytes, cursor.isForeign])
  assert.deepEqual(seen, [
    [8, false],
    [4, false],
    [5, true],
  ])
})
