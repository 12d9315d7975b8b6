/**
 * The worker thread: builds the data plane from what the main thread sent, and runs it.
 *
 * A failure here ends the process at once, not the thread: the sockets live on in the peer, whose
 * data plane is sound, and a supervisor starts us anew. (A thread that died alone would leave a
 * process that looks alive and answers nothing.)
 */
import { randomFillSync } from 'node:crypto'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { AnswerCache } from '../cache/cache.ts'
import { LearnedCodec } from '../cache/learned.ts'
import { PacketGrantWriter } from '../datapath/nftables/writer.ts'
import { RingReader, RingWriter } from '../flow/ring.ts'
import { GrantTable } from '../grant/table.ts'
import { EPOLLIN } from '../linux/constants.ts'
import { Epoll } from '../linux/epoll.ts'
import { EventFd } from '../linux/eventfd.ts'
import { exitNow, monotonicMs, writeStderr } from '../linux/process.ts'
import { Region } from '../linux/region.ts'
import { StreamPair } from '../linux/stream-pair.ts'
import { GRANT_BATCH } from '../pipeline/admit.ts'
import { COUNTER_COUNT, Counters } from '../pipeline/counters.ts'
import { Pipeline } from '../pipeline/pipeline.ts'
import { PolicyTable } from '../policy/table.ts'
import { SocketChannels } from '../upstream/channels.ts'
import { Forwarder, OWN_CHANNELS } from '../upstream/forwarder.ts'
import { Routes, type Server } from '../upstream/routes.ts'
import type { AnswerSink } from '../upstream/transport.ts'
import { Answer } from '../wire/answer.ts'
import { COUNTERS_AT, TABLE_TAKEN } from './control.ts'
import { Inbox } from './inbox.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import { Loop, TOKEN_FLIGHT, TOKEN_TCP, TOKEN_WAKE } from './loop.ts'
import type { TlsRequest, UpstreamTable, WorkerRequest, WorkerStart } from './message.ts'
import { SocketReplies } from './replies.ts'
import { answerRequest } from './request.ts'
import { TcpServer } from './tcp-server.ts'

/** Queries that wait for upstreams: at 1,000 q/s all of them time out for 4 s before it is full. */
const SLOTS_MAX = 4096
/** Questions in flight; over UDP a socket each. */
const FLIGHTS_MAX = 2048
const GRANTS_REMEMBERED = 32_768
const FATAL_EXIT_CODE = 70

/** Ends the process with a last line that says why. */
function fail(why: string): never {
  writeStderr(`namegate: the data plane ends this process: ${why}\n`)
  exitNow(FATAL_EXIT_CODE)
}

process.on('uncaughtException', (error) => fail(error.stack ?? String(error)))
process.on('unhandledRejection', (error) =>
  fail(error instanceof Error ? (error.stack ?? error.message) : String(error)),
)

/** What every part below stands on. */
function openWorld(options: WorkerStart) {
  const startedMs = monotonicMs()
  const now = (): number => monotonicMs() - startedMs
  const control = Region.attach(options.control).i32
  const counters = new Counters(control.subarray(COUNTERS_AT, COUNTERS_AT + COUNTER_COUNT))
  const tables = [
    Region.attach(options.tables[0]).i32,
    Region.attach(options.tables[1]).i32,
  ] as const
  const policy = new PolicyTable()
  // The main thread wrote the first table before it started this thread.
  policy.open(tables[0])
  Atomics.store(control, TABLE_TAKEN, 0)
  const epoll = new Epoll()
  const cache = new AnswerCache({
    bytes: options.cacheBytes,
    serveStaleMs: options.serveStaleSeconds * 1000,
  })
  const learned = new LearnedCodec(cache, startedMs)
  return { now, control, counters, tables, policy, epoll, cache, learned, nameSeed: randomWord() }
}

type World = ReturnType<typeof openWorld>

/** Asks upstreams; answers go to `sink`, which is made after it and with it. */
function buildForwarder(
  world: World,
  options: WorkerStart,
  port: MessagePort,
  sink: () => AnswerSink,
) {
  const routes = new Routes()
  const configure = ({ groups, zones, standIns }: UpstreamTable): void =>
    routes.configure(groups, zones, standIns, world.now())
  configure(options.upstreams)
  const random = randomId()
  const channels = new SocketChannels(world.epoll, {
    flightsMax: FLIGHTS_MAX + OWN_CHANNELS,
    mark: options.ownMark,
    token: TOKEN_FLIGHT,
    random,
    connectTls: tlsConnector(port),
  })
  const forwarder = new Forwarder(
    routes,
    channels,
    {
      arrived: (flight, bytes, at, answer, nowMs) =>
        sink().arrived(flight, bytes, at, answer, nowMs),
      failed: (flight, failure, nowMs) => sink().failed(flight, failure, nowMs),
      relayed: (slot, bytes, at, length, nowMs) => sink().relayed(slot, bytes, at, length, nowMs),
      relayFailed: (slot, failure, nowMs) => sink().relayFailed(slot, failure, nowMs),
      forgotten: (group, nowMs) => sink().forgotten(group, nowMs),
    },
    { flightsMax: FLIGHTS_MAX, random, answer: new Answer() },
  )
  return { forwarder, configure }
}

