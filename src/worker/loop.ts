/**
 * The data plane's loop: epoll → receive → pipeline → send, over and over, in one thread.
 *
 * It waits in epoll_wait and nowhere else, and there never longer than SLEEP_MS (SLEEP_IDLE_MS when
 * nothing has come for a while): a longer sleep would keep signals and exits waiting, and would
 * lengthen what a stopped peer can do harm with (a process that is stopped inside epoll_wait can
 * swallow the one wake-up that was meant for a datagram; each waking therefore looks at the shared
 * sockets once without being told to). The second of two processes only looks, for as long as the
 * first one reads (worker/second-reader.ts).
 *
 * `turn` runs until TURN_MS are over (TURN_IDLE_MS while nothing comes), or until it is woken to
 * give the thread back to the runtime, which delivers messages and calls it again (worker/main.ts).
 *
 * What must stay true:
 * - One reading of the clock for each waking; everything in it happens "now".
 * - Grants are in the kernel before an answer is in the batch; the batch leaves at the end of the
 *   waking (pipeline/admit.ts, worker/replies.ts).
 * - A loop that stood still for longer than its alive element lasts may have missed a change of
 *   policy or a revocation: it reads no query and says nothing of being alive until the main
 *   thread has caught up with the peer (AWAY and BACK in worker/control.ts).
 */
import type { AnswerCache } from '../cache/cache.ts'
import { ALIVE_MS, type GrantWriter } from '../datapath/driver.ts'
import type { RingWriter } from '../flow/ring.ts'
import { EPOLLEXCLUSIVE, EPOLLIN } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import type { EventFd } from '../linux/eventfd.ts'
import { PollSet } from '../linux/poll.ts'
import { ReceiveBatch } from '../linux/udp-batch.ts'
import type { Pipeline } from '../pipeline/pipeline.ts'
import { CHANNEL_PROOF } from '../pipeline/arrival.ts'
import { type Counters, counterIndex } from '../pipeline/counters.ts'
import type { Forwarder } from '../upstream/forwarder.ts'
import {
  ALIVE_EVERY_MS,
  AWAY,
  BACK,
  IDLE_AFTER_MS,
  LAG_MS,
  MAIN_ASLEEP,
  MODE,
  MODE_DRAIN,
  MODE_SERVE,
  PEER,
  PEER_READING,
  SLEEP_IDLE_MS,
  STATE,
  STATE_AWAY,
  STATE_DRAINED,
  STATE_DRAINING,
  STATE_HOLDING,
  STATE_SERVING,
  TURNS,
  WORKER_REPORT_IDLE_MS,
  WORKER_REPORT_MS,
} from './control.ts'
import type { Inbox } from './inbox.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import type { SocketReplies } from './replies.ts'
import { SecondReader } from './second-reader.ts'
import type { TcpServer } from './tcp-server.ts'

/** Tokens say what an event is about: a kind, and a number of that kind. */
export const TOKEN_UDP = 0x1000000
export const TOKEN_TCP_LISTENER = 0x2000000
export const TOKEN_TCP = 0x3000000
export const TOKEN_FLIGHT = 0x4000000
export const TOKEN_WAKE = 0x5000000
const KIND_MASK = 0xff000000
const NUMBER_MASK = 0x00ffffff

/**
 * How long a turn may last before the runtime gets the thread for a moment. A message of the main
 * thread comes with a signal that ends the turn at once.
 */
const TURN_MS = 100
const TURN_IDLE_MS = 1000
const TICK_MS = 20
const TICK_IDLE_MS = 100
const BATCH_MAX = 64
/** A waking that takes longer than this has got more than it can do at once. */
const SLOW_MS = 5
/**
 * For so long after we last said that we stay, the kernel may hand us questions that it would
 * otherwise have let go on: what it was told counts for ALIVE_MS, by a clock that may tick every
 * 10 ms only, and then they are to be read.
 */
const INTERCEPTED_MS = ALIVE_MS + 20
/** Entries of the cache looked at in a report. */
const SWEEP_ENTRIES = 64

const PACKETS_TRUNCATED = counterIndex('malformed')
const QUERIES_TCP = counterIndex('queriesTcp')
const TIMES_AWAY = counterIndex('away')

/** '. NS', RD: what every resolver knows. */
const PROOF_QUERY = Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1)
const NOBODY = new Uint8Array(16)

