import assert from 'node:assert/strict'
import { test } from 'node:test'
import { filterInSlices, Slice } from './turns.ts'

function work(ms: number): void {
  const endMs = performance.now() + ms
  while (performance.now() < endMs);
}

test('a slice is over after some milliseconds, and a new one begins in a later turn', async () => {
  const slice = new Slice()
  assert.equal(slice.isOver, false)
  work(6)
  assert.equal(slice.isOver, true)
  let hasTurned = false
  setImmediate(() => (hasTurned = true))
  await slice.next()
  assert.equal(hasTurned, true)
  assert.equal(slice.isOver, false)
})

// Thirty observers at once, each within its 5 ms, made turns of 150 ms.
test('of many who wait, each gets a turn of its own', async () => {
  let turns = 0
  let isDone = false
  const count = () => {
    turns++
    if (!isDone) setImmediate(count)
  }
  setImmediate(count)
  const seen: number[] = []
  await Promise.all(
    Array.from({ length: 30 }, async () => {
      await new Slice().next()
      seen.push(turns)
    }),
  )
  isDone = true
  assert.equal(new Set(seen).size, 30)
})

test('filtering in slices gives what filtering does, in the same order', async () => {
  const items = Array.from({ length: 40 }, (_, index) => index)
  const isWanted = (item: number) => {
    work(0.5)
    return item % 3 === 0
  }
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  assert.deepEqual(
    await filterInSlices(items, isWanted),
    items.filter((item) => item % 3 === 0),
  )
  clearInterval(timer)
  assert.ok(turns >= 2)
})
