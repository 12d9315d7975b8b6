/**
 * Fuzz target of the pipeline as a whole: nothing that a client or an upstream sends stops it, keeps
 * a slot, or changes what another client gets.
 *
 * Two clients ask. One sends the input as its query, or a good question of its own; the other always
 * asks the same good question, before and after. The upstream answers with the input, as a rule made
 * to look like an answer. Grants are made in a kernel of memory.
 */
import assert from 'node:assert/strict'
import { policyTable } from '../support/policy-table.ts'
import { AnswerCache } from '../../src/cache/cache.ts'
import { LearnedCodec } from '../../src/cache/learned.ts'
import type { GrantWriter } from '../../src/datapath/driver.ts'
import { RingReader, ringBytes, RingWriter } from '../../src/flow/ring.ts'
import { GrantTable } from '../../src/grant/table.ts'
import type { Arrival } from '../../src/pipeline/arrival.ts'
import type { Replies } from '../../src/pipeline/context.ts'
import { COUNTER_COUNT, Counters } from '../../src/pipeline/counters.ts'
import { Pipeline } from '../../src/pipeline/pipeline.ts'
import type { PolicyTable } from '../../src/policy/table.ts'
import { FLIGHT_UNREACHABLE, type Transport } from '../../src/upstream/transport.ts'
import { Answer, ANSWER_OK, parseAnswer } from '../../src/wire/answer.ts'
import { FLAG_QR, FLAG_RD, FLAG_TC, OPCODE_QUERY } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import type { Random } from './random.ts'
import type { FuzzTarget } from './target.ts'

const GOOD_ADDRESS = '192.0.2.10'
const QUESTION = 'www.example.com. A'
const ATTACKER = 7
const VICTIM = 8
const SLOTS = 8

export const pipeline: FuzzTarget = {
  corpus: 'wire',
  smokeCases: 500,
  run(input, random) {
    const world = new PipelineWorld()
    const good = buildMessage({ id: 1, flags: FLAG_RD, question: 'good.example.com. A', edns: {} })
    world.ask(VICTIM, good)
    world.answerAll(() => goodReply())
    const isQuery = random.oneIn(2)
    const query = isQuery ? input : someQuery(random)
    world.ask(ATTACKER, query)
    if (random.oneIn(3)) world.ask(VICTIM, buildMessage({ id: 2, question: QUESTION }))
    world.answerAll((question) => (isQuery ? null : replyTo(question, input)))
    const before = world.count
    world.ask(VICTIM, good)
    world.answerAll(() => goodReply())
    assert.equal(world.count, before + 1)
    assert.equal(world.waitingCount, 0, 'no slot is kept')
    const seen = parseMessage(world.last!)
    assert.deepEqual(
      seen?.answers.map(({ rdata }) => rdata.join('.')),
      [GOOD_ADDRESS],
    )
  },
}

function goodReply(): Uint8Array {
  return buildMessage({
    flags: FLAG_QR,
    question: 'good.example.com. A',
    answers: [`good.example.com. 30 A ${GOOD_ADDRESS}`],
  })
}

function someQuery(random: Random): Uint8Array {
  const edns = random.pick([null, { udpBytes: 512 }, { udpBytes: 4096, isDnssecOk: true }])
  return buildMessage({
    id: random.below(65536),
    flags: FLAG_RD,
    question: QUESTION,
    ...(edns === null ? {} : { edns }),
  })
}

/** The input with the question's own bytes where it would have them. */
function replyTo(question: Uint8Array, input: Uint8Array): Uint8Array {
  const reply = new Uint8Array(Math.max(input.length, 12 + question.length))
  reply.set(input)
  reply[2] = (reply[2]! | 0x80) & 0x87
  reply[4] = 0
  reply[5] = 1
  reply.set(question, 12)
  return reply
}

interface Flight {
  readonly flight: number
  readonly question: Uint8Array
}

class PipelineWorld implements Replies {
  readonly bytes = new Uint8Array(70_000)
  readonly view = new DataView(this.bytes.buffer)
  readonly at = 64
  limit = 0
  /** Replies so far, and the latest. */
  count = 0
  last: Uint8Array | null = null
  readonly #pipeline: Pipeline
  readonly #flights: Flight[] = []
  readonly #relays: { slot: number; message: Uint8Array }[] = []
  readonly #records: RingReader
  readonly #writer: RingWriter
  /** What each client asked last. */
  readonly #queries = new Map<number, Uint8Array>()

