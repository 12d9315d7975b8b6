import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { policyTable } from '../../test/support/policy-table.ts'
import { clientsFile, policyOfRule } from '../../test/support/scenario/policy-text.ts'
import { AnswerCache } from '../cache/cache.ts'
import { LearnedCodec } from '../cache/learned.ts'
import type { GrantWriter } from '../datapath/driver.ts'
import { RingReader, ringBytes, RingWriter } from '../flow/ring.ts'
import { GrantTable } from '../grant/table.ts'
import { parseAddress } from '../identity/address.ts'
import type { PolicyTable } from '../policy/table.ts'
import { FLIGHT_TIMEOUT, type Transport } from '../upstream/transport.ts'
import { ANSWER_OK, Answer, parseAnswer } from '../wire/answer.ts'
import { FLAG_QR, FLAG_RD, RCODE_NXDOMAIN } from '../wire/header.ts'
import { buildMessage, type MessageParts } from '../wire/message.ts'
import type { Replies } from './context.ts'
import { COUNTER_COUNT, Counters, counterIndex } from './counters.ts'
import { Pipeline } from './pipeline.ts'

const CLIENT = '10.0.0.7'
const SERVER = '10.96.0.10'
const NOW_MS = 1000

/** Replies into one place, counted. */
class CountedReplies implements Replies {
  readonly bytes = new Uint8Array(8192)
  readonly view = new DataView(this.bytes.buffer)
  readonly at = 16
  readonly limit = 4096
  count = 0

  open(): boolean {
    return true
  }

  send(): void {
    this.count++
  }
}

/** A kernel that takes everything, unless it is told otherwise. */
class CountedWriter implements GrantWriter {
  readonly capacity = 64
  isUnproven = false
  isRefusing = false
  written = 0
  #count = 0

  push(): number {
    return this.#count++
  }

  flush(): number {
    const count = this.#count
    this.#count = 0
    if (this.isRefusing) return count
    this.written += count
    return 0
  }

  isInForce(): boolean {
    return !this.isRefusing
  }

  refreshAlive(): boolean {
    return true
  }
}

/** One group, whose answer is given by hand. */
class HeldTransport implements Transport {
  flight = -1

  route(): number {
    return 0
  }

  groupId(): number {
    return 0
  }

  groupOfId(): number {
    return 0
  }

  ask(flight: number): void {
    this.flight = flight
  }

  isReturned(): boolean {
    return false
  }

  readonly relayRoom = 4
  slot = -1

  relay(slot: number): boolean {
    this.slot = slot
    return true
  }
}

function makePolicy(): PolicyTable {
  const rule = policyOfRule('team=web may reach *.example.com on 443/tcp', 1, (message) =>
    assert.fail(message),
  )
  const text = clientsFile([{ addresses: [CLIENT], labels: { team: 'web' } }], () => 'veth0')
  return policyTable(text, rule)
}

function makePipeline() {
  const cache = new AnswerCache({ bytes: 1 << 20, serveStaleMs: 86_400_000 })
  const replies = new CountedReplies()
  const writer = new CountedWriter()
  const transport = new HeldTransport()
  const ring = new Int32Array(ringBytes(1 << 12) / 4)
  const records = new RingWriter(ring)
  const counterWords = new Int32Array(COUNTER_COUNT)
  const pipeline = new Pipeline(
    {
      cache,
      learned: new LearnedCodec(cache, 0),
      replies,
      transport,
      grantWriter: writer,
      grants: new GrantTable(1024),
      records,
      counters: new Counters(counterWords),
    },
    makePolicy(),
    {
      slotsMax: 4,
      flightsMax: 4,
      queriesPerSecond: 0,
      grantsMax: 65_536,
      maxTtlSeconds: 3600,
      minTtlSeconds: 0,
      maxNegativeTtlSeconds: 30,
      prefetch: true,
      nothingBelowNxdomain: true,
      rotate: true,
      nameSeed: 0x5eed,
    },
  )
  pipeline.setWallClock(Date.UTC(2030, 0, 2), 0)
  const { arrival } = pipeline
  arrival.isIntercepted = true
  arrival.addresses = Uint8Array.from([...parseAddress(CLIENT)!, ...parseAddress(SERVER)!])
  arrival.destinationAt = 4
  arrival.sourcePort = 50_000
  arrival.destinationPort = 53
  const drain = new RingReader(ring)
  return { pipeline, cache, replies, writer, transport, counterWords, records, drain }
}

