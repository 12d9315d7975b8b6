import { test } from 'node:test'
import assert from 'node:assert/strict'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { KIND_ERROR, KIND_NODATA, KIND_NXDOMAIN, KIND_POSITIVE } from '../wire/answer.ts'
import { messageOf, metaOf, nameOf, questionOf, TestCache, TYPE_AAAA } from './cache-fixture.ts'
import { EXISTS, NO_ENTRY } from './cache.ts'
import { KIND_TIMEOUT, KIND_UNREACHABLE } from './entry.ts'
import { DEAD, FRESH, STALE } from './freshness.ts'
import { KEY_CD, KEY_DO } from './question.ts'

const MiB = 1 << 20
const www = { name: nameOf('www.example.com') }

test('an answer comes back byte for byte, with its TTL and address offsets', () => {
  const cache = new TestCache({ bytes: MiB })
  const message = messageOf(7, 123)
  const entry = cache.insert(www, {
    message,
    ttls: [37, 53, 69],
    addresses: [
      [43, 4],
      [59, 6],
    ],
    ttlSeconds: 30,
    nowMs: 1000.25,
  })
  assert.equal(cache.find(www), entry)
  assert.deepEqual(cache.message(entry), message)
  assert.deepEqual(cache.ttls(entry), [37, 53, 69])
  assert.deepEqual(cache.addresses(entry), [
    [43, 4],
    [59, 6],
  ])
  assert.deepEqual(cache.name(entry), www.name)
  assert.equal(cache.cache.storedAtMs(entry), 1000.25)
  assert.equal(cache.cache.expiresAtMs(entry), 31_000.25)
  assert.equal(cache.cache.kind(entry), KIND_POSITIVE)
  assert.equal(cache.cache.type(entry), 1)
  assert.equal(cache.cache.class(entry), 1)
})

test('messages of every length up to 200 bytes and of the longest come back byte for byte', () => {
  const cache = new TestCache({ bytes: 4 * MiB })
  for (const length of [...Array.from({ length: 200 }, (_, index) => index + 1), 65535]) {
    const message = messageOf(length, length)
    const entry = cache.insert({ ...www, type: length }, { message, ttls: [1, 2, 3] })
    assert.ok(Buffer.from(cache.message(entry)).equals(message), `${length} bytes`)
  }
})

test('a name of 255 bytes and the root are keys like others', () => {
  const cache = new TestCache({ bytes: MiB })
  const long = { name: nameOf([63, 63, 63, 61].map((count) => 'a'.repeat(count)).join('.')) }
  assert.equal(long.name.length, 255)
  const root = { name: nameOf('') }
  const entries = [cache.insert(long), cache.insert(root)]
  assert.deepEqual([cache.find(long), cache.find(root)], entries)
  assert.deepEqual(cache.name(entries[0]!), long.name)
})

test('name, type, class, DO, CD and upstream group each tell questions apart', () => {
  const cache = new TestCache({ bytes: MiB })
  const questions = [
    www,
    { name: nameOf('wwv.example.com') },
    { ...www, type: TYPE_AAAA },
    { ...www, class: 3 },
    { ...www, keyFlags: KEY_DO },
    { ...www, keyFlags: KEY_CD },
    { ...www, keyFlags: KEY_DO | KEY_CD },
    { ...www, group: 1 },
    { ...www, group: 65535 },
  ]
  const seen = new Set<number>()
  for (const question of questions) {
    assert.equal(cache.find(question), NO_ENTRY)
    seen.add(cache.insert(question, { message: messageOf(seen.size, 50) }))
  }
  assert.equal(seen.size, questions.length)
  questions.forEach((question, index) => {
    assert.deepEqual(cache.message(cache.find(question)), messageOf(index, 50))
  })
})

// CVE-2021-25220: what the servers of one zone say must not answer for names of another.
test('an answer from one upstream group is not found for another', () => {
  const cache = new TestCache({ bytes: MiB })
  cache.insert({ ...www, group: 2 })
  assert.equal(cache.find({ ...www, group: 0 }), NO_ENTRY)
})

