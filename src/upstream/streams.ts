/**
 * Streams: connections to upstreams, kept and shared. SocketChannels owns the pool.
 *
 * Many questions are under way on one connection at a time and are answered in any order (RFC 7766
 * §6.2.1.1). Each has a *place*; the low bits of its ID say which, the high bits are random, so a
 * reply finds its flight without a search, and a late one finds that its place has another ID now.
 * The forwarder compares the question as well.
 *
 *     open ─► CONNECTING ─► questions and replies ─► retired ─► closed with its last question
 *                │                  │                  old, or silent while somebody waited
 *                └──── broken ──────┘                  idle: closed
 *                        reset, closed, or a reply to what was not asked here
 *
 * - A server has few connections: a further one when each has EASY_PLACES questions under way.
 * - A message that must not be sent twice has one for itself, which is retired from the first
 *   (relays.ts). These are ALONE_MAX at most, so that questions never lack a connection for them.
 * - A connection is retired when it is old, a little sooner or later than others, so that servers
 *   that were started meanwhile behind the same address get their share.
 * - Its server may close it at any time, most likely when it was idle. Who waits is told LOST when
 *   it had worked before: that says nothing about the server. FAILED when it never did.
 * - A question that nobody waits for any more keeps its place until it is answered: that answer is
 *   late, and no lie. A connection that said nothing since the question is taken for dead.
 *
 * Memory: STREAMS_MAX × (64 KiB in, 98 KiB out), touched only as far as it is used.
 */
import { assert } from '../assert.ts'
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import { EAGAIN, EMFILE } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close, receive, send, takeError } from '../linux/socket.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { HEADER_BYTES, MESSAGE_BYTES_MAX } from '../wire/header.ts'
import {
  CHANNEL_FAILED,
  CHANNEL_LOST,
  LENGTH_BYTES,
  NOTHING_YET,
  QUESTION_BYTES,
} from './channel.ts'
import type { Server } from './routes.ts'

const STREAMS_MAX = 64
const STREAMS_PER_SERVER = 4
const ALONE_MAX = 16
/** Questions on a connection; a power of two. */
const PLACES = 256
const PLACE_MASK = PLACES - 1
const EASY_PLACES = 8
/** Below what servers allow (CoreDNS 10 s, others 8 s): then it is us who close. RFC 7766 §6.2.3. */
const IDLE_MS = 5000
const AGE_MS = 30_000
/** Of 16 random bits: up to 32 s later than AGE_MS. */
const AGE_JITTER_MASK = 0x7fff

const INPUT_BYTES = LENGTH_BYTES + MESSAGE_BYTES_MAX + 7 // a multiple of 8
const OUTPUT_BYTES = PLACES * QUESTION_BYTES // more than one message of any length

const NO_SOCKET = -1
const NO_STREAM = -1
const FREE = -1
/** Asked, and nobody waits for it any more. */
const ABANDONED = -2

export interface StreamOptions {
  readonly flightsMax: number
  /** Added to a stream's number: how the loop knows its sockets. */
  readonly token: number
  /** Begins to connect; a descriptor that becomes writable with the outcome, or -errno. */
  readonly connect: (server: Server) => number
  /** 0 to 65,535. */
  readonly random: () => number
}

export class StreamPool {
  /** The reply that `next` found lies in `bytes` at `replyAt`. */
  readonly bytes: Uint8Array
  replyAt = 0
  /** Its length; CHANNEL_FAILED or CHANNEL_LOST when there is none and won't be. */
  replyBytes = 0
  /** Connections that there are, and that there were. */
  count = 0
  openedCount = 0
  /** Replies to what was not asked on their connection. */
  mismatches = 0

  readonly #epoll: Epoll
  readonly #options: StreamOptions
  readonly #input: Region
  readonly #output: Region
  /** Where each stream's memory begins: an address that is computed for a call is allocated. */
  readonly #inputPointers: readonly bigint[]
  readonly #outputPointers: readonly bigint[]

