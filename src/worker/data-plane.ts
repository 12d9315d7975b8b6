/**
 * The main thread's hand on the worker: starts it, gives it policy tables and sockets, reads what
 * it records, asks it questions, and watches that it runs.
 *
 * One in each process. Everything here is the main thread's side of worker/control.ts and
 * worker/message.ts; nothing in it waits for the worker but the promises that say so.
 */
import { Worker } from 'node:worker_threads'
import { RECORD_FLOW } from '../flow/record.ts'
import { bodyBytesMax, RingReader, ringBytes, RingWriter } from '../flow/ring.ts'
import { type Watch, watchReadable } from '../linux/event-loop.ts'
import { EventFd } from '../linux/eventfd.ts'
import { lookEvery } from '../linux/looks.ts'
import { exitNow, giveWay, letOthersRun, monotonicMs, writeStderr } from '../linux/process.ts'
import { Region } from '../linux/region.ts'
import { HISTORY_RUN_WORDS } from '../observe/history.ts'
import { COUNTERS, type CounterName } from '../pipeline/counters.ts'
import {
  AWAY,
  BACK,
  CACHE_ENTRIES,
  CACHE_KIB,
  CONNECTIONS,
  CONTROL_WORDS,
  COUNTERS_AT,
  FORGET,
  LAG_MS,
  MAIN_ASLEEP,
  MAIN_BEAT,
  MAIN_LOOK_MS,
  MODE,
  MODE_DRAIN,
  MODE_SERVE,
  PEER,
  SILENT_MS,
  STATE,
  STATE_AWAY,
  STATE_DRAINED,
  STATE_SERVING,
  TABLE,
  TABLE_TAKEN,
  WAITING,
  Watchdog,
  WORKER_BEAT,
} from './control.ts'
import { tuneCompiler } from './compiler.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import { close } from '../linux/socket.ts'
import type { Server } from '../upstream/routes.ts'
import type {
  TlsRequest,
  UpstreamTable,
  WorkerReply,
  WorkerRequest,
  WorkerStart,
} from './message.ts'

/** Address space, not memory: pages count when a table first needs them. */
const TABLE_BYTES = 64 * 1024 * 1024
/** 0.4 s of flows at 50,000 q/s: four times what comes while the main thread rests (LOOK_MS). */
const RECORDS_WORDS = 1024 * 1024
const ANSWERS_WORDS = 256 * 1024
/**
 * How often the main thread looks at the worker's records and beat: while there is something …
 * A waking takes the processor from an answer or two, and only flows wait for it: what the peer
 * shall know wakes us.
 */
const LOOK_MS = 100
/** … and while somebody waits for the worker; otherwise every MAIN_LOOK_MS, or when it is woken. */
const LOOK_SOON_MS = 5
const REQUEST_MS = 2000
const FATAL_EXIT_CODE = 70

export type DataPlaneOptions = Omit<
  WorkerStart,
  'control' | 'tables' | 'records' | 'answers' | 'wakeFd' | 'wakeMainFd'
> & {
  /** The first policy table (policy/table-encode.ts). */
  readonly table: Int32Array
  /** The worker's entry: a file beside the caller's in a bundle. */
  readonly entry: URL
}

/** Flows of the worker, records one behind the other in the ring's words, valid during the call. */
export type TakeFlows = (words: Int32Array, at: number, length: number, count: number) => void
/** One learned answer; the bytes are the ring's, valid during the call. */
export type TakeAnswer = (bytes: Uint8Array, at: number, length: number) => void

type WithoutId<T> = T extends { readonly id: number } ? Omit<T, 'id'> : never
type Ask = WithoutId<Exclude<WorkerRequest, { kind: 'upstreams' }>>

export class DataPlane {
  readonly #control = Region.create(CONTROL_WORDS * 4)
  readonly #tables = [Region.create(TABLE_BYTES), Region.create(TABLE_BYTES)] as const
  readonly #records = Region.create(ringBytes(RECORDS_WORDS))
  readonly #answers = Region.create(ringBytes(ANSWERS_WORDS))
  readonly #wake = EventFd.create()
  readonly #wakeMain = EventFd.create()
  readonly #watch: Watch
  readonly #worker: Worker
  readonly #reader: RingReader
  readonly #writer: RingWriter
  readonly #watchdog: Watchdog
  #timer: NodeJS.Timeout
  readonly #looks: Disposable
  readonly #pending = new Map<number, (reply: WorkerReply) => void>()
  #nextId = 1
  #awaySeen = 0
  #published: Promise<void> = Promise.resolve()
  #isClosed = false
  #waiters: { isDone: () => boolean; resolve: () => void }[] = []