export interface LoopParts {
  readonly epoll: Epoll
  readonly pipeline: Pipeline
  readonly forwarder: Forwarder
  readonly cache: AnswerCache
  readonly replies: SocketReplies
  readonly tcp: TcpServer
  readonly grantWriter: GrantWriter | null
  readonly inbox: Inbox
  /** Wakes the main thread, which otherwise looks seldom. */
  readonly wakeMain: EventFd
  /** Flows and learned answers for the main thread. */
  readonly records: RingWriter
  readonly counters: Counters
  /** worker/control.ts */
  readonly control: Int32Array
  /** ms since the worker began, whole. */
  readonly now: () => number
}

export class Loop {
  readonly #parts: LoopParts
  readonly #batch = new ReceiveBatch()
  /** Sockets by channel; a closed one leaves its place, so that late replies find no other's. */
  readonly #sockets: ListenSocket[]
  readonly #poll = new PollSet()
  readonly #second = new SecondReader()
  /** Whether we serve: only then may anything be taken from the sockets, waited for or not. */
  #isReading = false
  /** Which of them are in the epoll. */
  readonly #isWatched = { udp: false, tcp: false }
  #batchLimit = BATCH_MAX
  #lastMs: number
  #tickMs = 0
  #reportMs = 0
  #isWoken = false
  #aliveMs = -ALIVE_EVERY_MS
  /** When we last said that we stay. */
  #stayMs = -INTERCEPTED_MS
  #readMs = 0
  /** When something last happened: a sleep until then is short. */
  #workedMs = 0
  /** Nothing has come for a while and nobody waits: what is done now and then is done less often. */
  #isIdle = false

  /** @param sockets  the array that `useSockets` fills and SocketReplies sends by */
  constructor(parts: LoopParts, sockets: ListenSocket[]) {
    this.#parts = parts
    this.#sockets = sockets
    this.#lastMs = parts.now()
  }

  /** A new set of sockets replaces the present one, or is the first. */
  useSockets(sockets: readonly ListenSocket[]): void {
    this.#leave()
    this.#sockets.length = 0
    this.#sockets.push(...sockets)
    this.#poll.watch(sockets.map(({ fd }) => fd))
  }

  /**
   * Asks ourselves a question, by the way that every question takes but for the socket: a process
   * that can't answer it must not read those of others. Replies.onProof gets the end of it.
   */
  prove(nowMs: number): void {
    const { pipeline } = this.#parts
    const arrival = pipeline.arrival
    arrival.channel = CHANNEL_PROOF
    arrival.family = 4
    arrival.isIntercepted = false
    arrival.addresses = NOBODY
    arrival.sourceAt = 0
    arrival.destinationAt = 0
    arrival.sourcePort = 0
    arrival.destinationPort = 0
    arrival.interfaceIndex = 0
    pipeline.take(PROOF_QUERY, 0, PROOF_QUERY.length, nowMs)
  }