// CVE-2024-0874: an answer fetched with CD is not validated.
test('an answer fetched with CD is not found without CD', () => {
  const cache = new TestCache({ bytes: MiB })
  cache.insert({ ...www, keyFlags: KEY_CD })
  assert.equal(cache.find(www), NO_ENTRY)
})

test('names whose hashes are the same are told apart', () => {
  const cache = new TestCache({ bytes: MiB })
  const questions = Array.from({ length: 100 }, (_, index) => ({
    name: nameOf(`host-${index}.example.com`),
    hash: 0xffff_fffe,
  }))
  for (const [index, question] of questions.entries()) {
    cache.insert(question, { message: messageOf(index, 40) })
  }
  for (const [index, question] of questions.entries()) {
    assert.deepEqual(cache.message(cache.find(question)), messageOf(index, 40))
  }
  cache.cache.remove(cache.find(questions[50]!))
  assert.equal(cache.find(questions[50]!), NO_ENTRY)
  assert.equal(questions.filter((question) => cache.find(question) !== NO_ENTRY).length, 99)
})

test('a newer answer takes the place of the older one, in the same entry', () => {
  const cache = new TestCache({ bytes: MiB })
  const entry = cache.insert(www, { message: messageOf(1, 900), nowMs: 0 })
  const serial = cache.cache.serial(entry)
  const message = messageOf(2, 45)
  assert.equal(cache.insert(www, { message, kind: KIND_NXDOMAIN, nowMs: 500 }), entry)
  assert.notEqual(cache.cache.serial(entry), serial, 'whoever knew the old one can tell')
  assert.deepEqual(cache.message(entry), message)
  assert.equal(cache.cache.kind(entry), KIND_NXDOMAIN)
  assert.equal(cache.cache.storedAtMs(entry), 500)
  assert.equal(cache.cache.counters().entries, 1)
  assert.equal(cache.cache.counters().replaced, 1)
})

test('a longer answer for the very question at the eviction hand makes others give way', () => {
  const cache = new TestCache({ bytes: MiB })
  const question = (index: number): { name: Uint8Array } => ({
    name: nameOf(`host-${index}.example.com`),
  })
  let count = 0
  while (cache.cache.counters().evicted === 0) cache.insert(question(count++))
  const oldest = question(1)
  const entry = cache.insert(oldest, { message: messageOf(5, 60_000) })
  assert.notEqual(entry, NO_ENTRY)
  assert.equal(cache.find(oldest), entry)
  assert.ok(Buffer.from(cache.message(entry)).equals(messageOf(5, 60_000)))
  assert.equal(cache.find(question(2)), NO_ENTRY)
})

test('an answer that came before the stored one changes nothing', () => {
  const cache = new TestCache({ bytes: MiB })
  const entry = cache.insert(www, { message: messageOf(1, 50), nowMs: 2000 })
  assert.equal(cache.insert(www, { message: messageOf(2, 50), nowMs: 1999 }), entry)
  assert.deepEqual(cache.message(entry), messageOf(1, 50))
})

test('an answer with TTL 0 is not stored and takes the older one away', () => {
  const cache = new TestCache({ bytes: MiB })
  cache.insert(www)
  assert.equal(cache.insert(www, { ttlSeconds: 0, nowMs: 1 }), NO_ENTRY)
  assert.equal(cache.find(www), NO_ENTRY)
  assert.equal(cache.usedBlocks(), 0)
})

test('age and remaining TTL are whole seconds, and a fresh answer has at least one left', () => {
  const { cache, insert } = bound(new TestCache({ bytes: MiB }))
  const entry = insert(www, { ttlSeconds: 30, nowMs: 10_000.5 })
  assert.equal(cache.ageSeconds(entry, 10_000.5), 0)
  assert.equal(cache.ageSeconds(entry, 11_000.4), 0)
  assert.equal(cache.ageSeconds(entry, 11_000.5), 1)
  assert.equal(cache.remainingSeconds(entry, 40_000.4), 1)
  assert.equal(cache.freshness(entry, 40_000.4), FRESH)
  assert.equal(cache.remainingSeconds(entry, 40_000.5), 0)
  assert.equal(cache.freshness(entry, 40_000.5), DEAD)
  assert.equal(cache.ageSeconds(entry, 9_000), 0) // a clock reading from before: never negative
})

