import { test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { allocationTest } from '../../test/support/allocation.ts'
import { KIND_NXDOMAIN } from '../wire/answer.ts'
import { messageOf, nameOf, TestCache, type TestAnswer } from './cache-fixture.ts'
import { NO_ENTRY } from './cache.ts'
import { FRESH, STALE } from './freshness.ts'
import { KEY_DO } from './question.ts'
import {
  isLearned,
  LEARNED_NAME,
  LearnedCodec,
  learnedGroupId,
  learnedNameBytes,
} from './learned.ts'

const MiB = 1 << 20
const GROUP_ID = 0xfeed_beef
const www = { name: nameOf('www.example.com'), type: 28, keyFlags: KEY_DO, group: 3, hash: 11 }
/** Where the records begin, behind the header and the question. */
const RECORDS_AT = 12 + www.name.length + 4

/** Made-up bytes behind the question for `www`. */
function aboutWww(message: Uint8Array): Uint8Array {
  message.set([...www.name, 0, www.type, 0, 1], 12)
  return message
}

const here = { ...www, group: 7, hash: 22 }
const answer: TestAnswer = {
  message: aboutWww(messageOf(1, 91)),
  ttls: [39, 55],
  addresses: [
    [45, 6],
    [61, 4],
  ],
  ttlSeconds: 30,
}

/** Of the machine's clock when our time began: near where its low 32 bits begin anew. */
const STARTED_MS = 2 ** 32 - 20_000

interface Pair {
  readonly from: TestCache
  readonly to: TestCache
  /** Tells the peer of an entry, with the peer's own hash and group number. */
  readonly tell: (entry: number, arrivedMs: number) => number
}

/** @param toStartedMs  how much later the peer's time 0 is than ours */
function pair(toStartedMs = 0): Pair {
  const from = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
  const to = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
  const encoder = new LearnedCodec(from.cache, STARTED_MS)
  const decoder = new LearnedCodec(to.cache, STARTED_MS + toStartedMs)
  const tell = (entry: number, arrivedMs: number): number => {
    const bytes = new Uint8Array(3 + encoder.encodedBytes(entry))
    const length = encoder.encode(entry, GROUP_ID, bytes, 3)
    assert.equal(length, encoder.encodedBytes(entry))
    assert.ok(isLearned(bytes, 3, length))
    assert.equal(learnedGroupId(bytes, 3), GROUP_ID)
    const nameBytes = learnedNameBytes(bytes, 3)
    assert.deepEqual(bytes.slice(3 + LEARNED_NAME, 3 + LEARNED_NAME + nameBytes), www.name)
    return decoder.insert(bytes, 3, here.hash, here.group, arrivedMs)
  }
  return { from, to, tell }
}

test('the peer has the same answer to the same question, under its own hash and group', () => {
  const { from, to, tell } = pair()
  const entry = tell(from.insert(www, answer), 0)
  assert.equal(to.find(here), entry)
  assert.deepEqual(to.message(entry), answer.message)
  assert.deepEqual(to.ttls(entry), answer.ttls)
  assert.deepEqual(to.addresses(entry), answer.addresses)
})

test('the copy ends at the same moment, however long it lay unread and whenever we began', () => {
  const { from, to, tell } = pair(30_000)
  const sent = from.insert(www, { ...answer, nowMs: 5000 })
  const entry = tell(sent, 2345)
  assert.equal(to.cache.expiresAtMs(entry), 5000 + 30_000 - 30_000)
  assert.equal(to.cache.ttlSeconds(entry), 30)
  assert.equal(to.cache.ageSeconds(entry, 2345), from.cache.ageSeconds(sent, 32_345))
})

test('a record that would last longer than its own TTL is of another clock and refused', () => {
  const { from, tell } = pair()
  assert.equal(tell(from.insert(www, answer), -1000), NO_ENTRY)
})

test('a stale answer is told as stale', () => {
  const { from, to, tell } = pair()
  const entry = tell(from.insert(www, answer), 40_000)
  assert.equal(to.cache.freshness(entry, 40_000), STALE)
  assert.equal(to.cache.expiresAtMs(entry), 30_000)
})

test('a newer answer of ours stays when the peer tells an older one', () => {
  const { from, to, tell } = pair()
  const ours = to.insert(here, { kind: KIND_NXDOMAIN, nowMs: 1000 })
  assert.equal(tell(from.insert(www, answer), 1000), ours)
  assert.equal(to.cache.kind(ours), KIND_NXDOMAIN)
})

test('an answer of the peer’s is left to the peer to ask for again, until it is nearly over', () => {
  const { from, to, tell } = pair()
  const theirs = from.insert(www, answer)
  const ours = tell(theirs, 5)
  assert.equal(from.cache.isPrefetchDue(theirs, 27_000), true)
  assert.equal(to.cache.isPrefetchDue(ours, 28_499), false)
  assert.equal(to.cache.isPrefetchDue(ours, 28_500), true)
  // What we asked for ourselves is ours again.
  assert.equal(to.insert(here, { ttlSeconds: 30, nowMs: 28_501 }), ours)
  assert.equal(to.cache.isPrefetchDue(ours, 28_501 + 27_000), true)
})

test('just after its end an answer of the peer’s is the peer’s to ask for anew, and one of ours is not', () => {
  const { from, to, tell } = pair()
  const entry = from.insert(www, { ...answer, ttlSeconds: 10 })
  const copy = tell(entry, 0)
  assert.equal(to.cache.isPeersTurn(copy, 10_199), true)
  assert.equal(to.cache.isPeersTurn(copy, 10_200), false)
  assert.equal(from.cache.isPeersTurn(entry, 10_000), false)
  const own = to.insert(here, { ...answer, ttlSeconds: 10, nowMs: 10_300 })
  assert.equal(to.cache.isPeersTurn(own, 20_300), false)
  const other = pair()
  const failure = other.tell(other.from.fail(www, 0, aboutWww(messageOf(2, 40))), 0)
  assert.equal(other.to.cache.isPeersTurn(failure, 1000), false)
})

test('a failure that the peer had is backed off from here too', () => {
  const { from, to, tell } = pair()
  const failed = from.fail(www, 0, aboutWww(messageOf(2, 40)))
  const entry = tell(failed, 100)
  assert.equal(to.cache.freshness(entry, 999), FRESH)
  assert.equal(to.cache.expiresAtMs(entry), 1000)
})

test('an answer that has been dead for long is not inserted', () => {
  const { from, to, tell } = pair()
  assert.equal(tell(from.insert(www, answer), 100_000_000), NO_ENTRY)
  assert.equal(to.find(here), NO_ENTRY)
})

test('any answer survives the way, whatever its sizes', () => {
  fc.assert(
    fc.property(
      fc.nat(2000),
      fc.array(fc.nat(12), { minLength: 1, maxLength: 60 }),
      fc.array(fc.tuple(fc.nat(1), fc.constantFrom(4, 6)), { maxLength: 60 }),
      (more, steps, behind) => {
        const { from, to, tell } = pair()
        const ttls = steps.map((_, index) =>
          steps.slice(0, index).reduce((at, step) => at + step, RECORDS_AT),
        )
        const end = ttls.at(-1)! + 4
        const addresses = behind.map(([at, family]): [number, number] => [end + at, family])
        const message = aboutWww(messageOf(more, end + 17 + more))
        const sent = { message, ttls, addresses, ttlSeconds: 9 }
        const entry = tell(from.insert(www, sent), 0)
        assert.deepEqual(to.message(entry), sent.message)
        assert.deepEqual(to.ttls(entry), ttls)
        assert.deepEqual(to.addresses(entry), addresses)
      },
    ),
    { numRuns: 100 },
  )
})

test('bytes that are no record are refused, and a record with one byte changed never does harm', () => {
  const { from, to } = pair()
  const encoder = new LearnedCodec(from.cache, STARTED_MS)
  const decoder = new LearnedCodec(to.cache, STARTED_MS)
  const entry = from.insert(www, answer)
  const bytes = new Uint8Array(encoder.encodedBytes(entry))
  encoder.encode(entry, GROUP_ID, bytes, 0)
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(isLearned(bytes, 0, length), false, `cut to ${length} bytes`)
  }
  assert.equal(isLearned(new Uint8Array(bytes.length), 0, bytes.length), false)
  let accepted = 0
  for (let at = 0; at < bytes.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const changed = Uint8Array.from(bytes)
      changed[at]! ^= 1 << bit
      if (!isLearned(changed, 0, changed.length)) continue
      accepted++
      decoder.insert(changed, 0, at * 8 + bit, here.group, 0)
    }
  }
  assert.ok(accepted > 0)
  for (const stored of to.entries()) to.cache.remove(stored)
  assert.equal(to.usedBlocks(), 0)
})

