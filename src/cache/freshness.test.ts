import { test } from 'node:test'
import assert from 'node:assert/strict'
import {
  DEAD,
  FRESH,
  failureTtl,
  freshness,
  isPrefetchDue,
  negativeTtl,
  positiveTtl,
  recordTtl,
  STALE,
  STALE_TTL_SECONDS,
} from './freshness.ts'

const limits = { minTtlSeconds: 0, maxTtlSeconds: 3600, maxNegativeTtlSeconds: 30 }
const raised = { ...limits, minTtlSeconds: 5 }

test('an answer is kept for its lowest TTL, within minTtl and maxTtl', () => {
  assert.equal(positiveTtl(1, limits), 1)
  assert.equal(positiveTtl(86_400, limits), 3600)
  assert.equal(positiveTtl(1, raised), 5)
  assert.equal(positiveTtl(6, raised), 6)
})

test('an answer with TTL 0 is not kept, whatever minTtl says', () => {
  assert.equal(positiveTtl(0, raised), 0)
})

test('a TTL with its highest bit set counts as 0', () => {
  assert.equal(positiveTtl(0x8000_0000, limits), 0)
  assert.equal(positiveTtl(0xffff_ffff, limits), 0)
  assert.equal(positiveTtl(0x7fff_ffff, limits), 3600)
  assert.equal(negativeTtl(true, 0x8000_0000, 30, limits), 0)
})

// CoreDNS took the SOA's own TTL (#2158, #2294): a new name stayed missing for half an hour.
test('a negative answer is kept for the lower of the SOA TTL and its MINIMUM', () => {
  const long = { ...limits, maxNegativeTtlSeconds: 10_800 }
  assert.equal(negativeTtl(true, 1800, 60, long), 60)
  assert.equal(negativeTtl(true, 60, 1800, long), 60)
  assert.equal(negativeTtl(true, 9000, 9000, long), 3600)
})

test('a negative answer is kept no longer than maxNegativeTtl, and minTtl does not raise it', () => {
  assert.equal(negativeTtl(true, 1800, 1800, limits), 30)
  assert.equal(negativeTtl(true, 1, 1800, raised), 1)
  assert.equal(negativeTtl(true, 1800, 1800, { ...limits, maxNegativeTtlSeconds: 0 }), 0)
})

test('a negative answer without SOA is not kept', () => {
  assert.equal(negativeTtl(false, 0, 0, limits), 0)
})

test('failures are kept for at least 1 and at most 5 seconds, each time longer', () => {
  assert.deepEqual([1, 2, 3, 4, 5, 255].map(failureTtl), [1, 2, 4, 5, 5, 5])
})

test('an answer is fresh, then stale for the window, then dead', () => {
  assert.equal(freshness(0.5, 0), FRESH)
  assert.equal(freshness(0, 0), DEAD)
  assert.equal(freshness(0, 1000), STALE)
  assert.equal(freshness(-999.5, 1000), STALE)
  assert.equal(freshness(-1000, 1000), DEAD)
})

// AKS gave stale answers for an hour at a time: an address that was taken away stayed in policy.
test('a stale answer is given for 30 seconds at most', () => {
  assert.equal(STALE_TTL_SECONDS, 30)
})

test('TTLs in records count down, never below 0, within the same limits', () => {
  assert.equal(recordTtl(300, 10, 0, 3600), 290)
  assert.equal(recordTtl(86_400, 10, 0, 3600), 3590)
  assert.equal(recordTtl(1, 3, 5, 3600), 2)
  assert.equal(recordTtl(30, 31, 0, 3600), 0)
  assert.equal(recordTtl(0xffff_ffff, 0, 0, 3600), 0)
})

test('the SOA of a negative answer is not handed out with more than the answer is kept for', () => {
  assert.equal(recordTtl(3600, 4, 0, 30), 26)
})

test('a hit in the last tenth of the TTL asks ahead, but not for TTLs below 10 s', () => {
  assert.equal(isPrefetchDue(30, 26), false)
  assert.equal(isPrefetchDue(30, 27), true)
  assert.equal(isPrefetchDue(9, 9), false)
})