  // One row a stream.
  readonly #sockets = new Int32Array(STREAMS_MAX).fill(NO_SOCKET)
  readonly #servers: (Server | null)[] = Array.from({ length: STREAMS_MAX }, () => null)
  readonly #isConnected = new Uint8Array(STREAMS_MAX)
  readonly #isRetired = new Uint8Array(STREAMS_MAX)
  readonly #isAlone = new Uint8Array(STREAMS_MAX)
  readonly #isBroken = new Uint8Array(STREAMS_MAX)
  readonly #hasAnswered = new Uint8Array(STREAMS_MAX)
  readonly #isWaitingToWrite = new Uint8Array(STREAMS_MAX)
  /** Places with a flight, and those taken at all. */
  readonly #live = new Int32Array(STREAMS_MAX)
  readonly #taken = new Int32Array(STREAMS_MAX)
  readonly #readAt = new Int32Array(STREAMS_MAX)
  readonly #readEnd = new Int32Array(STREAMS_MAX)
  readonly #sentAt = new Int32Array(STREAMS_MAX)
  readonly #writeEnd = new Int32Array(STREAMS_MAX)
  readonly #usedMs = new Float64Array(STREAMS_MAX)
  readonly #heardMs = new Float64Array(STREAMS_MAX)
  readonly #retireMs = new Float64Array(STREAMS_MAX)
  /** Streams with something new to send, to be flushed at the end of a turn. */
  readonly #dirty = new Uint8Array(STREAMS_MAX)
  #isDirty = false

  /** What each place is for, and the ID of its question. */
  readonly #places = new Int16Array(STREAMS_MAX * PLACES).fill(FREE)
  readonly #ids = new Uint16Array(STREAMS_MAX * PLACES)

  // One row a flight.
  readonly #streamOf: Int16Array
  readonly #placeOf: Uint8Array
  readonly #askedMs: Float64Array

  constructor(epoll: Epoll, options: StreamOptions) {
    this.#epoll = epoll
    this.#options = options
    this.#input = Region.create(STREAMS_MAX * INPUT_BYTES)
    this.#output = Region.create(STREAMS_MAX * OUTPUT_BYTES)
    this.#inputPointers = pointers(this.#input, INPUT_BYTES)
    this.#outputPointers = pointers(this.#output, OUTPUT_BYTES)
    this.bytes = this.#input.u8
    this.#streamOf = new Int16Array(options.flightsMax).fill(NO_STREAM)
    this.#placeOf = new Uint8Array(options.flightsMax)
    this.#askedMs = new Float64Array(options.flightsMax)
  }