test('an expired answer is stale for the time of serveStale, then dead', () => {
  const { cache, insert } = bound(new TestCache({ bytes: MiB, serveStaleMs: 60_000 }))
  const entry = insert(www, { ttlSeconds: 30, nowMs: 0 })
  assert.equal(cache.freshness(entry, 29_999), FRESH)
  assert.equal(cache.freshness(entry, 30_000), STALE)
  assert.equal(cache.freshness(entry, 89_999), STALE)
  assert.equal(cache.freshness(entry, 90_000), DEAD)
  cache.setServeStale(0)
  assert.equal(cache.freshness(entry, 30_000), DEAD)
})

// CoreDNS #7956: a SERVFAIL in the cache hid the good answer that serve_stale would have given.
test('a failure does not take the place of a fresh answer, nor of a stale one', () => {
  for (const kind of [KIND_POSITIVE, KIND_NXDOMAIN, KIND_NODATA]) {
    const cache = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
    const entry = cache.insert(www, { message: messageOf(1, 70), kind, ttlSeconds: 30 })
    assert.equal(cache.fail(www, 10_000), entry)
    assert.equal(cache.fail(www, 40_000), entry)
    assert.equal(cache.cache.kind(entry), kind)
    assert.deepEqual(cache.message(entry), messageOf(1, 70))
    assert.equal(cache.cache.expiresAtMs(entry), 30_000)
  }
})

test('a failure takes the place of an answer that is dead', () => {
  const cache = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
  const entry = cache.insert(www, { ttlSeconds: 30 })
  assert.equal(cache.fail(www, 90_000), entry)
  assert.equal(cache.cache.kind(entry), KIND_ERROR)
  assert.equal(cache.cache.freshness(entry, 90_999), FRESH)
  assert.equal(cache.cache.freshness(entry, 91_000), DEAD)
})

test('an answer takes the place of a failure and ends the back-off', () => {
  const cache = new TestCache({ bytes: MiB })
  const entry = cache.fail(www, 0)
  cache.fail(www, 1000)
  assert.equal(cache.cache.failures(entry), 2)
  assert.equal(cache.insert(www, { nowMs: 3000 }), entry)
  assert.equal(cache.cache.kind(entry), KIND_POSITIVE)
  assert.equal(cache.cache.failures(entry), 0)
  assert.equal(cache.cache.mayRefresh(entry, 3000), true)
})

test('failures in a row are kept for 1, 2, 4 and then 5 seconds', () => {
  const { cache, fail } = bound(new TestCache({ bytes: MiB }))
  let nowMs = 0
  for (const seconds of [1, 2, 4, 5, 5]) {
    const entry = fail(www, nowMs)
    assert.equal(cache.ttlSeconds(entry), seconds)
    nowMs += seconds * 1000
    assert.equal(cache.freshness(entry, nowMs - 1), FRESH)
    assert.equal(cache.freshness(entry, nowMs), DEAD)
  }
})

test('a stale answer is not refreshed again until the back-off after a failure is over', () => {
  const { cache, insert, fail } = bound(new TestCache({ bytes: MiB, serveStaleMs: 3_600_000 }))
  const entry = insert(www, { ttlSeconds: 1 })
  assert.equal(cache.mayRefresh(entry, 2000), true)
  fail(www, 2000)
  assert.equal(cache.mayRefresh(entry, 2999), false)
  assert.equal(cache.mayRefresh(entry, 3000), true)
  fail(www, 3000)
  assert.equal(cache.mayRefresh(entry, 4999), false)
  assert.equal(cache.mayRefresh(entry, 5000), true)
  insert(www, { nowMs: 4000 })
  assert.equal(cache.mayRefresh(entry, 4000), true)
})