/** Takes one record out of the ring. */
function assertFlow({ records, drain }: { records: RingWriter; drain: RingReader }): void {
  assert(records.publish() && drain.next(), 'a query ends in a flow')
  drain.release()
}

/** Has the question asked and answered once, so that the cache and the grant table know it. */
function warm(
  parts: ReturnType<typeof makePipeline>,
  question: string,
  answers: string[],
  rest: Partial<MessageParts> = {},
) {
  const { pipeline, transport } = parts
  const query = buildMessage({ id: 1, flags: FLAG_RD, question, edns: {} })
  pipeline.take(query, 0, query.length, NOW_MS)
  const bytes = buildMessage({ id: 1, flags: FLAG_QR, question, answers, edns: {}, ...rest })
  const answer = new Answer()
  const questionBytes = query.length - 12 - 11
  assert.equal(parseAnswer(bytes, 0, bytes.length, query, 12, questionBytes, answer), ANSWER_OK)
  pipeline.arrived(transport.flight, bytes, 0, answer, NOW_MS)
  return query
}

allocatesNothing('a cached answer with policy, grants and flow allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline, replies, writer, counterWords } = parts
  const query = warm(parts, 'api.example.com. A', [
    'api.example.com. 300 CNAME front.example.net.',
    'front.example.net. 300 A 192.0.2.10',
    'front.example.net. 300 A 192.0.2.11',
  ])
  const take = (call: number): void => {
    pipeline.take(query, 0, query.length, NOW_MS + (call % 60_000))
    assertFlow(parts)
  }
  assertFlow(parts)
  take(59_999)
  const counted = ['answersCached', 'answersUpstream', 'grantsWritten'] as const
  assert.deepEqual(
    counted.map((name) => counterWords[counterIndex(name)]),
    [1, 1, 2],
  )
  assert.deepEqual([writer.written, replies.count], [2, 2])
  return take
})

test('grants made before are written anew when no rule judged a batch, not when one refused it', () => {
  const parts = makePipeline()
  const { pipeline, writer } = parts
  const query = warm(parts, 'api.example.com. A', ['api.example.com. 300 A 192.0.2.10'])
  assert.equal(writer.written, 1)
  for (const [isUnproven, name] of [
    [false, 'new.example.com'],
    [true, 'other.example.com'],
  ] as const) {
    Object.assign(writer, { isRefusing: true, isUnproven })
    warm(parts, `${name}. A`, [`${name}. 300 A 192.0.2.11`])
    Object.assign(writer, { isRefusing: false, isUnproven: false })
    pipeline.take(query, 0, query.length, NOW_MS)
    assert.equal(writer.written, isUnproven ? 2 : 1)
  }
})

allocatesNothing('a denied question allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline } = parts
  const question = 'www.example.net. A'
  const query = buildMessage({ id: 1, flags: FLAG_RD, question, edns: {} })
  return (call) => {
    pipeline.take(query, 0, query.length, NOW_MS + call)
    assertFlow(parts)
  }
})

test('messages of other opcodes count among what their client has waiting', () => {
  const { pipeline, transport, counterWords } = makePipeline()
  pipeline.arrival.isIntercepted = false
  pipeline.arrival.addresses = Uint8Array.from([10, 0, 0, 8, ...parseAddress(SERVER)!])
  const update = buildMessage({ id: 1, flags: 0x2800, question: 'example.com. SOA' })
  const query = buildMessage({ id: 1, flags: FLAG_RD, question: 'example.com. A' })
  const { addresses } = pipeline.arrival
  const counted = (): number[] =>
    (['relayed', 'clientLimit'] as const).map((name) => counterWords[counterIndex(name)]!)
  // Of four slots one client alone gets two.
  for (const message of [update, update, update, query]) {
    pipeline.take(message, 0, message.length, NOW_MS)
  }
  assert.deepEqual([pipeline.waitingCount, ...counted()], [2, 2, 2])
  const other = addresses.slice()
  other[3] = 9
  pipeline.arrival.addresses = other
  pipeline.take(update, 0, update.length, NOW_MS)
  assert.deepEqual([pipeline.waitingCount, ...counted()], [3, 3, 2])
  pipeline.relayFailed(transport.slot, FLIGHT_TIMEOUT, NOW_MS)
  assert.equal(pipeline.waitingCount, 2)
})