  /**
   * One stretch of work; the runtime gets the thread when it returns. False while nothing may be
   * answered: the caller then lets a moment pass, since what is ready stays ready.
   */
  turn(): boolean {
    const parts = this.#parts
    const startMs = parts.now()
    let nowMs = startMs
    do {
      const count = parts.epoll.wait(this.#sleepMs(nowMs))
      nowMs = parts.now()
      if (!this.#mayWork(nowMs)) return false
      if (count > 0) {
        this.#workedMs = nowMs
        this.#handle(count, nowMs)
      }
      if (count <= 0 || nowMs - this.#readMs >= this.#second.lookEveryMs) this.#readSockets(nowMs)
      parts.forwarder.step(nowMs)
      if (nowMs - this.#tickMs >= (this.#isIdle ? TICK_IDLE_MS : TICK_MS)) this.#tick(nowMs)
      // Nothing has come, and nobody waits: there is nothing to send, nor to tell.
      if (this.#isIdle && nowMs !== this.#workedMs) continue
      this.#wakeMain()
      const tookMs = parts.now() - nowMs
      // We were stopped in the middle: these answers were admitted by what held before.
      if (tookMs > ALIVE_MS) parts.replies.drop()
      else parts.replies.flush()
      this.#batchLimit =
        tookMs > SLOW_MS
          ? Math.max(this.#batchLimit >> 1, 1)
          : Math.min(this.#batchLimit << 1, BATCH_MAX)
    } while (!this.#isWoken && nowMs - startMs < (this.#isIdle ? TURN_IDLE_MS : TURN_MS))
    this.#isWoken = false
    parts.control[TURNS] = (parts.control[TURNS]! + 1) | 0
    return true
  }

  /** How long to wait for something to happen. */
  #sleepMs(nowMs: number): number {
    const { inbox, pipeline } = this.#parts
    if (inbox.isWaiting) return 0
    this.#isIdle = nowMs - this.#workedMs > IDLE_AFTER_MS && pipeline.waitingCount === 0
    return this.#isIdle ? SLEEP_IDLE_MS : this.#second.lookEveryMs
  }

  /** If it sleeps and there is something for it; at once, if the peer shall have it. */
  #wakeMain(): void {
    const { control, pipeline, records, wakeMain } = this.#parts
    const isAsleep = records.publish() && Atomics.exchange(control, MAIN_ASLEEP, 0) === 1
    if (pipeline.takeTold() || isAsleep) wakeMain.signal()
  }

  /**
   * What main wants, how long we stood still since the last waking, and so whether anything may be
   * asked or answered now.
   */
  #mayWork(nowMs: number): boolean {
    const { control, inbox, pipeline, counters, wakeMain } = this.#parts
    const stoodStillMs = nowMs - this.#lastMs
    this.#lastMs = nowMs
    if (stoodStillMs > control[LAG_MS]!) control[LAG_MS] = stoodStillMs
    let state = control[STATE]!
    const hasStoodStill = stoodStillMs > ALIVE_MS && state !== STATE_HOLDING
    if (hasStoodStill) {
      counters.add(TIMES_AWAY, 1)
      // Counted again when it happens while we wait: what main has found out by then is old.
      Atomics.add(control, AWAY, 1)
      pipeline.forgetGrants()
      state = STATE_AWAY
    }
    inbox.read(nowMs)
    state = this.#nextState(state, nowMs, nowMs - stoodStillMs)
    if (state === STATE_SERVING || state === STATE_DRAINING) {
      if (nowMs - this.#aliveMs >= ALIVE_EVERY_MS) this.#refreshAlive(nowMs)
    }
    if (state === STATE_SERVING) this.#read(nowMs)
    else this.#leave()
    if (control[STATE] !== state) Atomics.store(control, STATE, state)
    // Not before: main looks once for it, and then when it would have looked anyway.
    if (hasStoodStill) wakeMain.signal()
    return state !== STATE_AWAY
  }

  #nextState(state: number, nowMs: number, formerMs: number): number {
    const { control, pipeline, tcp } = this.#parts
    const mode = Atomics.load(control, MODE)
    if (mode === MODE_DRAIN) {
      // Who wants to stop does not come back: what was in hand is lost with the time that passed.
      if (state === STATE_AWAY || state === STATE_DRAINED) return STATE_DRAINED
      // By the waking before: what has come while we slept is still to be read in this one.
      if (state === STATE_SERVING && formerMs - this.#stayMs < INTERCEPTED_MS) return state
      tcp.closeIdle(nowMs)
      return pipeline.waitingCount === 0 && tcp.count === 0 ? STATE_DRAINED : STATE_DRAINING
    }
    if (mode !== MODE_SERVE) return STATE_HOLDING
    const isAway = state === STATE_AWAY && control[AWAY] !== Atomics.load(control, BACK)
    return isAway ? STATE_AWAY : STATE_SERVING
  }

  #refreshAlive(nowMs: number): void {
    const { control, grantWriter, pipeline } = this.#parts
    this.#aliveMs = nowMs
    if (grantWriter === null) return
    const isLeaving = Atomics.load(control, MODE) === MODE_DRAIN
    if (!isLeaving) this.#stayMs = nowMs
    if (!grantWriter.refreshAlive(isLeaving)) pipeline.forgetGrants()
  }

  #handle(count: number, nowMs: number): void {
    const { epoll, forwarder, tcp, inbox } = this.#parts
    for (let index = 0; index < count; index++) {
      const token = epoll.token(index)
      const number = token & NUMBER_MASK
      switch (token & KIND_MASK) {
        case TOKEN_UDP:
          this.#receive(number, nowMs)
          break
        case TOKEN_TCP_LISTENER:
          if (this.#isReading) {
            const socket = this.#sockets[number]!
            tcp.accept(socket.fd, socket.isTransparent, nowMs)
          }
          break
        case TOKEN_TCP:
          this.#nowMs = nowMs
          tcp.ready(number, epoll.events(index), this.#takeMessage, nowMs)
          break
        case TOKEN_FLIGHT:
          forwarder.channelReady(number, epoll.events(index), nowMs)
          break
        default:
          inbox.clear()
          this.#isWoken = true
      }
    }
  }

  /** Looks at every shared socket without having been woken for it. */
  #readSockets(nowMs: number): void {
    this.#readMs = nowMs
    if (!this.#isReading) return
    const ready = this.#poll.look()
    if (!this.#isWatched.udp) this.#second.looked(ready > 0, nowMs)
    if (ready <= 0) return
    this.#workedMs = nowMs
    for (let channel = 0; channel < this.#sockets.length; channel++) {
      if (!this.#poll.isReady(channel)) continue
      const socket = this.#sockets[channel]!
      if (socket.kind === 'udp') this.#receive(channel, nowMs)
      else this.#parts.tcp.accept(socket.fd, socket.isTransparent, nowMs)
    }
  }

  #receive(channel: number, nowMs: number): void {
    if (!this.#isReading) return
    const { pipeline, counters } = this.#parts
    const socket = this.#sockets[channel]!
    const batch = this.#batch
    const count = batch.receive(socket.fd, this.#batchLimit)
    const arrival = pipeline.arrival
    for (let index = 0; index < count; index++) {
      if (batch.isTruncated(index)) {
        counters.add(PACKETS_TRUNCATED, 1)
        continue
      }
      const port = batch.destinationPort(index)
      arrival.channel = channel
      arrival.family = socket.family
      arrival.isIntercepted = socket.isTransparent
      arrival.addresses = batch.u8
      arrival.sourceAt = batch.sourceAt(index)
      arrival.sourcePort = batch.sourcePort(index)
      arrival.destinationAt = batch.destinationAt(index)
      arrival.destinationPort = port === 0 ? socket.port : port
      arrival.interfaceIndex = batch.interfaceIndex(index)
      const at = batch.packetAt(index)
      pipeline.take(batch.u8, at, at + batch.packetBytes(index), nowMs)
    }
  }

  #nowMs = 0

  readonly #takeMessage = (connection: number, at: number, end: number): boolean => {
    const { pipeline, tcp, counters } = this.#parts
    const arrival = pipeline.arrival
    counters.add(QUERIES_TCP, 1)
    arrival.channel = tcp.channelOf(connection)
    arrival.family = tcp.families[connection]!
    arrival.isIntercepted = tcp.isIntercepted[connection] === 1
    arrival.addresses = tcp.addresses
    arrival.sourceAt = tcp.addressesAt(connection)
    arrival.destinationAt = arrival.sourceAt + 16
    arrival.sourcePort = tcp.sourcePorts[connection]!
    arrival.destinationPort = tcp.destinationPorts[connection]!
    arrival.interfaceIndex = 0
    return pipeline.take(tcp.input, at, end, this.#nowMs)
  }

  #tick(nowMs: number): void {
    const { forwarder, pipeline, tcp, cache, inbox } = this.#parts
    this.#tickMs = nowMs
    forwarder.tick(nowMs)
    pipeline.tick(nowMs)
    // Beats, gauges, old connections and dead answers need not be looked at more often.
    if (nowMs - this.#reportMs < (this.#isIdle ? WORKER_REPORT_IDLE_MS : WORKER_REPORT_MS)) return
    this.#reportMs = nowMs
    tcp.sweep(nowMs)
    cache.sweep(nowMs, SWEEP_ENTRIES)
    inbox.report()
  }

  /** Connections are anybody's: they end with who has accepted them, so each has some of them. */
  #read(nowMs: number): void {
    this.#isReading = true
    this.#watch('tcp', true)
    const isPeerReading = this.#parts.control[PEER] === PEER_READING
    this.#watch('udp', this.#second.isReading(isPeerReading, nowMs))
  }

  /** Must come before a shared socket is closed: a closed but registered one swallows wake-ups. */
  #leave(): void {
    this.#isReading = false
    this.#watch('tcp', false)
    this.#watch('udp', false)
  }

  #watch(kind: ListenSocket['kind'], isWanted: boolean): void {
    if (this.#isWatched[kind] === isWanted) return
    this.#isWatched[kind] = isWanted
    const { epoll } = this.#parts
    for (let channel = 0; channel < this.#sockets.length; channel++) {
      const socket = this.#sockets[channel]!
      if (socket.kind !== kind) continue
      const token = (kind === 'udp' ? TOKEN_UDP : TOKEN_TCP_LISTENER) + channel
      if (isWanted) epoll.add(socket.fd, EPOLLIN | EPOLLEXCLUSIVE, token)
      else epoll.remove(socket.fd)
    }
  }
}