test('that nobody answered is a failure like others, without a message', () => {
  for (const kind of [KIND_TIMEOUT, KIND_UNREACHABLE]) {
    const test = new TestCache({ bytes: MiB, serveStaleMs: 3_600_000 })
    const entry = test.fail(www, 0, new Uint8Array(0), kind)
    assert.equal(test.cache.kind(entry), kind)
    assert.equal(test.cache.isFailure(entry), true)
    assert.equal(test.message(entry).length, 0)
    assert.equal(test.cache.freshness(entry, 999), FRESH)
    assert.equal(test.cache.freshness(entry, 1000), DEAD)
    assert.equal(test.fail(www, 1000, messageOf(1, 40)), entry)
    assert.equal(test.cache.ttlSeconds(entry), 2)
    assert.equal(test.insert(www, { nowMs: 1500 }), entry)
    assert.equal(test.fail(www, 2000, new Uint8Array(0), kind), entry)
    assert.equal(test.cache.kind(entry), KIND_POSITIVE)
  }
})

test('a refresh that is put off is put off until then, but a back-off that is longer stays', () => {
  const { cache, insert, fail } = bound(new TestCache({ bytes: MiB, serveStaleMs: 3_600_000 }))
  const entry = insert(www, { ttlSeconds: 10, nowMs: 500 })
  cache.postponeRefresh(entry, 9500)
  assert.equal(cache.mayRefresh(entry, 9499), false)
  assert.equal(cache.mayRefresh(entry, 9500), true)
  fail(www, 9500)
  cache.postponeRefresh(entry, 10_000)
  assert.equal(cache.mayRefresh(entry, 10_499), false)
  assert.equal(cache.mayRefresh(entry, 10_500), true)
})

test('an answer is due for prefetching in the last tenth of its TTL, unless that just failed', () => {
  const { cache, insert, fail } = bound(new TestCache({ bytes: MiB }))
  const entry = insert(www, { ttlSeconds: 30, nowMs: 500 })
  assert.equal(cache.isPrefetchDue(entry, 27_499), false)
  assert.equal(cache.isPrefetchDue(entry, 27_500), true)
  fail(www, 27_500)
  assert.equal(cache.isPrefetchDue(entry, 28_499), false)
  assert.equal(cache.isPrefetchDue(entry, 28_500), true)
})

test('a failure is forgotten ten seconds after its end, and the next one begins at 1 s', () => {
  const { cache, fail, find } = bound(new TestCache({ bytes: MiB }))
  fail(www, 0)
  assert.equal(cache.sweep(10_999, 10_000), 0)
  assert.equal(cache.sweep(11_000, 10_000), 1)
  assert.equal(find(www), NO_ENTRY)
  assert.equal(cache.ttlSeconds(fail(www, 11_000)), 1)
})

test('a sweep frees what is dead, keeps what is stale, and goes on where it stopped', () => {
  const { cache, insert } = bound(new TestCache({ bytes: MiB, serveStaleMs: 10_000 }))
  for (let index = 0; index < 300; index++) {
    insert({ name: nameOf(`host-${index}.example.com`) }, { ttlSeconds: index < 200 ? 1 : 5 })
  }
  assert.equal(cache.sweep(10_999, 100_000), 0)
  const steps: number[] = []
  for (let freed = 0; freed < 200; freed += steps.at(-1)!) steps.push(cache.sweep(11_000, 20))
  assert.ok(Math.max(...steps) <= 25, `a step freed ${Math.max(...steps)} entries`)
  assert.ok(steps.length > 8)
  assert.equal(cache.counters().entries, 100)
  assert.equal(cache.counters().expired, 200)
})

test('storing an answer frees the dead ones that lie in the same bucket', () => {
  const { cache, insert } = bound(new TestCache({ bytes: MiB }))
  insert({ name: nameOf('old.example.com'), hash: 5 }, { ttlSeconds: 1 })
  insert({ name: nameOf('new.example.com'), hash: 5 }, { nowMs: 1000 })
  assert.equal(cache.counters().entries, 1)
})

test('an NXDOMAIN is about its name, whatever type was asked for', () => {
  const cache = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
  const find = (asked: object, nowMs = 0): number =>
    cache.cache.findNxdomain(questionOf({ ...www, ...asked }), nowMs)
  assert.equal(find({}), NO_ENTRY)
  const denial = cache.insert(www, { kind: KIND_NXDOMAIN, ttlSeconds: 30 })
  assert.equal(find({ type: TYPE_AAAA }), denial)
  for (const other of [{ class: 3 }, { keyFlags: KEY_CD }, { group: 1 }, { name: nameOf('com') }]) {
    assert.equal(find(other), NO_ENTRY, JSON.stringify(other))
  }
  assert.equal(find({}, 30_000), NO_ENTRY, 'a stale one says nothing')
  cache.fail({ ...www, type: 16 }, 0)
  assert.equal(find({}), denial, 'nor does a failure')
})