test('a record whose offsets point outside its message is refused', () => {
  const { from } = pair()
  const encoder = new LearnedCodec(from.cache, STARTED_MS)
  const outside: TestAnswer[] = [
    { ttls: [88] },
    { ttls: [39], addresses: [[88, 4]] },
    { ttls: [39], addresses: [[76, 6]] },
    { ttls: [39], addresses: [[50, 5]] },
    // Before the question's end, in no order, before the first TTL, without any.
    { ttls: [8] },
    { ttls: [55, 39] },
    { ttls: [39], addresses: [[36, 4]] },
    { addresses: [[50, 4]] },
  ]
  for (const wrong of outside) {
    const entry = from.insert(www, { message: aboutWww(messageOf(1, 91)), ...wrong })
    const bytes = new Uint8Array(encoder.encodedBytes(entry))
    encoder.encode(entry, GROUP_ID, bytes, 0)
    assert.equal(isLearned(bytes, 0, bytes.length), false)
  }
})

/** The moment at which the answer was stored at the peer: a double that goes through a call. */
const DOUBLE_BYTES = 16

function tellAndInsert(): (call: number) => unknown {
  const { from, to } = pair()
  const encoder = new LearnedCodec(from.cache, STARTED_MS)
  const decoder = new LearnedCodec(to.cache, STARTED_MS)
  const entry = from.insert(www, answer)
  const bytes = new Uint8Array(encoder.encodedBytes(entry))
  const nowMs = 10.5
  return () => {
    const length = encoder.encode(entry, 5, bytes, 0)
    const isWhole = isLearned(bytes, 0, length)
    return isWhole ? decoder.insert(bytes, 0, here.hash, here.group, nowMs) : -2
  }
}

allocationTest('telling and being told allocate one number', tellAndInsert, (bytesPerCall) => {
  assert.ok(bytesPerCall < DOUBLE_BYTES + 0.5, `${bytesPerCall.toFixed(1)} bytes per call`)
})
