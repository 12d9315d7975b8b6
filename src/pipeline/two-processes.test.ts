/**
 * Two processes side by side, each with its own cache, reading the same clients' queries: what one
 * learns it tells the other, so that the upstream is asked hardly more often than by one alone.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../test/support/clock.ts'
import { policyTable } from '../../test/support/policy-table.ts'
import { AnswerCache } from '../cache/cache.ts'
import {
  isLearned,
  LEARNED_NAME,
  LearnedCodec,
  learnedGroupId,
  learnedNameBytes,
} from '../cache/learned.ts'
import { RECORD_LEARNED } from '../flow/record.ts'
import { RingReader, ringBytes, RingWriter } from '../flow/ring.ts'
import { GrantTable } from '../grant/table.ts'
import type { FlightQuestion, Transport } from '../upstream/transport.ts'
import { ANSWER_OK, Answer, parseAnswer } from '../wire/answer.ts'
import { FLAG_QR, FLAG_RD } from '../wire/header.ts'
import { buildMessage } from '../wire/message.ts'
import { hashName } from '../wire/name.ts'
import { formatName } from '../wire/text.ts'
import { COUNTER_COUNT, Counters } from './counters.ts'
import { Pipeline } from './pipeline.ts'

const GROUP_ID = 77
const TTL_SECONDS = 30
/** To the upstream and back, if nothing else is said. */
const ROUND_TRIP_MS = 2
/** From one worker to the other: two rings, two main threads, a socket. */
const TELLING_MS = 3

class Process implements Transport {
  asked = 0
  /** Hands on a learned answer. */
  tell: (record: Uint8Array) => void = () => {}
  readonly #clock: VirtualClock
  readonly #pipeline: Pipeline
  readonly #learned: LearnedCodec
  readonly #records: RingReader
  readonly #writer: RingWriter
  readonly #seed: number
  readonly #roundTripMs: number

  constructor(clock: VirtualClock, prefetch: boolean, seed: number, roundTripMs = ROUND_TRIP_MS) {
    this.#clock = clock
    this.#roundTripMs = roundTripMs
    this.#seed = seed
    const cache = new AnswerCache({ bytes: 1 << 20 })
    const ring = new Int32Array(ringBytes(1 << 14) / 4)
    const bytes = new Uint8Array(4096)
    const view = new DataView(bytes.buffer)
    this.#learned = new LearnedCodec(cache, 0)
    this.#records = new RingReader(ring)
    this.#writer = new RingWriter(ring)
    this.#pipeline = new Pipeline(
      {
        cache,
        learned: this.#learned,
        replies: { bytes, view, at: 0, limit: bytes.length, open: () => true, send() {} },
        transport: this,
        grantWriter: null,
        grants: new GrantTable(16),
        records: this.#writer,
        counters: new Counters(new Int32Array(COUNTER_COUNT)),
      },
      policyTable('[]'),
      {
        slotsMax: 64,
        flightsMax: 64,
        maxTtlSeconds: 3600,
        minTtlSeconds: 0,
        maxNegativeTtlSeconds: 30,
        prefetch,
        nothingBelowNxdomain: false,
        rotate: true,
        queriesPerSecond: 0,
        grantsMax: 8192,
        nameSeed: seed,
      },
    )
    this.#pipeline.hasPeer = true
  }

  take(query: Uint8Array): void {
    this.#pipeline.take(query, 0, query.length, this.#clock.nowMs)
    this.#drain()
  }

  learn(record: Uint8Array): void {
    assert(isLearned(record, 0, record.length))
    assert.equal(learnedGroupId(record, 0), GROUP_ID)
    const hash = hashName(record, LEARNED_NAME, learnedNameBytes(record, 0), this.#seed)
    this.#learned.insert(record, 0, hash, 0, this.#clock.nowMs)
  }

  ask(flight: number, _group: number, { name, nameAt, nameBytes }: FlightQuestion): void {
    this.asked++
    const text = formatName(name.slice(nameAt, nameAt + nameBytes))
    this.#clock.after(this.#roundTripMs, () => {
      const question = `${text} A`
      const query = buildMessage({ id: 1, flags: FLAG_RD, question })
      const answers = [`${text} ${TTL_SECONDS} A 192.0.2.10`]
      const bytes = buildMessage({ id: 1, flags: FLAG_QR, question, answers })
      const answer = new Answer()
      const questionBytes = query.length - 12
      assert.equal(parseAnswer(bytes, 0, bytes.length, query, 12, questionBytes, answer), ANSWER_OK)
      this.#pipeline.arrived(flight, bytes, 0, answer, this.#clock.nowMs)
      this.#drain()
    })
  }

  route(): number {
    return 0
  }

  isReturned(): boolean {
    return false
  }

  readonly relayRoom = 0

  relay(): boolean {
    return false
  }

  groupId(): number {
    return GROUP_ID
  }

  groupOfId(): number {
    return 0
  }

  #drain(): void {
    this.#writer.publish()
    while (this.#records.next()) {
      const { kind, bytes, bodyAt, bodyBytes } = this.#records
      if (kind === RECORD_LEARNED) this.tell(bytes.slice(bodyAt, bodyAt + bodyBytes))
      this.#records.release()
    }
  }
}

