/**
 * A flood of names that are asked for once, as a pod under attack or a scanner makes them. What
 * clusters run today grows, or throws useful entries away at random.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { run } from '../../test/support/process.ts'
import { messageOf, nameOf, TestCache } from './cache-fixture.ts'
import { NO_ENTRY } from './cache.ts'

const MiB = 1 << 20

test('a flood of a million names stays within the budget and leaves the popular names', () => {
  const bytes = 16 * MiB
  const test = new TestCache({ bytes })
  const popular = Array.from({ length: 500 }, (_, index) => ({
    name: nameOf(`popular-${index}.example.com`),
  }))
  const message = messageOf(1, 90)
  for (const question of popular) test.insert(question, { message, ttls: [40, 60] })
  const name = nameOf('flood-000000.example.net')
  for (let index = 0; index < 1_000_000; index++) {
    let left = index
    for (let digit = 12; digit > 6; digit--) {
      name[digit] = 48 + (left % 10)
      left = Math.floor(left / 10)
    }
    const hash = Math.imul(index, 0x9e3779b1)
    test.insert({ name, hash }, { message })
    if (index % 50 === 0) test.find(popular[(index / 50) % popular.length]!)
  }
  const { bytesUsed, bytesMax, entries, evicted, refused } = test.cache.counters()
  assert.ok(bytesMax <= bytes)
  assert.ok(bytesUsed <= bytesMax)
  assert.ok(entries > 80_000, `${entries} entries`)
  assert.equal(entries + evicted, 1_000_000 + popular.length)
  assert.equal(refused, 0)
  const kept = popular.filter((question) => test.find(question) !== NO_ENTRY).length
  assert.equal(kept, popular.length)
})

test('an insertion does not wait for the hand to go round: it gives up after a bound', () => {
  const test = new TestCache({ bytes: 8 * MiB })
  const questions: { name: Uint8Array }[] = []
  while (test.cache.counters().evicted === 0) {
    const question = { name: nameOf(`host-${questions.length}.example.com`) }
    questions.push(question)
    test.insert(question)
  }
  for (const question of questions) test.find(question)
  const before = test.cache.counters()
  assert.ok(before.entries > 20_000)
  let tries = 0
  for (let entry = NO_ENTRY; entry === NO_ENTRY; tries++) {
    entry = test.insert({ name: nameOf('late.example.com') })
  }
  // The hand meets 1024 entries in a try: it takes as many tries as the cache has thousands.
  assert.ok(Math.abs(tries - before.entries / 1024) < 2, `${tries} tries`)
  assert.equal(test.cache.counters().refused, tries - 1)
})

test('memory that is not needed yet is not taken from the node', async () => {
  const program = `
    import { AnswerCache } from ${JSON.stringify(new URL('cache.ts', import.meta.url).href)}
    import { TestCache, nameOf } from ${JSON.stringify(new URL('cache-fixture.ts', import.meta.url).href)}
    new TestCache({ bytes: ${MiB} }).insert({ name: nameOf('warm.example.com') })
    const before = process.memoryUsage.rss()
    const cache = new TestCache({ bytes: ${512 * MiB} })
    for (let index = 0; index < 100; index++) {
      cache.insert({ name: nameOf('host-' + index + '.example.com') })
      cache.cache.sweep(0, 100)
    }
    console.log((process.memoryUsage.rss() - before) / ${MiB})`
  const { stdout, stderr, code } = await run(process.execPath, [
    '--input-type=module',
    '-e',
    program,
  ])
  assert.equal(code, 0, stderr)
  assert.ok(Number(stdout) < 16, `512 MiB for 100 answers took ${stdout.trim()} MiB`)
})
