/**
 * Two processes side by side, each with its own cache, reading the same clients' queries: what one
 * learns it tells the other, so that the upstream is asked hardly more often than by one alone.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../test/support/clock.ts'
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
import { compileSnapshot } from '../policy/compile.ts'
import { readClients } from '../policy/sources/clients.ts'
import { NO_STAND_INS } from '../policy/stand-ins.ts'
import { encodeTable } from '../policy/table-encode.ts'
import { PolicyTable } from '../policy/table.ts'
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
/** To the upstream and back. */
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
  readonly #seed: number

  constructor(clock: VirtualClock, prefetch: boolean, seed: number) {
    this.#clock = clock
    this.#seed = seed
    const cache = new AnswerCache({ bytes: 1 << 20 })
    const ring = new Int32Array(ringBytes(1 << 14) / 4)
    const bytes = new Uint8Array(4096)
    const view = new DataView(bytes.buffer)
    this.#learned = new LearnedCodec(cache, 0)
    this.#records = new RingReader(ring)
    this.#pipeline = new Pipeline(
      {
        cache,
        learned: this.#learned,
        replies: { bytes, view, at: 0, limit: bytes.length, open: () => true, send() {} },
        transport: this,
        grantWriter: null,
        grants: new GrantTable(16),
        records: new RingWriter(ring),
        counters: new Counters(new Int32Array(COUNTER_COUNT)),
      },
      noPolicy(),
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
    this.#clock.after(ROUND_TRIP_MS, () => {
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

  groupId(): number {
    return GROUP_ID
  }

  groupOfId(): number {
    return 0
  }

  #drain(): void {
    while (this.#records.next()) {
      const { kind, bytes, bodyAt, bodyBytes } = this.#records
      if (kind === RECORD_LEARNED) this.tell(bytes.slice(bodyAt, bodyAt + bodyBytes))
      this.#records.release()
    }
  }
}

function noPolicy(): PolicyTable {
  const snapshot = compileSnapshot({
    inventory: readClients('[]', 'clients.yaml', null).inventory,
    policies: [],
    nodeAddresses: [],
    formerPortSets: [],
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
  })
  const policy = new PolicyTable()
  policy.open(encodeTable(snapshot, { standIns: NO_STAND_INS, interfaceIndexes: new Map() }))
  return policy
}

/**
 * How often the upstream is asked in ten minutes.
 * @param isMixed  not only two names that are asked for every 2 and every 20 ms, but forty others now
 *   and then, as it is on a node
 */
function askedBy(count: number, prefetch: boolean, isMixed: boolean): number {
  const clock = new VirtualClock(1000)
  const processes = Array.from(
    { length: count },
    (_, index) => new Process(clock, prefetch, 0x5eed + index),
  )
  for (const from of processes) {
    from.tell = (record) => {
      for (const to of processes) {
        if (to !== from) clock.after(TELLING_MS, () => to.learn(record))
      }
    }
  }
  const queries = Array.from({ length: 42 }, (_, index) =>
    buildMessage({ id: 1, flags: FLAG_RD, question: `name-${index}.example.com. A` }),
  )
  // The same clients in every run, whatever reads their queries.
  let state = 1
  const draw = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const send = (index: number): void => processes[draw(2) % count]!.take(queries[index]!)
  for (let ms = 0; ms < 600_000; ms += 2) {
    send(0)
    if (ms % 20 === 0) send(1)
    if (isMixed && ms % 100 === 0) send(2 + draw(40))
    clock.advance(2)
  }
  return processes.reduce((sum, { asked }) => sum + asked, 0)
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