  constructor() {
    const ring = new Int32Array(ringBytes(1 << 12) / 4)
    this.#records = new RingReader(ring)
    this.#writer = new RingWriter(ring)
    const cache = new AnswerCache({ bytes: 1 << 20 })
    this.#pipeline = new Pipeline(
      {
        cache,
        learned: new LearnedCodec(cache, 0),
        replies: this,
        transport: this.#transport(),
        grantWriter: EVERY_GRANT,
        grants: new GrantTable(64),
        records: this.#writer,
        counters: new Counters(new Int32Array(COUNTER_COUNT)),
      },
      POLICY,
      {
        slotsMax: SLOTS,
        flightsMax: SLOTS,
        maxTtlSeconds: 3600,
        minTtlSeconds: 0,
        maxNegativeTtlSeconds: 30,
        queriesPerSecond: 0,
        grantsMax: 8192,
        prefetch: true,
        nothingBelowNxdomain: true,
        rotate: true,
        nameSeed: 7,
      },
    )
  }

  get waitingCount(): number {
    return this.#pipeline.waitingCount
  }

  ask(client: number, query: Uint8Array): void {
    const { arrival } = this.#pipeline
    const packet = new Uint8Array(query.length + 100).fill(0xc0)
    packet.set(query, 50)
    this.#queries.set(client, query)
    arrival.channel = 0
    arrival.family = 4
    arrival.isIntercepted = true
    arrival.addresses = new Uint8Array(32)
    arrival.addresses.set([10, 0, 0, client])
    arrival.addresses.set([10, 96, 0, 10], 16)
    arrival.sourceAt = 0
    arrival.destinationAt = 16
    arrival.sourcePort = client
    arrival.destinationPort = 53
    const { count } = this
    const waiting = this.waitingCount
    const isTaken = this.#pipeline.take(packet, 50, 50 + query.length, 1000)
    packet.fill(0xee)
    const ended = this.count - count
    assert.equal(ended + this.waitingCount - waiting, isTaken ? 1 : 0, 'a reply, or a slot')
  }

  /** Ends all flights: with the reply if it is an answer, otherwise without one. Relays get it raw. */
  answerAll(replyTo: (question: Uint8Array) => Uint8Array | null): void {
    for (const { slot, message } of this.#relays.splice(0)) {
      const reply = replyTo(message.subarray(12)) ?? message
      if (reply.length < 12) this.#pipeline.relayFailed(slot, FLIGHT_UNREACHABLE, 1010)
      else this.#pipeline.relayed(slot, reply, 0, reply.length, 1010)
    }
    for (const { flight, question } of this.#flights.splice(0)) {
      const reply = replyTo(question)
      const bytes = new Uint8Array((reply?.length ?? 0) + 100)
      if (reply !== null) bytes.set(reply)
      const answer = new Answer()
      const end = reply?.length ?? 0
      const code = parseAnswer(bytes, 0, end, question, 0, question.length, answer)
      if (code !== ANSWER_OK || answer.isTruncated || answer.rcode > 15) {
        this.#pipeline.failed(flight, FLIGHT_UNREACHABLE, 1010)
      } else this.#pipeline.arrived(flight, bytes, 0, answer, 1010)
    }
    this.#writer.publish()
    while (this.#records.next()) this.#records.release()
  }

  open(): boolean {
    this.limit = this.at + 4096
    return true
  }

  /** Whatever was asked and answered, what leaves is a whole reply to what this client asked. */
  send(arrival: Arrival, length: number): void {
    const reply = this.bytes.slice(this.at, this.at + length)
    const query = this.#queries.get(arrival.sourcePort)!
    this.count++
    this.last = reply
    const message = parseMessage(reply)
    assert.deepEqual(reply.subarray(0, 2), query.subarray(0, 2), "its ID is the query's")
    // What is relayed is between client and server.
    if (arrival.query.opcode !== OPCODE_QUERY) return
    assert.ok(message?.isWhole, 'a reply is whole')
    assert.ok((message.flags & FLAG_QR) !== 0)
    if (message.question !== null) {
      const end = 12 + message.question.name.length + 4
      assert.deepEqual(reply.subarray(12, end), query.subarray(12, end), 'and so is its question')
    }
    assert.equal(message.edns !== null, arrival.query.hasEdns, 'OPT is there for who sent one')
    const isCut = (message.flags & FLAG_TC) !== 0
    assert.ok(length <= arrival.query.udpBytes || isCut, 'and it fits')
    assert.ok(length <= Math.max(arrival.query.udpBytes, 512))
    if (isCut) assert.equal(message.answers.length, 0)
  }

  #transport(): Transport {
    return {
      route: () => 1,
      groupId: (group) => group,
      groupOfId: (id) => id,
      isReturned: () => false,
      relayRoom: SLOTS,
      relay: (slot, _, packet, start, end) => {
        this.#relays.push({ slot, message: packet.slice(start, end) })
        return true
      },
      ask: (flight, _, { name, nameAt, nameBytes, type, class: qclass }) => {
        const ends = [type >> 8, type & 0xff, qclass >> 8, qclass & 0xff]
        const question = Uint8Array.from([...name.subarray(nameAt, nameAt + nameBytes), ...ends])
        this.#flights.push({ flight, question })
      },
    }
  }
}

const EVERY_GRANT: GrantWriter = {
  capacity: 64,
  push: () => 0,
  flush: () => 0,
  isInForce: () => true,
  isUnproven: false,
  refreshAlive: () => true,
}

const POLICY = openPolicy()

function openPolicy(): PolicyTable {
  const clients = [ATTACKER, VICTIM].map(
    (host) => `- {name: pod-${host}, addresses: [10.0.0.${host}]}`,
  )
  const policy = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: default}
spec:
  endpointSelector: {}
  egress:
  - toCIDR: [10.96.0.10/32]
    toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]
  - toFQDNs: [{matchPattern: "**.example.com"}]
`
  const standIns = { listen: [], listenPort: 53, servers: ['10.96.0.10'] }
  return policyTable(clients.join('\n'), policy, standIns)
}
