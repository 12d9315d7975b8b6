/**
 * The world inside the test's process: the real pipeline, forwarder, routes, cache, policy reader,
 * compiler and table, grant table and flow ring. Not real are what lies outside: the clock stands
 * still until it is moved, upstreams are scripts, clients are source ports, the kernel is memory.
 * Of the main thread it plays two small parts: it enforces a policy and takes back what that no
 * longer gives, and once a second it looks whether the kernel still holds the ruleset.
 *
 * Every reply that leaves is held against the first promise (promise.ts), whatever the scenario
 * asks for.
 */
import assert from 'node:assert/strict'
import { AnswerCache } from '../../../src/cache/cache.ts'
import { LearnedCodec } from '../../../src/cache/learned.ts'
import { NodeDirectory } from '../../../src/daemon/directory.ts'
import type { GrantEntry, GrantWriter } from '../../../src/datapath/driver.ts'
import { MemoryDatapath } from '../../../src/datapath/memory/memory.ts'
import { decodeFlow, type QuestionFlow } from '../../../src/flow/decode.ts'
import { RECORD_FLOW } from '../../../src/flow/record.ts'
import { RingReader, ringBytes, RingWriter } from '../../../src/flow/ring.ts'
import { judgeRevocation } from '../../../src/grant/revocation.ts'
import { compileRuleset, type Facts } from '../../../src/grant/ruleset.ts'
import { GrantTable } from '../../../src/grant/table.ts'
import { parseAddress } from '../../../src/identity/address.ts'
import type { Inventory } from '../../../src/identity/endpoint.ts'
import { FlowHistory } from '../../../src/observe/history.ts'
import { CHANNEL_TCP } from '../../../src/pipeline/arrival.ts'
import type { PipelineOptions } from '../../../src/pipeline/context.ts'
import {
  COUNTER_COUNT,
  type CounterName,
  counterIndex,
  Counters,
} from '../../../src/pipeline/counters.ts'
import { Pipeline } from '../../../src/pipeline/pipeline.ts'
import { compileSnapshot } from '../../../src/policy/compile.ts'
import type { PolicyDocument } from '../../../src/policy/rule.ts'
import type { Snapshot } from '../../../src/policy/snapshot.ts'
import { readClients } from '../../../src/policy/sources/clients.ts'
import { readPolicies } from '../../../src/policy/sources/policies.ts'
import { encodeTable } from '../../../src/policy/table-encode.ts'
import { PolicyTable } from '../../../src/policy/table.ts'
import { Forwarder, OWN_CHANNELS } from '../../../src/upstream/forwarder.ts'
import { PROBES_MAX } from '../../../src/upstream/probes.ts'
import { type Endpoint, Routes, type Server } from '../../../src/upstream/routes.ts'
import type { AnswerSink } from '../../../src/upstream/transport.ts'
import { Answer } from '../../../src/wire/answer.ts'
import { viewOf } from '../../../src/wire/bytes.ts'
import { parseName } from '../../../src/wire/text.ts'
import { durationMs, VirtualClock } from '../clock.ts'
import { CollectedReplies } from './collected-replies.ts'
import { clientsFile } from './policy-text.ts'
import { checkPromise } from './promise.ts'
import {
  CLUSTER_DNS,
  type KernelState,
  type RecordChange,
  type Scenario,
  type ServerFault,
  type SettingKey,
} from './scenario.ts'
import { ScriptedChannels } from './scripted-channels.ts'
import { ScriptedServer, ServerRecords } from './server-script.ts'
import type { ClientMessage, Connection, Exchange, Reply, World } from './world.ts'

const START_MS = 1000
const EPOCH_MS = Date.UTC(2030, 0, 2) - START_MS
const TICK_MS = 20
/** The main thread looks at the kernel, and the worker says that it is alive, this often. */
const LOOK_MS = 1000
const ALIVE_MS = 50
const STEP_MS = 1
const DNS_PORT = 53
const PLACE = 1
const CACHE_BYTES = 4 << 20
const RING_WORDS = 1 << 16
const NAME_SEED = 0x5eed
/** Few, so that a scenario can take them all. */
export const SLOTS_MAX = 32
const FLIGHTS_MAX = 32