  /**
   * Asks a flight's question on a connection to the server, a new one if need be; it leaves with
   * the next `flush`. The question gets its ID.
   * @param question  the message at `at`, the two bytes for its length before it
   * @returns 0 or -errno: -EMFILE when there are as many connections as may be, all of them full
   */
  open(
    flight: number,
    server: Server,
    question: Uint8Array,
    at: number,
    bytes: number,
    nowMs: number,
  ): number {
    assert(this.#streamOf[flight] === NO_STREAM, 'one channel a flight')
    const stream = this.#choose(server, nowMs)
    if (stream >= 0) this.#put(stream, flight, question, at, bytes, nowMs)
    return Math.min(stream, 0)
  }

  /** The same for a message of any length, on a connection where nothing else is asked. */
  openAlone(
    flight: number,
    server: Server,
    message: Uint8Array,
    at: number,
    bytes: number,
    nowMs: number,
  ): number {
    assert(this.#streamOf[flight] === NO_STREAM, 'one channel a flight')
    const free = this.#freeForOne()
    const stream = free < 0 ? -EMFILE : this.#connect(free, server, nowMs)
    if (stream < 0) return stream
    this.#isAlone[stream] = 1
    this.#isRetired[stream] = 1
    this.#put(stream, flight, message, at, bytes, nowMs)
    return 0
  }

  #put(
    stream: number,
    flight: number,
    question: Uint8Array,
    at: number,
    bytes: number,
    nowMs: number,
  ): void {
    const place = this.#freePlace(stream)
    const id = (this.#options.random() & ~PLACE_MASK) | place
    putU16(question, at, id)
    putU16(question, at - LENGTH_BYTES, bytes)
    this.#ids[stream * PLACES + place] = id
    this.#places[stream * PLACES + place] = flight
    this.#live[stream]!++
    this.#taken[stream]!++
    this.#streamOf[flight] = stream
    this.#placeOf[flight] = place
    this.#askedMs[flight] = nowMs
    this.#usedMs[stream] = nowMs
    // There is room: a place is taken at least until its question has left.
    const end = this.#writeEnd[stream]!
    const from = at - LENGTH_BYTES
    const total = LENGTH_BYTES + bytes
    copyBytes(question, from, total, this.#output.u8, stream * OUTPUT_BYTES + end)
    this.#writeEnd[stream] = end + total
    this.#dirty[stream] = 1
    this.#isDirty = true
  }

  /** The flight waits no more. */
  close(flight: number): void {
    const stream = this.#streamOf[flight]!
    if (stream === NO_STREAM) return
    this.#streamOf[flight] = NO_STREAM
    this.#places[stream * PLACES + this.#placeOf[flight]!] = ABANDONED
    this.#live[stream]!--
    if (this.#isBroken[stream] === 1) return // `next` ends it, when it has told everybody
    const isSilent = this.#heardMs[stream]! <= this.#askedMs[flight]!
    if (isSilent || this.#taken[stream]! - this.#live[stream]! > PLACES / 2) {
      this.#isRetired[stream] = 1
    }
    if (this.#live[stream] === 0 && this.#isRetired[stream] === 1) this.#end(stream)
  }

  /** Something has happened on a stream: sends and reads what can be; then ask `next`. */
  ready(stream: number, events: number, nowMs: number): void {
    if (this.#sockets[stream] === NO_SOCKET) return
    if (this.#isConnected[stream] === 0) {
      if (takeError(this.#sockets[stream]!) < 0) this.#isBroken[stream] = 1
      else if ((events & EPOLLOUT) !== 0) this.#isConnected[stream] = 1
    }
    if (this.#isBroken[stream] === 1) return
    if ((events & EPOLLOUT) !== 0) this.#write(stream)
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) !== 0) this.#read(stream, nowMs)
  }

  /**
   * The next flight that a ready stream has something for (see `replyBytes`), or NOTHING_YET. To be
   * called until there is nothing: what was read makes no further event.
   */
  next(stream: number): number {
    while (this.#sockets[stream] !== NO_SOCKET) {
      const base = stream * INPUT_BYTES
      const at = this.#readAt[stream]!
      const there = this.#readEnd[stream]! - at
      const length = there < LENGTH_BYTES ? 0 : getU16(this.bytes, base + at)
      if (there >= LENGTH_BYTES && length < HEADER_BYTES) this.#mistake(stream)
      else if (there >= LENGTH_BYTES && there >= LENGTH_BYTES + length) {
        this.#readAt[stream] = at + LENGTH_BYTES + length
        const flight = this.#take(stream, base + at + LENGTH_BYTES, length)
        if (flight !== NOTHING_YET) return flight
      } else {
        this.#compact(stream)
        return this.#isBroken[stream] === 1 ? this.#nextLost(stream) : this.#settle(stream)
      }
    }
    return NOTHING_YET
  }

  /** What came on this stream was no answer to what was asked there: nothing more is taken. */
  distrust(stream: number): void {
    this.#isBroken[stream] = 1
    this.#readAt[stream] = 0
    this.#readEnd[stream] = 0
  }

  /** Sends what `open` has left: many questions by one call. */
  flush(): void {
    if (!this.#isDirty) return
    this.#isDirty = false
    for (let stream = 0; stream < STREAMS_MAX; stream++) {
      if (this.#dirty[stream] === 0) continue
      this.#dirty[stream] = 0
      if (this.#isConnected[stream] === 1) this.#write(stream)
    }
  }

  /** Closes what is idle, retires what is old. */
  sweep(nowMs: number): void {
    if (this.count === 0) return
    for (let stream = 0; stream < STREAMS_MAX; stream++) {
      if (this.#sockets[stream] === NO_SOCKET) continue
      if (nowMs >= this.#retireMs[stream]!) this.#isRetired[stream] = 1
      const isIdle = nowMs - this.#usedMs[stream]! > IDLE_MS
      if (this.#live[stream] === 0 && (isIdle || this.#isRetired[stream] === 1)) this.#end(stream)
    }
  }

  /** The connection for one more question, or -errno. */
  #choose(server: Server, nowMs: number): number {
    let best = NO_STREAM
    let own = 0
    let free = NO_STREAM
    let idle = NO_STREAM
    for (let stream = 0; stream < STREAMS_MAX; stream++) {
      if (this.#sockets[stream] === NO_SOCKET) {
        if (free === NO_STREAM) free = stream
        continue
      }
      const isUsable = this.#isRetired[stream] === 0 && this.#isBroken[stream] === 0
      if (this.#servers[stream] === server && isUsable) {
        own++
        const isFull = this.#taken[stream] === PLACES
        if (!isFull && (best < 0 || this.#live[stream]! < this.#live[best]!)) best = stream
      } else if (this.#live[stream] === 0) {
        if (idle < 0 || this.#usedMs[stream]! < this.#usedMs[idle]!) idle = stream
      }
    }
    if (own === STREAMS_PER_SERVER || (best >= 0 && this.#live[best]! < EASY_PLACES)) {
      return best < 0 ? -EMFILE : best
    }
    if (free < 0 && idle >= 0) {
      this.#end(idle)
      free = idle
    }
    const made = free < 0 ? -EMFILE : this.#connect(free, server, nowMs)
    return made < 0 && best >= 0 ? best : made
  }

  /** Where one more that is alone may be, or NO_STREAM. */
  #freeForOne(): number {
    let alone = 0
    let free = NO_STREAM
    for (let stream = 0; stream < STREAMS_MAX; stream++) {
      if (this.#sockets[stream] === NO_SOCKET) free = stream
      else alone += this.#isAlone[stream]!
    }
    return alone < ALONE_MAX ? free : NO_STREAM
  }

  #connect(stream: number, server: Server, nowMs: number): number {
    const socket = this.#options.connect(server)
    if (socket < 0) return socket
    const added = this.#epoll.add(socket, EPOLLIN | EPOLLOUT, this.#options.token + stream)
    if (added < 0) {
      close(socket)
      return added
    }
    this.#sockets[stream] = socket
    this.#servers[stream] = server
    this.#isConnected[stream] = 0
    this.#isRetired[stream] = 0
    this.#isAlone[stream] = 0
    this.#isBroken[stream] = 0
    this.#hasAnswered[stream] = 0
    this.#isWaitingToWrite[stream] = 1
    this.#live[stream] = 0
    this.#taken[stream] = 0
    this.#readAt[stream] = 0
    this.#readEnd[stream] = 0
    this.#sentAt[stream] = 0
    this.#writeEnd[stream] = 0
    this.#heardMs[stream] = Number.NEGATIVE_INFINITY
    this.#retireMs[stream] = nowMs + AGE_MS + (this.#options.random() & AGE_JITTER_MASK)
    this.count++
    this.openedCount++
    return stream
  }

  #freePlace(stream: number): number {
    const base = stream * PLACES
    const start = this.#options.random() & PLACE_MASK
    for (let step = 0; step < PLACES; step++) {
      const place = (start + step) & PLACE_MASK
      if (this.#places[base + place] === FREE) return place
    }
    throw new Error('a stream that was chosen has a free place')
  }

  /** The flight that a message is for, if it is for one. */
  #take(stream: number, at: number, length: number): number {
    const id = getU16(this.bytes, at)
    const place = stream * PLACES + (id & PLACE_MASK)
    const flight = this.#places[place]!
    if (flight === FREE || this.#ids[place] !== id) {
      this.#mistake(stream)
      return NOTHING_YET
    }
    this.#places[place] = FREE
    this.#taken[stream]!--
    if (flight === ABANDONED) return NOTHING_YET
    this.#live[stream]!--
    this.#streamOf[flight] = NO_STREAM
    this.#hasAnswered[stream] = 1
    this.replyAt = at
    this.replyBytes = length
    return flight
  }

  /** One of those who wait on a broken stream; when there is none any more it is closed. */
  #nextLost(stream: number): number {
    const base = stream * PLACES
    for (let place = base; this.#live[stream]! > 0 && place < base + PLACES; place++) {
      const flight = this.#places[place]!
      if (flight < 0) continue
      this.replyBytes = this.#hasAnswered[stream] === 1 ? CHANNEL_LOST : CHANNEL_FAILED
      this.close(flight)
      return flight
    }
    this.#end(stream)
    return NOTHING_YET
  }

  #mistake(stream: number): void {
    this.mismatches++
    this.distrust(stream)
  }

  #settle(stream: number): number {
    if (this.#live[stream] === 0 && this.#isRetired[stream] === 1) this.#end(stream)
    return NOTHING_YET
  }

  #write(stream: number): void {
    const base = this.#output.address + stream * OUTPUT_BYTES
    while (this.#sentAt[stream]! < this.#writeEnd[stream]!) {
      const from = this.#sentAt[stream]!
      const bytes = this.#writeEnd[stream]! - from
      const address = from === 0 ? this.#outputPointers[stream]! : base + from
      const sent = send(this.#sockets[stream]!, address, bytes)
      if (sent === -EAGAIN) {
        this.#compactOutput(stream)
        this.#waitToWrite(stream, 1)
        return
      }
      if (sent < 0) {
        // The socket says so by an event too, and then those who wait are told.
        this.#isRetired[stream] = 1
        return
      }
      this.#sentAt[stream]! += sent
    }
    this.#sentAt[stream] = 0
    this.#writeEnd[stream] = 0
    this.#waitToWrite(stream, 0)
  }

  #waitToWrite(stream: number, isWaiting: number): void {
    if (this.#isWaitingToWrite[stream] === isWaiting) return
    this.#isWaitingToWrite[stream] = isWaiting
    const events = isWaiting === 1 ? EPOLLIN | EPOLLOUT : EPOLLIN
    this.#epoll.modify(this.#sockets[stream]!, events, this.#options.token + stream)
  }

  #compactOutput(stream: number): void {
    const from = this.#sentAt[stream]!
    const base = stream * OUTPUT_BYTES
    this.#output.u8.copyWithin(base, base + from, base + this.#writeEnd[stream]!)
    this.#sentAt[stream] = 0
    this.#writeEnd[stream]! -= from
  }

  #read(stream: number, nowMs: number): void {
    const from = this.#readEnd[stream]!
    const base = this.#input.address + stream * INPUT_BYTES
    const address = from === 0 ? this.#inputPointers[stream]! : base + from
    const bytes = receive(this.#sockets[stream]!, address, INPUT_BYTES - from)
    if (bytes === -EAGAIN) return
    if (bytes <= 0) {
      this.#isBroken[stream] = 1
      return
    }
    this.#readEnd[stream]! += bytes
    this.#heardMs[stream] = nowMs
    this.#usedMs[stream] = nowMs
  }

  #compact(stream: number): void {
    const from = this.#readAt[stream]!
    if (from === 0) return
    const base = stream * INPUT_BYTES
    this.bytes.copyWithin(base, base + from, base + this.#readEnd[stream]!)
    this.#readEnd[stream]! -= from
    this.#readAt[stream] = 0
  }

  #end(stream: number): void {
    assert(this.#live[stream] === 0, 'nobody waits on a stream that is closed')
    // Closing the only descriptor of a socket takes it out of the epoll.
    close(this.#sockets[stream]!)
    this.#sockets[stream] = NO_SOCKET
    this.#servers[stream] = null
    this.#dirty[stream] = 0
    this.#places.fill(FREE, stream * PLACES, (stream + 1) * PLACES)
    this.count--
  }
}

/** The address of each stream's part of a region. */
function pointers(region: Region, bytes: number): bigint[] {
  return Array.from({ length: STREAMS_MAX }, (_, stream) => region.pointer(stream * bytes))
}
