/**
 * The cache against a model that does the same with a Map and an array: random stories of
 * questions, answers, failures, time, sweeps and reloads, in a cache so small that it must evict.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { KIND_ERROR, KIND_NXDOMAIN } from '../wire/answer.ts'
import {
  blocksOf,
  bucketCountOf,
  messageOf,
  nameOf,
  questionOf,
  TestCache,
} from './cache-fixture.ts'
import { EXISTS, NO_ENTRY } from './cache.ts'
import { FRESH } from './freshness.ts'

const BYTES = 1 << 20

interface Stored {
  readonly key: string
  readonly hash: number
  readonly name: string
  message: Uint8Array
  ttls: number[]
  addresses: [number, number][]
  kind: number
  storedMs: number
  ttlSeconds: number
  failures: number
  retryMs: number
  isVisited: boolean
}

interface Question {
  readonly label: number
  readonly type: number
  readonly hash: number
}

/** Newest first; a hand; the same bounds. No blocks, no chains, no words. */
class Model {
  queue: Stored[] = []
  hand: Stored | null = null
  staleMs: number
  readonly #blocksMax: number
  readonly #buckets: number

  constructor(bytes: number, staleMs: number) {
    this.staleMs = staleMs
    this.#buckets = bucketCountOf(bytes)
    this.#blocksMax = Math.floor((bytes - this.#buckets * 4) / 64) - 1
  }

  get(question: Question): Stored | undefined {
    return this.queue.find((stored) => stored.key === keyText(question))
  }

  /** What fresh answers say of the name: the NXDOMAINs among them, or null when it exists. */
  denials(question: Question, nowMs: number): Stored[] | null {
    const fresh = this.queue.filter(
      ({ name, kind, storedMs, ttlSeconds }) =>
        name === nameText(question) && kind !== KIND_ERROR && nowMs < storedMs + ttlSeconds * 1000,
    )
    return fresh.every(({ kind }) => kind === KIND_NXDOMAIN) ? fresh : null
  }

  insert(question: Question, answer: Omit<Stored, 'key' | 'hash' | 'name' | 'isVisited'>): void {
    const nowMs = answer.storedMs
    const old = this.get(question)
    for (const stored of [...this.queue]) {
      const isSameBucket = (stored.hash - question.hash) % this.#buckets === 0
      if (isSameBucket && stored !== old && this.isDead(stored, nowMs)) this.drop(stored)
    }
    if (old !== undefined && old.storedMs > nowMs) return
    const isFailure = answer.kind === KIND_ERROR
    const failures = isFailure ? (old?.failures ?? 0) + 1 : 0
    if (isFailure && old !== undefined && old.kind !== KIND_ERROR && !this.isDead(old, nowMs)) {
      old.failures = failures
      old.retryMs = nowMs + answer.ttlSeconds * 1000
      return
    }
    const fresh: Stored = {
      ...answer,
      failures,
      key: keyText(question),
      hash: question.hash,
      name: nameText(question),
      isVisited: false,
    }
    const needed = blocks(fresh)
    const kept = old === undefined ? 0 : 1
    const others = (): number =>
      this.queue.reduce((sum, stored) => sum + (stored === old ? 0 : blocks(stored)), 0)
    while (answer.ttlSeconds > 0 && this.#blocksMax - others() - kept < needed - kept) {
      this.evict(nowMs, old)
    }
    if (answer.ttlSeconds === 0) {
      if (old !== undefined) this.drop(old)
    } else if (old === undefined) this.queue.unshift(fresh)
    else Object.assign(old, { ...fresh, isVisited: old.isVisited })
  }

  /** One step of the hand. */
  evict(nowMs: number, keep: Stored | undefined): void {
    const victim = this.hand ?? this.queue.at(-1)!
    this.hand = victim
    const isKept = victim === keep || (victim.isVisited && !this.isDead(victim, nowMs))
    if (isKept) {
      victim.isVisited = false
      this.hand = this.newer(victim)
    } else this.drop(victim)
  }

  drop(stored: Stored): void {
    if (this.hand === stored) this.hand = this.newer(stored)
    this.queue.splice(this.queue.indexOf(stored), 1)
  }

  newer(stored: Stored): Stored | null {
    return this.queue[this.queue.indexOf(stored) - 1] ?? null
  }

  isDead(stored: Stored, nowMs: number): boolean {
    const afterMs = stored.kind === KIND_ERROR ? 10_000 : this.staleMs
    return nowMs >= stored.storedMs + stored.ttlSeconds * 1000 + afterMs
  }
}

function blocks(stored: Stored): number {
  const { name, ttls, addresses, message } = stored
  return blocksOf(name.length + 2, ttls.length, addresses.length, message.length)
}

function nameText(question: Question): string {
  return `${'x'.repeat(question.label)}.example.com`
}

function keyText(question: Question): string {
  return `${nameText(question)} ${question.type}`
}