function buildLoop(world: World, options: WorkerStart, port: MessagePort) {
  const { now, control, counters, tables, policy, epoll, cache, learned, nameSeed } = world
  const tcp = new TcpServer(epoll, {
    ...{ token: TOKEN_TCP, ownerMark: options.ownerMark, seed: nameSeed, counters },
  })
  const sockets: ListenSocket[] = []
  const replies = new SocketReplies(sockets, tcp, counters)
  const { forwarder, configure } = buildForwarder(world, options, port, () => pipeline)
  const { grants } = options
  const grantWriter =
    grants === null ? null : new PacketGrantWriter({ ...grants, capacity: GRANT_BATCH })
  const records = new RingWriter(Region.attach(options.records).i32)
  const pipeline: Pipeline = new Pipeline(
    {
      cache,
      learned,
      replies,
      transport: forwarder,
      grantWriter,
      grants: new GrantTable(GRANTS_REMEMBERED),
      records,
      counters,
    },
    policy,
    {
      slotsMax: SLOTS_MAX,
      flightsMax: FLIGHTS_MAX,
      queriesPerSecond: options.queriesPerSecond,
      grantsMax: options.grantsMax,
      maxTtlSeconds: options.maxTtlSeconds,
      minTtlSeconds: options.minTtlSeconds,
      maxNegativeTtlSeconds: options.maxNegativeTtlSeconds,
      prefetch: options.prefetch,
      nothingBelowNxdomain: options.nothingBelowNxdomain,
      rotate: options.rotate,
      nameSeed,
    },
  )
  pipeline.setWallClock(Date.now(), now())
  const wake = EventFd.attach(options.wakeFd)
  epoll.add(options.wakeFd, EPOLLIN, TOKEN_WAKE)
  const answers = new RingReader(Region.attach(options.answers).i32)
  const inbox = new Inbox({
    ...{ control, tables, answers, wake, policy, pipeline, forwarder, cache, learned, tcp },
    ...{ counters, nameSeed, now, fail },
  })
  const loop = new Loop(
    {
      ...{ epoll, pipeline, forwarder, cache, replies, tcp, grantWriter, inbox, counters, control },
      ...{ now, records, wakeMain: EventFd.attach(options.wakeMainFd) },
    },
    sockets,
  )
  return { loop, replies, forwarder, configure }
}

function start(port: MessagePort, options: WorkerStart): void {
  const world = openWorld(options)
  const { loop, replies, forwarder, configure } = buildLoop(world, options, port)
  port.on('message', (request: WorkerRequest) => {
    if (request.kind === 'sockets') {
      loop.useSockets(request.sockets)
      port.postMessage({ kind: 'sockets', id: request.id })
    } else if (request.kind === 'upstreams') configure(request.upstreams)
    else if (request.kind === 'prove') {
      const { id } = request
      replies.onProof = (rcode) => port.postMessage({ kind: 'prove', id, rcode })
      loop.prove(world.now())
    } else port.postMessage(answerRequest({ ...world, forwarder }, request))
  })
  const turn = (): void => {
    if (loop.turn()) setImmediate(turn)
    else setTimeout(turn, 1)
  }
  turn()
}

/** Has the main thread, where TLS can be spoken, encrypt one end of a pair; the other is ours. */
function tlsConnector(port: MessagePort): (server: Server) => number {
  const pair = new StreamPair()
  return (server) => {
    const opened = pair.open()
    if (opened < 0) return opened
    port.postMessage({ kind: 'tls', fd: pair.far, server } satisfies TlsRequest)
    return pair.near
  }
}

/** IDs from a cryptographic source, drawn in bulk: one call to it would cost more than a query. */
function randomId(): () => number {
  const pool = new Uint16Array(2048)
  let used = pool.length
  return () => {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    return pool[used++]!
  }
}

function randomWord(): number {
  return randomFillSync(new Uint32Array(1))[0]!
}

// Without data nobody wants a data plane: the build loads this file only to compile it.
if (parentPort !== null && workerData !== null && workerData !== undefined) {
  start(parentPort, workerData as WorkerStart)
}
