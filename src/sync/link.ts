/**
 * The link between agent and proxy of a node: sockets, policy, answers and flows go over it.
 *
 * One in each process, on the main thread; the daemon opens it before anything else, asks it what
 * the peer has, tells it what changes, and closes it last. Both ends are alike: who is called
 * agent decides only which of two connections stays (meeting.ts) and whose policy wins a tie
 * (policy-exchange.ts). The messages are described in protocol.md.
 *
 * What must stay true:
 * - Nothing that a peer sends or fails to read throws, waits, or costs memory without bound. A
 *   message that breaks the rules ends the link, which then begins anew by comparing what both
 *   sides hold; so no message is ever missed for good.
 * - It carries and compares; what a policy, a socket or a record means is the daemon's business.
 * - Silence is measured in our own running time: who stood still must not call the other mute.
 */
import { randomUUID } from 'node:crypto'
import { RECORD_FLOW, RECORD_LEARNED } from '../flow/record.ts'
import { lookEvery } from '../linux/looks.ts'
import { type Log, Repeats } from '../log.ts'
import { Announcements } from './announcements.ts'
import { ANSWER_MS, Asks } from './asks.ts'
import type { Connection } from './connection.ts'
import { areFrames } from './frames.ts'
import { Meeting } from './meeting.ts'
import { Outbox } from './outbox.ts'
import type {
  AnnounceOutcome,
  CatchUpOutcome,
  FlowSource,
  PeerChange,
  PeerHandlers,
  PeerState,
  Role,
} from './peer.ts'
import { PolicyExchange, type PolicyStamp } from './policy-exchange.ts'
import {
  ANSWERS,
  ASK,
  BEAT,
  DONE,
  FLOWS,
  GOODBYE,
  type Hello,
  type Holding,
  json,
  POLICY,
  PROTOCOL,
  PROTOCOL_SINCE,
  readAsk,
  readBeat,
  readDone,
  readGoodbye,
  readPolicy,
  readSockets,
  SOCKETS,
  type Want,
} from './protocol.ts'
import { closeAll, SocketAssembly } from './socket-assembly.ts'

/** While somebody waits for the peer or a beat of it is overdue, and otherwise. */
const TICK_MS = 100
const TICK_IDLE_MS = 500
/** How much later than it should a tick may come: the rest of the time we did not run. */
const TICK_LATE_MS_MAX = 100
const BEAT_MS = 500
/** Longer than a beat that comes in time takes; from then on silence is watched more closely. */
const OVERDUE_MS = BEAT_MS + TICK_LATE_MS_MAX
const MUTE_MS = 1000

export interface PeerLinkOptions {
  /** Directory of the node's sockets, which must exist and be ours. */
  readonly run: string
  readonly role: Role
  /** Our place among the processes that write grants. */
  readonly place: number
  readonly version: string
  readonly log: Log
  /** Milliseconds on a clock that never jumps. */
  readonly now: () => number
}

export interface CatchUpOptions {
  /**
   * 'everything' for a process that starts; 'changes' for one that stood still: newer policy,
   * newer sockets, and (behind the answer) all answers of the peer if some were lost on the way.
   * Default: everything.
   */
  readonly want?: Want
  /** How long nothing may come until the peer counts as mute; default 1 s. */
  readonly timeoutMs?: number
}

export interface LinkCounters {
  /** Connections that were not taken: another user, another protocol, nothing said. */
  refused: number
  /** Links that ended because of a message that broke the rules. */
  malformed: number
  /** Messages of a type that we do not know, which were ignored. */
  unknown: number
}

interface Peer {
  readonly hello: Hello
  readonly role: Role
  holding: Holding
  isLinked: boolean
  isLeaving: boolean
  isMute: boolean
  lastHeardMs: number
}