const DEFAULTS: Readonly<Record<SettingKey, string>> = {
  'cache.maxTtl': '1h',
  'cache.minTtl': '0s',
  'cache.maxNegativeTtl': '30s',
  'cache.serveStale': '0s',
  'cache.prefetch': 'false',
  'cache.nothingBelowNxdomain': 'false',
  'cache.rotate': 'true',
  'limits.grants': '8192',
  'limits.queriesPerSecond': '10000',
  'policy.mode': 'enforce',
  'policy.denyResponse': 'refused',
  'clients.unknown': 'open',
}

interface OwnExchange extends Exchange {
  readonly port: number
  readonly sentMs: number
  afterMs: number | null
}

export class InProcessWorld implements World {
  readonly slackSeconds = 0
  readonly clock = new VirtualClock(START_MS)
  readonly datapath = new MemoryDatapath(this.clock)
  readonly replies = new CollectedReplies()
  snapshot!: Snapshot
  readonly #scenario: Scenario
  readonly #inventory: Inventory
  readonly #counterWords = new Int32Array(COUNTER_COUNT)
  readonly #policy = new PolicyTable()
  readonly #writer: GrantWriter
  readonly #channels: ScriptedChannels
  readonly #forwarder: Forwarder
  readonly #pipeline: Pipeline
  readonly #flows: RingReader
  readonly #records: RingWriter
  readonly #flowsByPort = new Map<number, QuestionFlow>()
  readonly #history = new FlowHistory()
  readonly #directory = new NodeDirectory(this.#history)
  readonly #servers = new Map<string, ScriptedServer>()
  readonly #changes: RecordChange[] = []
  readonly #exchanges = new Map<number, OwnExchange>()
  /** Who waits for our answer to what a server has forwarded, by source port. */
  readonly #forwarded = new Map<number, (bytes: Uint8Array) => void>()
  #documents: PolicyDocument[] = []
  #nextPort = 20_000
  #isKernelGone = false
  /** Replies to hold against the promise: reading the kernel is asynchronous. */
  #unchecked: Promise<void>[] = []

