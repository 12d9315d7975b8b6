/**
 * Channels over real sockets: for each try over UDP a connected socket of its own, for tries over
 * TCP and TLS places on connections that are kept (streams.ts). TLS is made elsewhere: here it is a
 * stream in clear text that somebody encrypts.
 *
 * The worker's loop owns the epoll. A flight's socket is registered there under `token` plus the
 * flight's number, a connection behind them; the loop calls Forwarder.channelReady when one fires.
 */
import { assert } from '../assert.ts'
import { EPOLLIN } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import { EAGAIN } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close, receive, send } from '../linux/socket.ts'
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
    assert(this.#sockets[flight] === NO_SOCKET, 'one channel a flight')
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
    assert(this.#sockets[flight] === NO_SOCKET, 'one channel a flight')
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
    const socket = this.#sockets[flight]!
    if (socket === NO_SOCKET) {
      this.streams.close(flight)
      return
    }
    // Closing the only descriptor of a socket takes it out of the epoll.
    close(socket)
    this.#sockets[flight] = NO_SOCKET
  }

  flush(): void {
    this.streams.flush()
  }

  sweep(nowMs: number): void {
    this.streams.sweep(nowMs)
  }

  #openUdp(flight: number, server: Server, message: bigint, messageBytes: number): number {
    const { mark, token } = this.#options
    const socket = connectUdp(server.family, server.address, 0, server.port, mark)
    if (socket < 0) return socket
    this.#sockets[flight] = socket
    const added = this.#epoll.add(socket, EPOLLIN, token + flight)
    const sent = added < 0 ? added : send(socket, message, messageBytes)
    if (sent < 0) this.close(flight)
    return Math.min(sent, 0)
  }

  #receive(flight: number): number {
    const socket = this.#sockets[flight]!
    if (socket === NO_SOCKET) return NOTHING_YET
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