allocatesNothing('a message of another opcode that is relayed allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline, transport, replies } = parts
  pipeline.arrival.isIntercepted = false
  pipeline.arrival.addresses = Uint8Array.from([10, 0, 0, 8, ...parseAddress(SERVER)!])
  const { addresses } = pipeline.arrival
  const notify = buildMessage({ id: 1, flags: 0x2400, question: 'example.com. SOA' })
  const reply = buildMessage({ id: 2, flags: 0xa400, question: 'example.com. SOA' })
  return (call) => {
    const { arrival } = pipeline
    arrival.addresses = addresses
    arrival.sourceAt = 0
    arrival.destinationAt = 4
    pipeline.take(notify, 0, notify.length, NOW_MS + call)
    pipeline.relayed(transport.slot, reply, 0, reply.length, NOW_MS + call)
    assertFlow(parts)
    return replies.count & 0xff
  }
})

allocatesNothing('a question that is asked, answered and granted allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline, transport } = parts
  const question = 'api.example.com. A'
  const answers = ['api.example.com. 0 A 192.0.2.10', 'api.example.com. 0 A 192.0.2.11']
  const query = warm(parts, question, answers)
  const bytes = buildMessage({ id: 1, flags: FLAG_QR, question, answers })
  const answer = new Answer()
  assert.equal(parseAnswer(bytes, 0, bytes.length, query, 12, query.length - 23, answer), ANSWER_OK)
  assertFlow(parts)
  return (call) => {
    const nowMs = NOW_MS + call * 20
    pipeline.take(query, 0, query.length, nowMs)
    pipeline.arrived(transport.flight, bytes, 0, answer, nowMs)
    assertFlow(parts)
  }
})

allocatesNothing('a stale answer, given because the upstream failed, allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline, transport, counterWords } = parts
  const query = warm(parts, 'api.example.com. A', ['api.example.com. 30 A 192.0.2.10'])
  assertFlow(parts)
  const take = (call: number): void => {
    // Now and then it is to be asked again first.
    const nowMs = NOW_MS + 40_000 + call * 20
    const { waitingCount } = pipeline
    pipeline.take(query, 0, query.length, nowMs)
    if (pipeline.waitingCount > waitingCount) {
      pipeline.tick(nowMs + 2000)
      pipeline.failed(transport.flight, FLIGHT_TIMEOUT, nowMs + 5000)
    }
    assertFlow(parts)
  }
  take(0)
  assert.equal(counterWords[counterIndex('answersStale')], 1)
  return take
})

allocatesNothing('an answer made from the NXDOMAIN for a name above allocates nothing', () => {
  const parts = makePipeline()
  const { pipeline, counterWords } = parts
  pipeline.arrival.addresses[3]! ^= 0x80 // nobody whom a policy governs
  const soa = 'example.com. 300 SOA ns.example.com. host.example.com. 1 3600 600 86400 300'
  warm(parts, 'gone.api.example.com. A', [], { rcode: RCODE_NXDOMAIN, authority: [soa] })
  assertFlow(parts)
  const question = 'a.b.c.gone.api.example.com. AAAA'
  const query = buildMessage({ id: 1, flags: FLAG_RD, question, edns: {} })
  const take = (call: number): void => {
    pipeline.take(query, 0, query.length, NOW_MS + (call % 20_000))
    assertFlow(parts)
  }
  take(0)
  assert.equal(counterWords[counterIndex('answersCached')], 1)
  return take
})

test('just after its end an answer of the peer’s is given to whom it opens nothing new, and to nobody else', () => {
  for (const wasAdmitted of [true, false]) {
    const parts = makePipeline()
    const { pipeline, cache, writer } = parts
    const query = warm(parts, 'api.example.com. A', ['api.example.com. 30 A 192.0.2.10'])
    const entries = new Int32Array(64)
    for (let cursor = 0; cache.listed === 0; ) cursor = cache.list(cursor, entries)
    cache.leaveToPeer(entries[0]!, NOW_MS + 29_000)
    if (wasAdmitted) pipeline.take(query, 0, query.length, NOW_MS + 1000)
    else pipeline.forgetGrants()
    const { written } = writer
    pipeline.take(query, 0, query.length, NOW_MS + 30_100)
    assert.equal(pipeline.waitingCount, wasAdmitted ? 0 : 1, 'the others wait for the new one')
    assert.equal(writer.written, written)
  }
})