export class PeerLink {
  readonly counters: LinkCounters = { refused: 0, malformed: 0, unknown: 0 }
  readonly #options: PeerLinkOptions
  readonly #handlers: PeerHandlers
  readonly #repeats: Repeats
  readonly #meeting: Meeting
  readonly #policy: PolicyExchange
  readonly #announcements: Announcements
  readonly #asks = new Asks()
  readonly #outbox: Outbox
  readonly #arriving = new SocketAssembly()
  #looks: Disposable
  #everyMs = TICK_IDLE_MS
  readonly #instance = randomUUID()
  #connection: Connection | null = null
  #peer: Peer | null = null
  #tickedMs: number
  /** When the next tick should come. */
  #dueMs: number
  /** Of our running time, since the peer was heard and since our last beat. */
  #unheardMs = 0
  #unbeatenMs = 0
  #isClosed = false

  /** Listens, and tries to reach the peer. Throws SocketError, EADDRINUSE when our role runs. */
  static open(options: PeerLinkOptions, handlers: PeerHandlers): PeerLink {
    return new PeerLink(options, handlers)
  }

  private constructor(options: PeerLinkOptions, handlers: PeerHandlers) {
    const { run, role, log, now } = options
    this.#options = options
    this.#handlers = handlers
    this.#repeats = new Repeats(log)
    const repeats = this.#repeats
    this.#policy = new PolicyExchange(role, handlers, repeats, () => this.#outbox.beat(false))
    this.#announcements = new Announcements(
      handlers.isPeerAlive === undefined ? null : () => handlers.isPeerAlive!(),
    )
    this.#outbox = new Outbox({
      handlers,
      repeats,
      holding: () => this.#holding(),
      question: () => this.#asks.due,
    })
    this.#tickedMs = now()
    this.#dueMs = this.#tickedMs + this.#everyMs
    this.#meeting = new Meeting(
      { run, role, repeats },
      {
        hello: () => this.#hello(),
        linked: (connection, hello) => this.#linked(connection, hello),
        received: (type, body, descriptors) => this.#received(type, body, descriptors),
        ended: (why, isFault) => this.#ended(why, isFault),
        refused: () => this.counters.refused++,
      },
    )
    this.#meeting.isAnybodyThere()
    this.#looks = lookEvery(this.#everyMs, () => this.#tick())
  }

  /** What is known of the other process; null before the first link. */
  get peer(): PeerState | null {
    const peer = this.#peer
    if (peer === null) return null
    const { hello, role, holding, isLinked, isLeaving, isMute, lastHeardMs } = peer
    const { pid, instance, place, version } = hello
    const { revision, generation, isReading } = holding
    const isLagging = isLinked && this.#outbox.isLagging
    return {
      role,
      pid,
      instance,
      place,
      version,
      revision,
      generation,
      isReading,
      isLinked,
      isLeaving,
      isMute,
      lastHeardMs,
      isLagging,
    }
  }

  /** Somebody is at the peer's path, found out now; one that hangs may never have been linked. */
  isAnybodyThere(): boolean {
    return this.#meeting.isAnybodyThere()
  }

  /** Answers that the peer did not get because it did not read; it gets them when it asks. */
  get answersLost(): number {
    return this.#outbox.answersLost
  }

  /**
   * Asks the peer for what we lack, in whatever state it is. Resolves when it has arrived and its
   * policy is in force here; for that last part there is no deadline, since a process that goes on
   * without it would act on a policy that is known to be old.
   */
  async catchUp(options: CatchUpOptions = {}): Promise<CatchUpOutcome> {
    const { want = 'everything', timeoutMs = ANSWER_MS } = options
    if (this.#isClosed) return 'nobody'
    const outcome = this.#asks.wait(want, timeoutMs)
    this.#setPace()
    if (this.#connection !== null) this.#ask()
    else this.#lookForNobody()
    return outcome
  }

  /** Tells the peer what an upstream answered, as frames; false when it did not get all of it. */
  tellAnswers(frames: Uint8Array): boolean {
    return this.#outbox.tellAnswers(frames)
  }

  /**
   * Sends the peer flows from now on, as it takes them: at the next tick, or at the next
   * `flowsWaiting`. A slow peer gets them later; a new process all that the source still has.
   */
  streamFlows(source: FlowSource): void {
    this.#outbox.streamFlows(source)
  }

  /** The source has flows again. May be called for each: it costs next to nothing. */
  flowsWaiting(): void {
    if (!this.#outbox.isLagging) this.#outbox.pump()
  }

  /**
   * Tells the peer a policy that is newer than every one before, here and there (`peer.revision`).
   * Resolves when no former one can be acted on there any more; who announces the next meanwhile
   * waits for both. As long as the peer says that it is there and can't enforce it, it waits.
   */
  async announceSnapshot(revision: number, text: string): Promise<AnnounceOutcome> {
    const announced = this.#policy.announce({ revision, text })
    if (this.#isClosed) return 'gone'
    const outcome = this.#announcements.wait(announced)
    this.#setPace()
    if (this.#connection === null) this.#lookForNobody()
    else {
      this.#announcements.peerHolds(this.#peer!.holding, this.#policy.newest)
      this.#offerPolicy(this.#peer!.holding)
      this.#outbox.beat(true)
    }
    return outcome
  }

  /** `handlers.sockets` gives a new generation. */
  announceSockets(): void {
    if (this.#connection !== null) this.#offerSockets(this.#peer!.holding)
  }

  /** `handlers.isReading` says something else than before. */
  announceReading(): void {
    if (this.#connection !== null) this.#outbox.beat(false)
  }

  /** Says goodbye. Whoever waits for the peer is told that nobody is there. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#looks[Symbol.dispose]()
    this.#meeting.close()
    this.#connection?.send(GOODBYE, json({ reason: 'stopping' }))
    this.#connection?.close()
    this.#connection = null
    this.#outbox.close()
    this.#policy.close()
    this.#arriving.drop()
    this.#asks.close()
    this.#announcements.gone()
    this.#repeats.close()
    if (this.#peer !== null) this.#peer.isLinked = false
  }

  #hello(): Uint8Array {
    const { role, place, version } = this.#options
    this.#policy.refresh()
    return json({
      protocol: PROTOCOL,
      protocolSince: PROTOCOL_SINCE,
      role,
      pid: process.pid,
      instance: this.#instance,
      place,
      version,
      ...this.#holding(),
    })
  }

  #holding(): Holding {
    const { revision, digest } = this.#policy.held
    const generation = this.#handlers.sockets()?.generation ?? -1
    return { revision, digest, generation, isReading: this.#handlers.isReading() }
  }

  #linked(connection: Connection, hello: Hello): void {
    const { log, role, now } = this.#options
    const isNewPeer = this.#peer?.hello.instance !== hello.instance
    const { revision, digest, generation, isReading } = hello
    this.#connection = connection
    this.#unheardMs = 0
    this.#unbeatenMs = 0
    this.#peer = {
      hello,
      role: role === 'agent' ? 'proxy' : 'agent',
      holding: { revision, digest, generation, isReading },
      isLinked: true,
      isLeaving: false,
      isMute: false,
      lastHeardMs: now(),
    }
    const { protocol, pid, version } = hello
    log.info(
      { peer: hello.role, pid, version, protocol, revision, generation },
      'linked to the peer',
    )
    this.#outbox.attach(connection, isNewPeer)
    // The proxy said its HELLO a while before it was answered: what it holds may have changed.
    this.#outbox.beat(this.#announcements.areWaiting)
    this.#policy.refresh()
    this.#peerHolds(this.#peer.holding)
    this.#offer(this.#peer.holding)
    if (this.#asks.due !== null) this.#ask()
    this.#changed('linked')
  }

  /** The connection is closed already. */
  #ended(why: string, isFault: boolean): void {
    const peer = this.#peer!
    this.#connection = null
    this.#outbox.detach()
    this.#policy.unlinked()
    this.#arriving.drop()
    peer.isLinked = false
    peer.isMute = false
    this.#meeting.unlinked(isFault)
    const fields = { peer: peer.role, pid: peer.hello.pid, why }
    if (isFault) {
      this.counters.malformed++
      this.#repeats.warn('fault', fields, 'the link to the peer was cut: it broke the rules')
    } else if (peer.isLeaving) this.#options.log.info(fields, 'the peer has stopped')
    else this.#options.log.warn(fields, 'the link to the peer has gone')
    this.#changed('unlinked')
    setImmediate(() => this.#lookForNobody())
  }

  #received(type: number, body: Uint8Array, descriptors: number[]): 'fine' | 'malformed' {
    this.#heard()
    switch (type) {
      case BEAT:
        return this.#receivedBeat(body)
      case ASK:
        return this.#receivedAsk(body)
      case SOCKETS:
        return this.#receivedSockets(body, descriptors)
      case POLICY:
        return this.#receivedPolicy(body)
      case ANSWERS:
        this.#asks.progress()
        return this.#receivedRecords(RECORD_LEARNED, body)
      case FLOWS:
        return this.#receivedRecords(RECORD_FLOW, body)
      case DONE:
        return this.#receivedDone(body)
      case GOODBYE:
        return this.#receivedGoodbye(body)
      default:
        this.counters.unknown++
        this.#repeats.warn(`type ${type}`, { type }, 'a message of the peer is not known here')
        return 'fine'
    }
  }

  #receivedBeat(body: Uint8Array): 'fine' | 'malformed' {
    const beat = readBeat(body)
    if (beat === null) return 'malformed'
    this.#peerHolds(beat)
    if (beat.isReplyWanted) this.#outbox.beat(false)
    return 'fine'
  }

  #receivedAsk(body: Uint8Array): 'fine' | 'malformed' {
    const ask = readAsk(body)
    if (ask === null) return 'malformed'
    this.#policy.refresh()
    this.#peerHolds(ask)
    this.#offer(ask)
    this.#outbox.answer(ask.id, ask.want)
    return 'fine'
  }

  #receivedSockets(body: Uint8Array, descriptors: number[]): 'fine' | 'malformed' {
    const part = readSockets(body)
    const set = part === null ? 'malformed' : this.#arriving.take(part, descriptors)
    if (set === 'malformed') return 'malformed'
    this.#asks.progress()
    if (set === null) return 'fine'
    if (set.generation > this.#holding().generation) {
      this.#handlers.takeSockets(set)
      this.#outbox.beat(false)
    } else closeAll(set.sockets)
    return 'fine'
  }

  #receivedPolicy(body: Uint8Array): 'fine' | 'malformed' {
    const chunk = readPolicy(body)
    const verdict = chunk === null ? 'malformed' : this.#policy.take(chunk, this.#peer!.role)
    if (verdict === 'malformed') return 'malformed'
    this.#asks.progress()
    if (verdict === 'unwanted') {
      // It does not know what we have: say it, and what is newer than what it offers.
      this.#outbox.beat(false)
      this.#offerPolicy(chunk!)
    }
    return 'fine'
  }

  #receivedRecords(kind: number, body: Uint8Array): 'fine' | 'malformed' {
    if (!areFrames(body)) return 'malformed'
    this.#handlers.takeRecords(kind, body)
    return 'fine'
  }

  #receivedDone(body: Uint8Array): 'fine' | 'malformed' {
    const id = readDone(body)
    if (id === null) return 'malformed'
    void this.#asks.answered(id, () => this.#policy.settled())
    return 'fine'
  }

  #receivedGoodbye(body: Uint8Array): 'fine' {
    this.#peer!.isLeaving = true
    this.#changed('leaving')
    this.#connection?.close()
    this.#ended(readGoodbye(body), false)
    return 'fine'
  }

  #heard(): void {
    const peer = this.#peer!
    peer.lastHeardMs = this.#options.now()
    // The next tick counts from the one before.
    this.#unheardMs = -this.#ranMs(peer.lastHeardMs)
    if (!peer.isMute) return
    peer.isMute = false
    this.#options.log.info({ peer: peer.role, pid: peer.hello.pid }, 'the peer is heard again')
    this.#changed('heard')
  }

  #peerHolds({ revision, digest, generation, isReading }: Holding): void {
    const peer = this.#peer!
    const wasReading = peer.holding.isReading
    peer.holding = { revision, digest, generation, isReading }
    this.#announcements.peerHolds({ revision, digest }, this.#policy.newest)
    if (isReading !== wasReading) this.#changed('reading')
  }

  #offer(holding: Holding): void {
    this.#offerSockets(holding)
    this.#offerPolicy(holding)
  }

  #offerSockets(holding: Holding): void {
    if (this.#holding().generation > holding.generation) this.#outbox.sendSockets()
  }

  #offerPolicy(held: PolicyStamp): void {
    const due = this.#policy.dueTo(held)
    if (due !== null) this.#outbox.sendPolicy(due)
  }

  #ask(): void {
    this.#policy.refresh()
    this.#outbox.ask()
  }

  #tick(): void {
    const nowMs = this.#options.now()
    const passedMs = this.#ranMs(nowMs)
    this.#tickedMs = nowMs
    this.#dueMs = nowMs + this.#everyMs
    this.#meeting.tick(passedMs)
    if (this.#connection === null) this.#lookForNobody()
    else this.#tickLink(passedMs)
    this.#asks.tick(passedMs)
    const unheardMs = this.#connection === null ? Number.POSITIVE_INFINITY : this.#unheardMs
    this.#announcements.tick(passedMs, unheardMs)
    this.#setPace()
  }

  /** Of our running time, since the last tick. */
  #ranMs(nowMs: number): number {
    return Math.min(nowMs, this.#dueMs + TICK_LATE_MS_MAX) - this.#tickedMs
  }

  /** Ticks as often as those who wait want it, or as it takes to call a peer mute in time. */
  #setPace(): void {
    const areWaiting = this.#asks.areWaiting || this.#announcements.areWaiting
    const isHeard = this.#peer?.isMute !== false || this.#unheardMs <= OVERDUE_MS
    const isOverdue = this.#connection !== null && !isHeard
    const everyMs = areWaiting || isOverdue ? TICK_MS : TICK_IDLE_MS
    if (everyMs === this.#everyMs || this.#isClosed) return
    this.#everyMs = everyMs
    this.#dueMs = this.#options.now() + everyMs
    this.#looks[Symbol.dispose]()
    this.#looks = lookEvery(everyMs, () => this.#tick())
  }

  #tickLink(passedMs: number): void {
    const peer = this.#peer!
    this.#unheardMs += passedMs
    this.#unbeatenMs += passedMs
    if (this.#unheardMs > MUTE_MS && !peer.isMute) {
      peer.isMute = true
      const fields = { peer: peer.role, pid: peer.hello.pid, unheardMs: this.#unheardMs }
      this.#options.log.warn(fields, 'the peer is mute: stopped, hung, or without processor time')
      this.#changed('mute')
    }
    const isUrgent = this.#announcements.areWaiting
    if (isUrgent || this.#unbeatenMs + this.#everyMs >= BEAT_MS) {
      this.#unbeatenMs = 0
      this.#outbox.beat(isUrgent)
    } else this.flowsWaiting()
  }

  /** Those who wait for somebody must not wait for nobody. */
  #lookForNobody(): void {
    if (this.#connection !== null || this.#isClosed) return
    if (!this.#asks.areWaiting && !this.#announcements.areWaiting) return
    if (this.#meeting.isAnybodyThere()) return
    this.#asks.nobody()
    this.#announcements.gone()
  }

  #changed(change: PeerChange): void {
    this.#handlers.changed(this.peer!, change)
  }
}
