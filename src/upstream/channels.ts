/**
 * Channels over real sockets: for each try over UDP a connected socket with a port of its own, for
 * tries over TCP and TLS places on connections that are kept (streams.ts). TLS is made elsewhere:
 * here it is a stream in clear text that somebody encrypts.
 *
 * A socket is made once and used for one try after the other, since making it costs more than
 * sending by it. What must stay true: between two tries it has no port, the next one is drawn by the
 * kernel, and what has come by then is thrown away before the next question leaves. So nobody can
 * answer a question by having guessed the port of another one.
 *
 * The worker's loop owns the epoll. A flight's socket is registered there under `token` plus the
 * flight's number, a connection behind them; the loop calls Forwarder.channelReady when one fires.
 */
import { assert } from '../assert.ts'
import { EPOLLIN } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import { EAGAIN } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close, connectTo, disconnect, receive, send } from '../linux/socket.ts'
import { connectTcp } from '../linux/tcp.ts'
import { connectUdp } from '../linux/udp.ts'
import { MESSAGE_BYTES_MAX } from '../wire/header.ts'
import {
  CHANNEL_FAILED,
  type Channels,
  NOTHING_YET,
  QUESTION_AT,
  QUESTION_BYTES,
} from './channel.ts'
import type { Server } from './routes.ts'
import { StreamPool } from './streams.ts'

const NO_SOCKET = -1
/** Sockets that are kept for the next try … */
const SPARE_MAX = 256
/** … for as long as they are wanted in such a time. */
const SPARE_MS = 5000
/** Datagrams and errors that are thrown away; a socket with more of them is somebody's target. */
const DRAINED_MAX = 64

export interface SocketChannelOptions {
  readonly flightsMax: number
  /** Mark of our own sockets, so that no rule of ours intercepts what we ask; 0 for none. */
  readonly mark: number
  /** Added to a channel's number: how the loop knows its sockets. */
  readonly token: number
  /** 0 to 65,535. */
  readonly random: () => number
  /** A stream to a server over TLS: a descriptor, or -errno. */
  readonly connectTls: (server: Server) => number
}

export class SocketChannels implements Channels {
  readonly questions: Uint8Array
  readonly message: Uint8Array
  reply: Uint8Array
  replyAt = 0
  replyBytes = 0
  readonly streams: StreamPool
  readonly #replyMemory: Region
  /** Where each flight's question begins, and the reply: made once, because a call boxes numbers. */
  readonly #questionPointers: readonly bigint[]
  readonly #messagePointer: bigint
  readonly #replyPointer: bigint
  readonly #epoll: Epoll
  readonly #options: SocketChannelOptions
  readonly #sockets: Int32Array
  /** Of a flight's socket. */
  readonly #families: Uint8Array
  /** Whether the flight's socket has a port, and a question under way. */
  readonly #isOpen: Uint8Array
  #spareCount = 0
  /** The fewest since #sweptMs: so many were not wanted. */
  #leastSpare = 0
  #sweptMs = 0