/** Processes side by side, each of which tells the others what it learns. */
function sideBySide(
  count: number,
  clock: VirtualClock,
  prefetch: boolean,
  roundTripMs = ROUND_TRIP_MS,
): Process[] {
  const processes = Array.from(
    { length: count },
    (_, index) => new Process(clock, prefetch, 0x5eed + index, roundTripMs),
  )
  for (const from of processes) {
    from.tell = (record) => {
      for (const to of processes) {
        if (to !== from) clock.after(TELLING_MS, () => to.learn(record))
      }
    }
  }
  return processes
}

function askedOf(processes: readonly Process[]): number {
  return processes.reduce((sum, { asked }) => sum + asked, 0)
}

/** The same clients in every run, whatever reads their queries: numbers from 0 to below 1. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function queryFor(name: string): Uint8Array {
  return buildMessage({ id: 1, flags: FLAG_RD, question: `${name}.example.com. A` })
}

/**
 * How often the upstream is asked in ten minutes.
 * @param isMixed  not only two names that are asked for every 2 and every 20 ms, but forty others now
 *   and then, as it is on a node
 */
function askedBy(count: number, prefetch: boolean, isMixed: boolean): number {
  const clock = new VirtualClock(1000)
  const processes = sideBySide(count, clock, prefetch)
  const queries = Array.from({ length: 42 }, (_, index) => queryFor(`name-${index}`))
  const random = randomFrom(1)
  const draw = (below: number): number => Math.floor(random() * below)
  const send = (index: number): void => processes[draw(2) % count]!.take(queries[index]!)
  for (let ms = 0; ms < 600_000; ms += 2) {
    send(0)
    if (ms % 20 === 0) send(1)
    if (isMixed && ms % 100 === 0) send(2 + draw(40))
    clock.advance(2)
  }
  return askedOf(processes)
}

for (const isMixed of [false, true]) {
  const names = isMixed ? 'popular and other names' : 'popular names'
  test(`two processes that prefetch ask at most 1.1 times as often as one: ${names}`, () => {
    const one = askedBy(1, true, isMixed)
    const two = askedBy(2, true, isMixed)
    assert(two <= one * 1.1, `one asked ${one} times, two ${two}`)
  })
}

test('two processes ask at most 1.1 times as often as one for what clients ask on a node', () => {
  const one = askedBy(1, false, true)
  const two = askedBy(2, false, true)
  assert(two <= one * 1.1, `one asked ${one} times, two ${two}`)
})

/** How often the upstream is asked in ten minutes for one name that is asked for at random moments. */
function askedForOne(count: number, everyMs: number, roundTripMs: number): number {
  const clock = new VirtualClock(1000)
  const processes = sideBySide(count, clock, false, roundTripMs)
  const query = queryFor('hot')
  const random = randomFrom(1)
  for (let ms = 0; ms < 600_000; ) {
    const waitMs = -Math.log(1 - random()) * everyMs
    clock.advance(waitMs)
    ms += waitMs
    processes[random() < 0.5 ? 0 : count - 1]!.take(query)
  }
  return askedOf(processes)
}

for (const roundTripMs of [2, 20]) {
  for (const everyMs of [5, 20, 50, 200]) {
    test(`two processes ask at most 1.1 times as often as one for a name that is wanted every ${everyMs} ms, ${roundTripMs} ms away`, () => {
      const one = askedForOne(1, everyMs, roundTripMs)
      const two = askedForOne(2, everyMs, roundTripMs)
      assert(two <= one * 1.1, `one asked ${one} times, two ${two}`)
    })
  }
}

test('a name that one process has an answer to is new to neither', () => {
  const clock = new VirtualClock(1000)
  const processes = sideBySide(2, clock, false)
  const random = randomFrom(1)
  for (let index = 0; index < 500; index++) {
    const query = queryFor(`cold-${index}`)
    for (let time = 0; time < 3; time++) {
      processes[random() < 0.5 ? 0 : 1]!.take(query)
      clock.advance(ROUND_TRIP_MS + TELLING_MS)
    }
  }
  assert.equal(askedOf(processes), 500)
})

test('a process whose peer is gone asks itself, 0.2 s after the end of what the peer had told it', () => {
  const clock = new VirtualClock(1000)
  const [one, two] = sideBySide(2, clock, false)
  const query = queryFor('hot')
  one!.take(query)
  clock.advance(ROUND_TRIP_MS + TELLING_MS)
  clock.advance(TTL_SECONDS * 1000 - TELLING_MS + 199)
  two!.take(query)
  assert.equal(two!.asked, 0)
  clock.advance(1)
  two!.take(query)
  assert.equal(two!.asked, 1)
})