test('a name that has any other fresh answer exists, whatever an NXDOMAIN for another type says', () => {
  for (const kind of [KIND_POSITIVE, KIND_NODATA]) {
    const cache = new TestCache({ bytes: MiB, serveStaleMs: 60_000 })
    cache.insert({ ...www, type: 16 }, { kind: KIND_NXDOMAIN, ttlSeconds: 60 })
    cache.insert(www, { kind, ttlSeconds: 30 })
    const denial = cache.insert({ ...www, type: TYPE_AAAA }, { kind: KIND_NXDOMAIN })
    assert.equal(cache.cache.findNxdomain(questionOf(www), 29_999), EXISTS)
    const found = cache.cache.findNxdomain(questionOf(www), 30_000)
    assert(found === denial || cache.cache.type(found) === 16)
  }
})

test('clearing a name forgets all of its types and groups, and no other name', () => {
  const test = new TestCache({ bytes: MiB })
  const other = { name: nameOf('ww.example.com'), hash: questionOf(www).hash }
  test.insert(www)
  test.insert({ ...www, type: TYPE_AAAA })
  test.insert({ ...www, group: 9 })
  test.insert(other)
  assert.equal(test.cache.clearName(www.name, 0, www.name.length, questionOf(www).hash), 3)
  assert.equal(test.find(www), NO_ENTRY)
  assert.notEqual(test.find(other), NO_ENTRY)
})

test('clearing everything leaves an empty cache that can be filled again', () => {
  const test = new TestCache({ bytes: MiB })
  for (let round = 0; round < 2; round++) {
    for (let index = 0; index < 8000; index++) {
      test.insert({ name: nameOf(`host-${index}.example.com`) })
    }
    test.cache.clear()
    assert.deepEqual(test.entries(), [])
    assert.equal(test.usedBlocks(), 0)
  }
  assert.deepEqual(test.message(test.insert(www, { message: messageOf(3, 99) })), messageOf(3, 99))
})

test('a list shows every entry once, in calls that are bounded', () => {
  const test = new TestCache({ bytes: MiB })
  const entries = Array.from({ length: 500 }, (_, index) =>
    test.insert({ name: nameOf(`host-${index}.example.com`) }),
  )
  assert.deepEqual(
    test.entries().sort((a, b) => a - b),
    entries.sort((a, b) => a - b),
  )
})

test('a list goes on when entries are dropped between its calls', () => {
  const test = new TestCache({ bytes: MiB })
  for (let index = 0; index < 500; index++) {
    test.insert({ name: nameOf(`host-${index}.example.com`) })
  }
  const into = new Int32Array(64)
  let count = 0
  for (let cursor = 0; cursor !== -1; ) {
    cursor = test.cache.list(cursor, into)
    count += test.cache.listed
    for (let index = 0; index < test.cache.listed; index++) test.cache.remove(into[index]!)
  }
  assert.equal(count, 500)
  assert.equal(test.usedBlocks(), 0)
})

const stored = messageOf(1, 120)
const answer = { message: stored, ttls: [40, 60], addresses: [[46, 4] as const] }

allocatesNothing('a hit allocates nothing: find, age, copy, offsets', () => {
  const { cache } = filled()
  const question = questionOf(www)
  const names = [www.name, Uint8Array.from(www.name), Uint8Array.from(www.name)]
  const out = new Uint8Array(512)
  const into = new Uint16Array(16)
  const families = new Uint8Array(16)
  const nowMs = 1234.5
  return (call) => {
    question.name = names[call % 3]! // a query's, a flight's, the peer's
    const entry = cache.find(question)
    const sum = cache.freshness(entry, nowMs) + cache.ageSeconds(entry, nowMs)
    return (
      sum +
      cache.copyMessage(entry, out, call & 31) +
      cache.ttlOffsets(entry, into) +
      cache.addresses(entry, into, families) +
      cache.kind(entry) +
      cache.remainingSeconds(entry, nowMs)
    )
  }
})

