/**
 * What the main thread has for the worker, and what the worker reports: shared memory, read and
 * written at every waking of the loop, without a message and without waiting.
 */
import type { AnswerCache } from '../cache/cache.ts'
import {
  isLearned,
  LEARNED_NAME,
  type LearnedCodec,
  learnedGroupId,
  learnedNameBytes,
} from '../cache/learned.ts'
import { RECORD_LEARNED } from '../flow/record.ts'
import type { RingReader } from '../flow/ring.ts'
import type { EventFd } from '../linux/eventfd.ts'
import { type Counters, counterIndex } from '../pipeline/counters.ts'
import type { Pipeline } from '../pipeline/pipeline.ts'
import type { PolicyTable } from '../policy/table.ts'
import type { Forwarder } from '../upstream/forwarder.ts'
import { NO_GROUP } from '../upstream/transport.ts'
import { hashName } from '../wire/name.ts'
import {
  CACHE_ENTRIES,
  CACHE_KIB,
  CONNECTIONS,
  FORGET,
  MAIN_BEAT,
  PEER,
  PEER_NONE,
  TABLE,
  TABLE_TAKEN,
  WAITING,
  Watchdog,
  WORKER_BEAT,
  WORKER_REPORT_IDLE_MS,
} from './control.ts'
import type { TcpServer } from './tcp-server.ts'

/** Answers of the peer taken in one waking: a flood of them must not delay clients. */
const ANSWERS_MAX = 256

const PEER_ANSWERS = counterIndex('peerAnswers')
const UPSTREAM_QUERIES = counterIndex('upstreamQueries')
const UPSTREAM_PROBES = counterIndex('upstreamProbes')
const UPSTREAM_TIMEOUTS = counterIndex('upstreamTimeouts')
const UPSTREAM_MISMATCHES = counterIndex('upstreamMismatches')
const SERVERS_GAVE_WAY = counterIndex('serversGaveWay')
const SERVERS_REFUSED = counterIndex('serversRefused')

export interface InboxParts {
  readonly control: Int32Array
  readonly tables: readonly [Int32Array, Int32Array]
  readonly answers: RingReader
  readonly wake: EventFd
  readonly policy: PolicyTable
  readonly pipeline: Pipeline
  readonly forwarder: Forwarder
  readonly cache: AnswerCache
  readonly learned: LearnedCodec
  readonly tcp: TcpServer
  readonly counters: Counters
  readonly nameSeed: number
  readonly now: () => number
  /** Ends the process: the main thread is silent. */
  readonly fail: (why: string) => never
}

export class Inbox {
  readonly #parts: InboxParts
  readonly #watchdog: Watchdog
  #forgotten = 0
  /** More answers of the peer wait than one waking takes. */
  isWaiting = false

  constructor(parts: InboxParts) {
    this.#parts = parts
    this.#watchdog = new Watchdog(parts.control, MAIN_BEAT, WORKER_REPORT_IDLE_MS, parts.now())
  }

  read(nowMs: number): void {
    const { control, pipeline } = this.#parts
    const table = Atomics.load(control, TABLE)
    if (table !== control[TABLE_TAKEN]) this.#takeTable(table)
    const forget = Atomics.load(control, FORGET)
    if (forget !== this.#forgotten) {
      this.#forgotten = forget
      pipeline.forgetGrants()
    }
    pipeline.hasPeer = control[PEER] !== PEER_NONE
    this.#takeAnswers(nowMs)
  }

  /** The event descriptor woke us; what there is to do has been read already. */
  clear(): void {
    this.#parts.wake.clear()
  }

  /** Beats, gauges, and a look at whether the main thread still runs. */
  report(): void {
    const { control, pipeline, tcp, cache, forwarder, counters, now, fail } = this.#parts
    Atomics.add(control, WORKER_BEAT, 1)
    if (!this.#watchdog.look(now())) fail('the main thread was silent for 2 s')
    pipeline.setWallClock(Date.now(), now())
    control[WAITING] = pipeline.waitingCount
    control[CONNECTIONS] = tcp.count
    const stored = cache.counters()
    control[CACHE_ENTRIES] = stored.entries
    control[CACHE_KIB] = stored.bytesUsed / 1024
    counters.set(UPSTREAM_QUERIES, forwarder.queries)
    counters.set(UPSTREAM_PROBES, forwarder.probes)
    counters.set(UPSTREAM_TIMEOUTS, forwarder.timeouts)
    counters.set(UPSTREAM_MISMATCHES, forwarder.mismatches)
    counters.set(SERVERS_GAVE_WAY, forwarder.routes.gaveWayCount)
    counters.set(SERVERS_REFUSED, forwarder.routes.refusedCount)
  }

  #takeTable(table: number): void {
    const { control, tables, policy, pipeline } = this.#parts
    policy.open(tables[table & 1]!)
    pipeline.forgetGrants()
    Atomics.store(control, TABLE_TAKEN, table)
  }

  #takeAnswers(nowMs: number): void {
    const { answers, learned, forwarder, counters, nameSeed } = this.#parts
    let count = 0
    while (count < ANSWERS_MAX && answers.next()) {
      const bytes = answers.bytes
      const at = answers.bodyAt
      if (answers.kind === RECORD_LEARNED && isLearned(bytes, at, answers.bodyBytes)) {
        const group = forwarder.groupOfId(learnedGroupId(bytes, at))
        if (group !== NO_GROUP) {
          const nameBytes = learnedNameBytes(bytes, at)
          const hash = hashName(bytes, at + LEARNED_NAME, nameBytes, nameSeed)
          learned.insert(bytes, at, hash, group, nowMs)
          counters.add(PEER_ANSWERS, 1)
        }
      }
      answers.release()
      count++
    }
    this.isWaiting = count === ANSWERS_MAX
  }
}