  /** Called with what the worker records; set once, before the first of it. */
  onFlows: TakeFlows = () => {}
  onAnswer: TakeAnswer = () => {}
  /** Called when the worker wants to speak TLS to an upstream; the descriptor is the callee's. */
  onTls: (fd: number, server: Server) => void = (fd) => close(fd)
  /** Called behind them: there may be something to send on. */
  onRead: () => void = () => {}
  /**
   * Called when the loop stood still for too long: find out what changed meanwhile, then call
   * `back`. Until then no query is answered here.
   */
  onAway: (back: () => void) => void = (back) => back()

  constructor(options: DataPlaneOptions) {
    const { table, entry, ...rest } = options
    // Records go round in it, so a busy node needs all of it: it has that from the start.
    this.#records.u8.fill(0)
    this.#copyTable(0, table)
    const start: WorkerStart = {
      ...rest,
      control: this.#control.descriptor,
      tables: [this.#tables[0].descriptor, this.#tables[1].descriptor],
      records: this.#records.descriptor,
      answers: this.#answers.descriptor,
      wakeFd: this.#wake.fd,
      wakeMainFd: this.#wakeMain.fd,
    }
    this.#reader = new RingReader(this.#records.i32)
    this.#writer = new RingWriter(this.#answers.i32)
    this.#watchdog = new Watchdog(this.#control.i32, WORKER_BEAT, MAIN_LOOK_MS, monotonicMs())
    tuneCompiler()
    this.#worker = new Worker(entry, { workerData: start })
    // The worker has begun at the rank that we had: when both want a processor it is the packets' now.
    giveWay()
    this.#worker.on('message', (message: WorkerReply | TlsRequest) => {
      if (message.kind === 'tls') this.onTls(message.fd, message.server)
      else this.#answered(message)
    })
    this.#worker.on('error', (error: Error) => fail(error.stack ?? error.message))
    this.#worker.on('exit', (code) => fail(`the worker thread ended (${code})`))
    this.#watch = watchReadable(this.#wakeMain.fd, () => {
      this.#wakeMain.clear()
      this.#lookNow()
    })
    this.#timer = setTimeout(() => this.#look(), LOOK_SOON_MS)
    this.#looks = lookEvery(MAIN_LOOK_MS, () => this.#lookNow())
  }

  /** Serves from these sockets; once it resolves, those before them may be closed. */
  async useSockets(sockets: readonly ListenSocket[]): Promise<void> {
    await this.ask({ kind: 'sockets', sockets })
  }

  useUpstreams(upstreams: UpstreamTable): void {
    this.#send({ kind: 'upstreams', upstreams })
  }

  serve(): Promise<void> {
    this.#setMode(MODE_SERVE)
    return this.#until(() => this.#word(STATE) === STATE_SERVING)
  }

  /** Wants nothing new, answers what is in hand; done, or `deadlineMs` are over. */
  async drain(deadlineMs: number): Promise<void> {
    this.#setMode(MODE_DRAIN)
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, deadlineMs)
    await Promise.race([this.#until(() => this.#word(STATE) === STATE_DRAINED), promise])
    clearTimeout(timer)
  }

  /** Makes a policy table the worker's. Resolves when the worker decides by it. */
  publish(table: Int32Array): Promise<void> {
    const published = this.#published.then(() => this.#publish(table))
    this.#published = published.catch(() => {})
    return published
  }

  async #publish(table: Int32Array): Promise<void> {
    // The memory that the worker does not read is free once it has taken the table before.
    await this.#until(() => this.#word(TABLE_TAKEN) === this.#word(TABLE))
    const next = this.#word(TABLE) + 1
    this.#copyTable(next & 1, table)
    Atomics.store(this.#control.i32, TABLE, next)
    this.#wake.signal()
    await this.#until(() => this.#word(TABLE_TAKEN) === next)
  }

  /** The kernel's grants may be gone: what is needed is written again. */
  forgetGrants(): void {
    Atomics.add(this.#control.i32, FORGET, 1)
    this.#wake.signal()
  }

  /** @param peer  who is there besides us: PEER_* of worker/control.ts */
  setPeer(peer: number): void {
    if (Atomics.exchange(this.#control.i32, PEER, peer) !== peer) this.#wake.signal()
  }

  /** Gives the worker a record that the peer sent; false when it can take no more just now. */
  give(kind: number, bytes: Uint8Array): boolean {
    if (bytes.length > bodyBytesMax(ANSWERS_WORDS)) return false
    const at = this.#writer.reserve(kind, bytes.length)
    if (at < 0) return false
    this.#writer.bytes.set(bytes, at)
    this.#writer.commit()
    this.#writer.publish()
    this.#wake.signal()
    return true
  }

  /** Asks the worker; rejects when it has not answered in time. */
  ask<K extends Ask['kind']>(
    request: Extract<Ask, { kind: K }>,
    timeoutMs = REQUEST_MS,
  ): Promise<Extract<WorkerReply, { kind: K }>> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new Error(`ask the data plane for ${request.kind}: no answer in ${timeoutMs} ms`))
      }, timeoutMs)
      this.#pending.set(id, (reply) => {
        clearTimeout(timer)
        resolve(reply as Extract<WorkerReply, { kind: K }>)
      })
      this.#send({ ...request, id })
    })
  }

  get isServing(): boolean {
    return this.#word(STATE) === STATE_SERVING
  }

  counters(): Record<CounterName, number> {
    const values = {} as Record<CounterName, number>
    for (const [index, [name]] of COUNTERS.entries()) {
      values[name] = this.#word(COUNTERS_AT + index) >>> 0
    }
    return values
  }

  gauges(): {
    waiting: number
    connections: number
    cacheEntries: number
    cacheKib: number
    longestLagMs: number
    recordsLost: number
  } {
    return {
      waiting: this.#word(WAITING),
      connections: this.#word(CONNECTIONS),
      cacheEntries: this.#word(CACHE_ENTRIES),
      cacheKib: this.#word(CACHE_KIB),
      longestLagMs: this.#word(LAG_MS),
      recordsLost: this.#reader.dropped,
    }
  }

  /** Ends the worker thread; the process may go on for what is left to do. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#looks[Symbol.dispose]()
    this.#watch.close()
    this.#worker.removeAllListeners('exit')
    await this.#worker.terminate()
  }

  #lookNow(): void {
    if (this.#isClosed) return
    clearTimeout(this.#timer)
    this.#look()
  }

  #look(): void {
    const control = this.#control.i32
    Atomics.add(control, MAIN_BEAT, 1)
    if (!this.#watchdog.look(monotonicMs())) {
      fail(`the data plane was silent for ${SILENT_MS} ms`)
    }
    const hasRead = this.#readRecords() || !this.#mayFallAsleep()
    if (hasRead) this.onRead()
    const away = this.#word(AWAY)
    if (away !== this.#awaySeen && this.#word(STATE) === STATE_AWAY) {
      this.#awaySeen = away
      this.onAway(() => {
        Atomics.store(control, BACK, away)
        this.#wake.signal()
      })
    }
    this.#waiters = this.#waiters.filter(({ isDone, resolve }) => {
      if (!isDone()) return true
      resolve()
      return false
    })
    if (this.#isClosed) return
    if (this.#waiters.length === 0 && !hasRead) return
    const restMs = this.#waiters.length > 0 ? LOOK_SOON_MS : LOOK_MS
    this.#timer = setTimeout(() => this.#look(), restMs)
  }

  /** Tells the worker that it must wake us; not if it has recorded something just before. */
  #mayFallAsleep(): boolean {
    Atomics.store(this.#control.i32, MAIN_ASLEEP, 1)
    if (!this.#readRecords()) return true
    Atomics.store(this.#control.i32, MAIN_ASLEEP, 0)
    return false
  }

  /** Whether there were any. */
  #readRecords(): boolean {
    const reader = this.#reader
    let hasRead = false
    while (reader.nextRun(HISTORY_RUN_WORDS)) {
      const isStretch = reader.kind === RECORD_FLOW && reader.runWords > HISTORY_RUN_WORDS / 2
      if (reader.kind === RECORD_FLOW) {
        this.onFlows(reader.words, reader.runAt, reader.runWords, reader.runCount)
      } else {
        for (let word = reader.runAt; word < reader.runAt + reader.runWords; ) {
          const bytes = reader.words[word]! & 0xffffff
          this.onAnswer(reader.bytes, (word + 1) * 4, bytes)
          word += 1 + ((bytes + 3) >>> 2)
        }
      }
      reader.release()
      // Not after a few: an answer may be next, which the peer shall have at once.
      if (isStretch) letOthersRun()
      hasRead = true
    }
    return hasRead
  }

  #until(isDone: () => boolean): Promise<void> {
    if (isDone()) return Promise.resolve()
    clearTimeout(this.#timer)
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#look(), LOOK_SOON_MS)
    return new Promise((resolve) => this.#waiters.push({ isDone, resolve }))
  }

  #setMode(mode: number): void {
    Atomics.store(this.#control.i32, MODE, mode)
    this.#wake.signal()
  }

  #word(word: number): number {
    return Atomics.load(this.#control.i32, word)
  }

  #copyTable(which: 0 | 1 | number, table: Int32Array): void {
    const memory = this.#tables[which & 1]!.i32
    if (table.length > memory.length) {
      throw new Error(
        `publish a policy table of ${table.byteLength} bytes: there is room for ${TABLE_BYTES}; ` +
          'fewer clients or rules',
      )
    }
    memory.set(table)
  }

  #send(request: WorkerRequest): void {
    this.#worker.postMessage(request)
    this.#wake.signal()
  }

  #answered(reply: WorkerReply): void {
    const resolve = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    resolve?.(reply)
  }
}

function fail(why: string): never {
  writeStderr(`namegate: this process ends: ${why}\n`)
  exitNow(FATAL_EXIT_CODE)
}
