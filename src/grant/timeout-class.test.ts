import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PORT_SETS_MAX } from '../policy/snapshot.ts'
import {
  CLASS_COUNT,
  GRANT_TTL_SECONDS_MAX,
  setPort,
  SLACK_SECONDS,
  TIMEOUT_CLASS_SECONDS,
  timeoutClass,
} from './timeout-class.ts'

test('classes are what a running peer and kernel sets mean by them', () => {
  // A change here is a new layout: sets of two releases live side by side under their names.
  assert.deepEqual([...TIMEOUT_CLASS_SECONDS], [15, 35, 65, 305, 3605, 86_405])
})

test('a TTL gets the shortest class that outlasts it by the slack', () => {
  const ends = [0, 10, 11, 30, 31, 60, 61, 300, 301, 3600, 3601, 86_400]
  assert.deepEqual(ends.map(timeoutClass), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
  for (const ttl of ends) {
    assert(TIMEOUT_CLASS_SECONDS[timeoutClass(ttl)]! >= ttl + SLACK_SECONDS, `ttl ${ttl}`)
  }
})

test('a TTL longer than a grant can last is a mistake of ours', () => {
  assert.throws(() => timeoutClass(GRANT_TTL_SECONDS_MAX + 1), /clamped/)
})

test('port set and class share a UDP port, and none of them is 0', () => {
  assert(CLASS_COUNT <= 16, 'four bits')
  assert.equal(setPort(1, 0), 16)
  assert.equal(setPort(PORT_SETS_MAX, 15), 0xffff)
  assert.equal(setPort(0x123, 5), 0x1235)
})
