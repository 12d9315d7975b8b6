import { test } from 'node:test'
import assert from 'node:assert/strict'
import { durationMs, VirtualClock } from './clock.ts'

test('a clock stands still until it is moved', () => {
  const clock = new VirtualClock(1_000)
  assert.equal(clock.nowMs, 1_000)
  assert.equal(clock.advance('30s'), 31_000)
  assert.equal(clock.advance(250), 31_250)
})

test('callbacks run in the order of their time, each at its own time', () => {
  const clock = new VirtualClock(0)
  const seen: string[] = []
  clock.after('2s', () => seen.push(`b ${clock.nowMs}`))
  clock.after('1s', () => {
    seen.push(`a ${clock.nowMs}`)
    clock.after('500ms', () => seen.push(`a again ${clock.nowMs}`))
  })
  clock.after('3s', () => seen.push('too late'))
  clock.advance('2.5s')
  assert.deepEqual(seen, ['a 1000', 'a again 1500', 'b 2000'])
  assert.equal(clock.nowMs, 2_500)
})

test('a callback taken back does not run', () => {
  const clock = new VirtualClock()
  let calls = 0
  const cancel = clock.after('1s', () => calls++)
  cancel()
  clock.advance('1m')
  assert.equal(calls, 0)
})

test('a duration is a number with a unit, and never negative', () => {
  assert.deepEqual(
    ['250ms', '30s', '1.5m', '2h', '1d'].map(durationMs),
    [250, 30_000, 90_000, 7_200_000, 86_400_000],
  )
  for (const wrong of ['30', 's', '-1s', '1 s', '1w', '']) assert.throws(() => durationMs(wrong))
  assert.throws(() => durationMs(-1))
})