allocatesNothing('a miss, an insertion with eviction and a sweep allocate nothing', () => {
  const { cache } = filled()
  const name = nameOf('host-0000.example.com')
  const question = questionOf({ name })
  const meta = metaOf(answer)
  const nowMs = 50.5
  return (call) => {
    for (let digit = 0, left = call % 10_000; digit < 4; digit++) {
      name[9 - digit] = 48 + (left % 10)
      left = (left / 10) | 0
    }
    question.hash = (call % 10_000) * 7919
    const found = cache.find(question)
    const entry = cache.insert(question, stored, 0, stored.length, meta, 60, nowMs)
    return found + entry + cache.sweep(nowMs, 4)
  }
})

test('answers of a group whose number becomes another’s are never given again, nor listed', () => {
  const { cache, find, insert, fail } = bound(
    new TestCache({ bytes: MiB, serveStaleMs: 86_400_000 }),
  )
  const own = { ...www, group: 7 }
  const failed = { name: nameOf('broken.example.com'), group: 7 }
  const other = { ...www, group: 8 }
  insert(own, { ttlSeconds: 3600, nowMs: 100 })
  insert(other, { nowMs: 100 })
  fail(failed, 199)
  const gone = questionOf({ name: nameOf('gone.example.com'), group: 7 })
  insert({ name: nameOf('gone.example.com'), group: 7 }, { kind: KIND_NXDOMAIN, nowMs: 100 })
  assert.notEqual(cache.findNxdomain(gone, 150), NO_ENTRY)
  cache.forgetGroup(7, 200)
  assert.equal(cache.findNxdomain(gone, 200), NO_ENTRY)
  assert.equal(find(own), NO_ENTRY)
  assert.equal(find(failed), NO_ENTRY)
  assert.notEqual(find(other), NO_ENTRY)
  const into = new Int32Array(64)
  const listed: number[] = []
  for (let cursor = 0; cursor >= 0; ) {
    cursor = cache.list(cursor, into)
    listed.push(...into.subarray(0, cache.listed))
  }
  assert.deepEqual(listed, [find(other)])

  // The next server with that number: its answers are its own, and it has not failed before.
  const entry = insert(own, { message: messageOf(9, 60), nowMs: 200 })
  assert.equal(find(own), entry)
  assert.equal(cache.failures(fail(failed, 200)), 1)
  assert.equal(cache.counters().entries, 4, 'one of them waits to be swept')
})

test('what a forgotten group leaves behind is swept like all that is dead', () => {
  const { cache, insert } = bound(new TestCache({ bytes: MiB }))
  for (let index = 0; index < 500; index++) {
    insert({ name: nameOf(`host-${index}.example.com`), group: 7 }, { nowMs: 100 })
  }
  const empty = new TestCache({ bytes: MiB }).cache.counters().bytesUsed
  cache.forgetGroup(7, 200)
  for (let step = 0; step < 100; step++) cache.sweep(200, 64)
  assert.equal(cache.counters().entries, 0)
  assert.equal(cache.counters().bytesUsed, empty)
})

allocatesNothing('a failure on a cached answer allocates nothing', () => {
  const { cache } = filled()
  const question = questionOf(www)
  const nowMs = 99.5
  return () => cache.insertFailure(question, KIND_ERROR, stored, 0, stored.length, nowMs)
})

function filled(): TestCache {
  const cache = new TestCache({ bytes: MiB, serveStaleMs: 1000 })
  for (let index = 0; index < 3000; index++) {
    cache.insert({ name: nameOf(`host-${index}.example.com`) }, answer)
  }
  cache.insert(www, answer)
  return cache
}

/** The test cache's calls as functions, so that a story reads without its name in every line. */
function bound(test: TestCache): {
  cache: TestCache['cache']
  find: TestCache['find']
  insert: TestCache['insert']
  fail: TestCache['fail']
} {
  return {
    cache: test.cache,
    find: test.find.bind(test),
    insert: test.insert.bind(test),
    fail: test.fail.bind(test),
  }
}