  constructor(scenario: Scenario) {
    this.#scenario = scenario
    const text = clientsFile(scenario.clients, (client) => this.#interfaceOf(client.addresses[0]!))
    const { inventory, faults } = readClients(text, 'clients.yaml', null)
    assert.deepEqual(faults, [], 'clients of a scenario can be read')
    this.#inventory = inventory
    this.#writer = this.datapath.writer(PLACE)
    this.#channels = new ScriptedChannels(FLIGHTS_MAX + OWN_CHANNELS, this.clock, (address) =>
      this.#server(address),
    )
    this.#forwarder = this.#makeForwarder()
    const ring = new Int32Array(ringBytes(RING_WORDS) / 4)
    this.#flows = new RingReader(ring)
    this.#records = new RingWriter(ring)
    const cache = new AnswerCache({
      bytes: CACHE_BYTES,
      serveStaleMs: this.#seconds('cache.serveStale') * 1000,
    })
    this.#enforce(scenario.policies)
    this.#pipeline = new Pipeline(
      {
        cache,
        learned: new LearnedCodec(cache, 0),
        replies: this.replies,
        transport: this.#forwarder,
        grantWriter: this.#writer,
        grants: new GrantTable(1024),
        records: this.#records,
        counters: new Counters(this.#counterWords),
      },
      this.#policy,
      this.#pipelineOptions(),
    )
    this.#pipeline.setWallClock(EPOCH_MS, 0)
    this.#channels.onReady = (flight) => {
      this.#forwarder.channelReady(flight, 0, this.clock.nowMs)
    }
    this.#channels.onForward = (client, bytes, say) => this.#takeForwarded(client, bytes, say)
    this.replies.onSend = (arrival, message) => {
      if (this.#isForwarded(arrival.sourcePort, message)) return
      const exchange = this.#exchanges.get(arrival.sourcePort)!
      assert(exchange.afterMs === null, 'a query ends in exactly one reply')
      exchange.afterMs = this.clock.nowMs - exchange.sentMs
      const { snapshot } = this
      if (snapshot.mode === 'audit') return
      // What is in force now: the promise is there already.
      const grants = this.datapath.readGrants()
      const { client } = exchange.message
      this.#unchecked.push(
        grants.then((inForce) => checkPromise(snapshot, inForce, client, message)),
      )
    }
    this.#every(ALIVE_MS, () => this.#refreshAlive())
    this.#every(TICK_MS, () => {
      this.#forwarder.tick(this.clock.nowMs)
      this.#pipeline.tick(this.clock.nowMs)
    })
    this.#every(LOOK_MS, () => this.#lookAtKernel())
  }

  #makeForwarder(): Forwarder {
    const routes = new Routes()
    routes.configure(...upstreamsOf(this.#scenario))
    const sink: AnswerSink = {
      arrived: (flight, bytes, at, answer, nowMs) =>
        this.#pipeline.arrived(flight, bytes, at, answer, nowMs),
      failed: (flight, failure, nowMs) => this.#pipeline.failed(flight, failure, nowMs),
      relayed: (slot, bytes, at, length, nowMs) =>
        this.#pipeline.relayed(slot, bytes, at, length, nowMs),
      relayFailed: (slot, failure, nowMs) => this.#pipeline.relayFailed(slot, failure, nowMs),
      forgotten: (group, nowMs) => this.#pipeline.forgotten(group, nowMs),
    }
    const options = { flightsMax: FLIGHTS_MAX, random: countingIds(), answer: new Answer() }
    return new Forwarder(routes, this.#channels, sink, options)
  }

  #pipelineOptions(): PipelineOptions {
    return {
      slotsMax: SLOTS_MAX,
      flightsMax: FLIGHTS_MAX,
      grantsMax: Number(this.#setting('limits.grants')),
      queriesPerSecond: Number(this.#setting('limits.queriesPerSecond')),
      maxTtlSeconds: this.#seconds('cache.maxTtl'),
      minTtlSeconds: this.#seconds('cache.minTtl'),
      maxNegativeTtlSeconds: this.#seconds('cache.maxNegativeTtl'),
      prefetch: this.#setting('cache.prefetch') === 'true',
      nothingBelowNxdomain: this.#setting('cache.nothingBelowNxdomain') === 'true',
      rotate: this.#setting('cache.rotate') === 'true',
      nameSeed: NAME_SEED,
    }
  }

  /** As the loop does: a kernel that has lost our rules has lost the grants too. */
  #refreshAlive(): void {
    if (!this.#writer.refreshAlive()) this.#pipeline.forgetGrants()
  }

  changeRecords(change: RecordChange): Promise<void> {
    this.#changes.push(change)
    for (const [address, server] of this.#servers) {
      if (change.server === null || change.server === address) server.records.change(change)
    }
    return Promise.resolve()
  }

  setFault(server: string, fault: ServerFault): Promise<void> {
    this.#server(server).setFault(fault)
    return Promise.resolve()
  }

  async setPolicies(policies: readonly string[]): Promise<void> {
    const former = this.snapshot
    this.#enforce(policies)
    this.#pipeline.forgetGrants()
    await this.#revoke(former)
  }

  setKernel(state: KernelState): Promise<void> {
    if (state === 'vanishes') {
      this.datapath.vanish()
      this.#isKernelGone = true
    } else {
      this.datapath.fault =
        state === 'is full' ? 'full' : state === 'refuses grants' ? 'failing' : 'none'
    }
    return Promise.resolve()
  }

  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await this.#check()
  }

  async send(messages: readonly ClientMessage[]): Promise<Exchange[]> {
    const exchanges = messages.map((message): OwnExchange => {
      const exchange = { message, port: this.#nextPort++, sentMs: this.clock.nowMs, afterMs: null }
      this.#exchanges.set(exchange.port, exchange)
      this.#take(exchange)
      return exchange
    })
    this.#forwarder.step(this.clock.nowMs)
    await this.#check()
    return exchanges
  }

  async reply(exchange: Exchange, limitMs: number): Promise<Reply | null> {
    const own = exchange as OwnExchange
    while (own.afterMs === null && this.clock.nowMs < own.sentMs + limitMs) {
      this.clock.advance(STEP_MS)
      await this.#check()
    }
    if (own.afterMs === null || own.afterMs > limitMs) return null
    return { bytes: this.replies.byPort.get(own.port)!, afterMs: own.afterMs }
  }

  flow(exchange: Exchange): Promise<QuestionFlow | null> {
    this.#readFlows()
    return Promise.resolve(this.#flowsByPort.get((exchange as OwnExchange).port) ?? null)
  }

  grants(): Promise<GrantEntry[]> {
    return this.datapath.readGrants()
  }

  canConnect({ client, address, protocol, port }: Connection): Promise<boolean> {
    return Promise.resolve(this.datapath.isOpen(client, address, protocol, port))
  }

  askedCount(server: string, name: string, isTcp: boolean | null): Promise<number> {
    return Promise.resolve(this.#server(server).askedCount(name, isTcp))
  }

  counter(name: CounterName): number {
    return this.#counterWords[counterIndex(name)]!
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#check()
    // A flight that is under way ends with its deadline; then nothing may be left of it.
    this.clock.advance('6s')
    await this.#check()
    assert.equal(this.#pipeline.waitingCount, 0, 'every query has ended')
    const probes = { from: FLIGHTS_MAX, until: FLIGHTS_MAX + PROBES_MAX }
    assert.equal(this.#channels.openCountBut(probes), 0, 'every channel is closed')
    assert.equal(this.counter('answersReleasedUnprogrammed'), 0)
  }

  #take(exchange: OwnExchange): void {
    const { client, server, isTcp, bytes } = exchange.message
    const source = parseAddress(client)
    const destination = parseAddress(server)
    assert(source && destination && source.length === destination.length, 'addresses of a family')
    const addresses = new Uint8Array(32)
    addresses.set(source)
    addresses.set(destination, 16)
    const { arrival } = this.#pipeline
    arrival.channel = isTcp ? CHANNEL_TCP : 0
    arrival.family = source.length === 4 ? 4 : 6
    arrival.isIntercepted = true
    arrival.addresses = addresses
    arrival.sourceAt = 0
    arrival.destinationAt = 16
    arrival.sourcePort = exchange.port
    arrival.destinationPort = DNS_PORT
    arrival.interfaceIndex = 0
    this.#refreshAlive()
    const way = this.datapath.wayOfDns(client, server)
    assert(way !== 'server', 'a question that is not for us is in no scenario')
    if (way === 'nowhere') return
    // The packet lies somewhere in a larger buffer, and its memory is used again.
    const packet = new Uint8Array(bytes.length + 96)
    packet.set(bytes, 48)
    this.#pipeline.take(packet, 48, 48 + bytes.length, this.clock.nowMs)
    packet.fill(0xee)
    addresses.fill(0xee)
  }

  /** A server asks us what we have asked it. */
  #takeForwarded(client: string, bytes: Uint8Array, say: (reply: Uint8Array) => void): void {
    const port = this.#nextPort++
    const message = { client, server: CLUSTER_DNS.v4, isTcp: false, bytes }
    this.#forwarded.set(port, say)
    this.#take({ message, port, sentMs: this.clock.nowMs, afterMs: null })
  }

  /** Whether our reply is to such a server; it is on its way for a moment. */
  #isForwarded(port: number, reply: Uint8Array): boolean {
    const say = this.#forwarded.get(port)
    if (say === undefined) return false
    const copy = reply.slice()
    this.clock.after(STEP_MS, () => say(copy))
    return true
  }

  #readFlows(): void {
    this.#records.publish()
    while (this.#flows.next()) {
      const { kind, bytes, bodyAt, bodyBytes } = this.#flows
      if (kind === RECORD_FLOW) {
        const flow = decodeFlow(bytes, bodyAt, bodyBytes)
        assert(flow?.type === 'question', 'a flow can be read')
        assert(!this.#flowsByPort.has(flow.source.port), 'a query ends in exactly one flow')
        this.#flowsByPort.set(flow.source.port, flow)
        this.#history.append(viewOf(bytes), bodyAt, bodyBytes)
      }
      this.#flows.release()
    }
  }

  /** What was granted under `former` and is no longer given. */
  async #revoke(former: Snapshot): Promise<void> {
    this.#readFlows()
    const namesOf = await this.#directory.names()
    const isTaken = judgeRevocation(former, this.snapshot, this.#policy, namesOf)
    const taken = (await this.datapath.readGrants()).filter(isTaken)
    await this.datapath.revoke(taken)
    if (taken.length > 0) this.#pipeline.forgetGrants()
  }

  #enforce(policies: readonly string[]): void {
    const files = policies.map((text, index) => ({ file: `policy-${index + 1}.yaml`, text }))
    this.#documents = readPolicies(files, this.#documents)
    this.snapshot = compileSnapshot({
      inventory: this.#inventory,
      policies: this.#documents,
      nodeAddresses: [],
      formerPortSets: this.snapshot?.portSets ?? [],
      revision: (this.snapshot?.revision ?? 0) + 1,
      mode: this.#setting('policy.mode') === 'audit' ? 'audit' : 'enforce',
      denyResponse: this.#setting('policy.denyResponse') as Snapshot['denyResponse'],
      unknown: this.#setting('clients.unknown') as Snapshot['unknown'],
    })
    this.#policy.open(
      encodeTable(this.snapshot, {
        standIns: { listen: [], listenPort: DNS_PORT, servers: Object.values(CLUSTER_DNS) },
        interfaceIndexes: new Map(),
      }),
    )
    this.#directory.use(this.snapshot, EPOCH_MS + this.clock.nowMs)
    void this.datapath.apply(compileRuleset(this.snapshot, this.#facts()))
  }

  #lookAtKernel(): void {
    if (!this.#isKernelGone) return
    this.#isKernelGone = false
    void this.datapath.apply(compileRuleset(this.snapshot, this.#facts()))
    this.#pipeline.forgetGrants()
  }

  #facts(): Facts {
    return {
      interfaces: ['veth*'],
      mark: { value: 0x4e470000, mask: 0xffff0000 },
      routingTable: 20551,
      rulePriority: 100,
      listen: [],
      servers: Object.values(CLUSTER_DNS),
      isNodeServed: true,
      endpoints: [],
      sockets: { v4: '127.78.71.1', v6: '2001:db8:78::1' },
      places: [1, 2, 3],
      interfaceOf: {},
      nflogGroups: [],
      denyAction: 'drop',
      grantsMax: 65_536,
    }
  }

  #interfaceOf(address: string): string {
    return `veth${this.#scenario.clients.findIndex(({ addresses }) => addresses.includes(address))}`
  }

  #server(address: string): ScriptedServer {
    return this.#servers.getOrInsertComputed(address, () => {
      const records = new ServerRecords()
      for (const change of this.#changes) {
        if (change.server === null || change.server === address) records.change(change)
      }
      return new ScriptedServer(records)
    })
  }

  #setting(key: SettingKey): string {
    return this.#scenario.settings.get(key) ?? DEFAULTS[key]
  }

  #seconds(key: SettingKey): number {
    return durationMs(this.#setting(key)) / 1000
  }

  #every(ms: number, callback: () => void): void {
    this.clock.after(ms, () => {
      callback()
      this.#every(ms, callback)
    })
  }

  async #check(): Promise<void> {
    const unchecked = this.#unchecked
    this.#unchecked = []
    await Promise.all(unchecked)
  }
}

type Upstreams = Parameters<Routes['configure']>

function upstreamsOf({ groups }: Scenario): Upstreams {
  return [
    groups.map(({ servers }) =>
      servers.map((text): Server => ({ ...endpoint(text), transport: 'udp' })),
    ),
    groups.flatMap(({ zones }, group) => zones.map((zone) => ({ name: parseName(zone), group }))),
    Object.values(CLUSTER_DNS).map(endpoint),
    START_MS,
  ]
}

function endpoint(text: string): Endpoint {
  const address = parseAddress(text)
  assert(address, `an address: ${text}`)
  return { family: address.length === 4 ? 4 : 6, address, port: DNS_PORT }
}

/** Distinct, and the same in every run. */
function countingIds(): () => number {
  let id = 0x1000
  return () => (id += 0x101) & 0xffff
}