const question = fc.record({
  label: fc.integer({ min: 1, max: 30 }),
  type: fc.constantFrom(1, 28),
})
const answer = fc.record({
  // Most messages are short; the long ones make sure that there is something to evict.
  bytes: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 60_000, max: 65_535 })),
  salt: fc.nat(1000),
  ttls: fc.array(fc.nat(65_535), { maxLength: 40 }),
  addresses: fc.array(fc.tuple(fc.nat(65_535), fc.constantFrom(4, 6)), { maxLength: 40 }),
  kind: fc.integer({ min: 1, max: 3 }),
  ttlSeconds: fc.constantFrom(0, 5, 30, 300, 300, 300, 300, 300),
  lateMs: fc.constantFrom(0, 0, 0, 5000),
})
const step = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('insert' as const), question, answer }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('find' as const), question }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('find nxdomain' as const), question }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), question }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), question }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.nat(5000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('sweep' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reload' as const), ms: fc.nat(20_000) }) },
)

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

test('the cache does what a model with a Map and an array does', () => {
  let evicted = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 150, maxLength: 300, size: 'max' }), (steps) => {
      evicted += play(steps)
    }),
    { numRuns: 20 },
  )
  assert.ok(evicted > 150, `the stories evicted only ${evicted} entries`)
})

function play(steps: readonly Step[]): number {
  const cache = new TestCache({ bytes: BYTES, serveStaleMs: 5000 })
  const model = new Model(BYTES, 5000)
  let nowMs = 1_000_000
  for (const action of steps) {
    if (action.do === 'pass') nowMs += action.ms
    else if (action.do === 'sweep') {
      cache.cache.sweep(nowMs, 1_000_000)
      for (const stored of [...model.queue]) if (model.isDead(stored, nowMs)) model.drop(stored)
    } else if (action.do === 'reload') {
      cache.cache.setServeStale(action.ms)
      model.staleMs = action.ms
    } else askStep(cache, model, action, nowMs)
    compareKeys(cache, model)
  }
  compareAll(cache, model, nowMs)
  return cache.cache.counters().evicted
}

function askStep(
  cache: TestCache,
  model: Model,
  action: Extract<Step, { question: unknown }>,
  nowMs: number,
): void {
  // Three buckets, and hashes that differ within one: lists in buckets are long here.
  const asked: Question = {
    ...action.question,
    hash: (action.question.label % 6) * 4096 - (action.question.label % 2),
  }
  const key = { name: nameOf(nameText(asked)), type: asked.type, hash: asked.hash }
  const stored = model.get(asked)
  if (action.do === 'find') {
    assert.equal(cache.find(key) !== NO_ENTRY, stored !== undefined)
    if (stored !== undefined) stored.isVisited = true
  } else if (action.do === 'find nxdomain') {
    const denials = model.denials(asked, nowMs)
    const entry = cache.cache.findNxdomain(questionOf(key), nowMs)
    if (denials === null || denials.length === 0) {
      assert.equal(entry, denials === null ? EXISTS : NO_ENTRY)
    } else {
      const found = denials.find((denial) => denial.key === keyOfEntry(cache, entry))
      assert.ok(found !== undefined)
      found.isVisited = true
    }
  } else if (action.do === 'remove') {
    const entry = cache.find(key)
    if (entry !== NO_ENTRY) cache.cache.remove(entry)
    if (stored !== undefined) model.drop(stored)
  } else if (action.do === 'fail') {
    const message = messageOf(asked.label, 33)
    const ttlSeconds = [1, 2, 4, 5][Math.min(stored?.failures ?? 0, 3)]!
    cache.fail(key, nowMs, message)
    model.insert(asked, {
      message,
      ttls: [],
      addresses: [],
      kind: KIND_ERROR,
      storedMs: nowMs,
      ttlSeconds,
      failures: 0,
      retryMs: 0,
    })
  } else {
    const { salt, bytes, lateMs, ...rest } = action.answer
    const message = messageOf(salt, bytes)
    const storedMs = nowMs - lateMs
    cache.insert(key, { ...rest, message, nowMs: storedMs })
    model.insert(asked, { ...rest, message, storedMs, failures: 0, retryMs: 0 })
  }
}

/** What must hold after each step; whether the bytes are intact is looked at once, at the end. */
function compareKeys(cache: TestCache, model: Model): void {
  const keys = cache.entries().map((entry) => keyOfEntry(cache, entry))
  assert.deepEqual(keys.sort(), model.queue.map((stored) => stored.key).sort())
  assert.equal(cache.cache.counters().entries, model.queue.length)
  // No block is lost, none is used twice: what entries hold is what is not free.
  assert.equal(
    cache.usedBlocks(),
    model.queue.reduce((sum, stored) => sum + blocks(stored), 0),
  )
}

function compareAll(cache: TestCache, model: Model, nowMs: number): void {
  const { cache: real } = cache
  for (const entry of cache.entries()) {
    const stored = model.queue.find(({ key }) => key === keyOfEntry(cache, entry))
    assert.ok(stored !== undefined)
    assert.deepEqual(
      [real.kind(entry), real.failures(entry), real.storedAtMs(entry), real.ttlSeconds(entry)],
      [stored.kind, stored.failures, stored.storedMs, stored.ttlSeconds],
    )
    assert.equal(real.mayRefresh(entry, nowMs), nowMs >= stored.retryMs)
    assert.equal(
      real.freshness(entry, nowMs) === FRESH,
      nowMs < stored.storedMs + stored.ttlSeconds * 1000,
    )
    assert.ok(Buffer.from(cache.message(entry)).equals(stored.message), 'the message is intact')
    assert.deepEqual(cache.ttls(entry), stored.ttls)
    assert.deepEqual(cache.addresses(entry), stored.addresses)
  }
}

function keyOfEntry(cache: TestCache, entry: number): string {
  const text = Buffer.from(cache.name(entry)).toString('latin1')
  const label = text.slice(1, 1 + text.charCodeAt(0))
  return `${label}.example.com ${cache.cache.type(entry)}`
}