  constructor(epoll: Epoll, options: SocketChannelOptions) {
    const { flightsMax, mark, token, random, connectTls } = options
    this.#epoll = epoll
    this.#options = options
    const questions = Region.create(flightsMax * QUESTION_BYTES)
    this.#questionPointers = Array.from({ length: flightsMax }, (_, flight) =>
      questions.pointer(flight * QUESTION_BYTES + QUESTION_AT),
    )
    const message = Region.create(QUESTION_AT + MESSAGE_BYTES_MAX)
    this.#messagePointer = message.pointer(QUESTION_AT)
    this.message = message.u8
    this.#replyMemory = Region.create(MESSAGE_BYTES_MAX + 1)
    this.#replyPointer = this.#replyMemory.pointer(0)
    this.questions = questions.u8
    this.reply = this.#replyMemory.u8
    this.#sockets = new Int32Array(flightsMax).fill(NO_SOCKET)
    this.#families = new Uint8Array(flightsMax)
    this.#isOpen = new Uint8Array(flightsMax)
    this.streams = new StreamPool(epoll, {
      flightsMax,
      token: token + flightsMax,
      connect: (server) =>
        server.transport === 'tls'
          ? connectTls(server)
          : connectTcp(server.family, server.address, 0, server.port, mark),
      random,
    })
  }

  get mismatches(): number {
    return this.streams.mismatches
  }

  open(
    flight: number,
    server: Server,
    isStream: boolean,
    questionBytes: number,
    nowMs: number,
  ): number {
    assert(this.#isOpen[flight] === 0, 'one channel a flight')
    if (!isStream) {
      return this.#openUdp(flight, server, this.#questionPointers[flight]!, questionBytes)
    }
    const at = flight * QUESTION_BYTES + QUESTION_AT
    return this.streams.open(flight, server, this.questions, at, questionBytes, nowMs)
  }

  openRelay(
    flight: number,
    server: Server,
    isStream: boolean,
    messageBytes: number,
    nowMs: number,
  ): number {
    assert(this.#isOpen[flight] === 0, 'one channel a flight')
    if (!isStream) return this.#openUdp(flight, server, this.#messagePointer, messageBytes)
    return this.streams.openAlone(flight, server, this.message, QUESTION_AT, messageBytes, nowMs)
  }

  ready(channel: number, events: number, nowMs: number): void {
    const stream = channel - this.#options.flightsMax
    if (stream >= 0) this.streams.ready(stream, events, nowMs)
  }

  next(channel: number): number {
    const stream = channel - this.#options.flightsMax
    if (stream < 0) return this.#receive(channel)
    const flight = this.streams.next(stream)
    this.reply = this.streams.bytes
    this.replyAt = this.streams.replyAt
    this.replyBytes = this.streams.replyBytes
    return flight
  }

  distrust(stream: number): void {
    this.streams.distrust(stream - this.#options.flightsMax)
  }

  close(flight: number): void {
    if (this.#isOpen[flight] === 0) {
      this.streams.close(flight)
      return
    }
    this.#isOpen[flight] = 0
    const isSpare = this.#spareCount < SPARE_MAX && disconnect(this.#sockets[flight]!) === 0
    if (isSpare) this.#spareCount++
    else this.#closeSocket(flight)
  }

  flush(): void {
    this.streams.flush()
  }

  sweep(nowMs: number): void {
    this.streams.sweep(nowMs)
    if (nowMs - this.#sweptMs < SPARE_MS) return
    this.#sweptMs = nowMs
    // The highest first: flights begin with the lowest number that is free.
    for (let flight = this.#sockets.length - 1; flight >= 0 && this.#leastSpare > 0; flight--) {
      if (this.#sockets[flight] === NO_SOCKET || this.#isOpen[flight] === 1) continue
      this.#closeSpare(flight)
    }
    this.#leastSpare = this.#spareCount
  }

  #openUdp(flight: number, server: Server, message: bigint, messageBytes: number): number {
    const connected = this.#connect(flight, server)
    if (connected < 0) return connected
    this.#isOpen[flight] = 1
    const sent = send(this.#sockets[flight]!, message, messageBytes)
    if (sent < 0) this.close(flight)
    return Math.min(sent, 0)
  }

  /** The flight's socket has a new port, and nothing in it. 0, or -errno and there is no socket. */
  #connect(flight: number, server: Server): number {
    if (this.#sockets[flight] === NO_SOCKET) return this.#connectNew(flight, server)
    this.#useSpare()
    const { family, address, port } = server
    let result = 0
    if (this.#families[flight] === family) {
      const socket = this.#sockets[flight]!
      result = connectTo(socket, family, address, 0, port, 0)
      if (result === 0 && this.#drain(socket)) return 0
    }
    this.#closeSocket(flight)
    return result < 0 ? result : this.#connectNew(flight, server)
  }

  #connectNew(flight: number, server: Server): number {
    const { mark, token } = this.#options
    const { family, address, port } = server
    const socket = connectUdp(family, address, 0, port, mark)
    if (socket < 0) return socket
    this.#sockets[flight] = socket
    this.#families[flight] = family
    const added = this.#epoll.add(socket, EPOLLIN, token + flight)
    if (added < 0) this.#closeSocket(flight)
    return added
  }

  /** Throws away what has come; false when it does not end. */
  #drain(socket: number): boolean {
    for (let count = 0; count < DRAINED_MAX; count++) {
      if (receive(socket, this.#replyPointer, MESSAGE_BYTES_MAX) === -EAGAIN) return true
    }
    return false
  }

  #useSpare(): void {
    this.#spareCount--
    if (this.#leastSpare > this.#spareCount) this.#leastSpare = this.#spareCount
  }

  #closeSpare(flight: number): void {
    this.#spareCount--
    if (this.#leastSpare > 0) this.#leastSpare--
    this.#closeSocket(flight)
  }

  /** Closing the only descriptor of a socket takes it out of the epoll. */
  #closeSocket(flight: number): void {
    close(this.#sockets[flight]!)
    this.#sockets[flight] = NO_SOCKET
  }

  #receive(flight: number): number {
    const socket = this.#sockets[flight]!
    if (this.#isOpen[flight] === 0) {
      // What came when its question had been answered would wake us for ever.
      if (socket !== NO_SOCKET && !this.#drain(socket)) this.#closeSpare(flight)
      return NOTHING_YET
    }
    const bytes = receive(socket, this.#replyPointer, MESSAGE_BYTES_MAX)
    if (bytes === -EAGAIN) return NOTHING_YET
    this.reply = this.#replyMemory.u8
    this.replyAt = 0
    // ECONNREFUSED and its like: an ICMP error to our own question. It can be forged, but all it
    // does is move us on to the next try. An empty datagram is a reply to nothing.
    this.replyBytes = bytes < 0 ? CHANNEL_FAILED : bytes
    if (bytes < 0) this.close(flight)
    return flight
  }
}
