/**
 * Channels over real sockets: a connected UDP socket or a TCP connection for each try of a flight.
 *
 * The worker's loop owns the epoll; a flight's socket is registered there under FLIGHT_TOKEN plus
 * the flight's number, and the loop calls Forwarder.channelReady when it fires.
 *
 * A reply over TCP comes in pieces, so such a try borrows one of TCP_TRIES_MAX buffers; when all are
 * taken the try fails like one that the kernel refused, and the flight goes to another server or
 * ends. The bound is memory: 64 KiB each, touched only as far as replies are long.
 */
import { assert } from '../assert.ts'
import { EPOLLIN, EPOLLOUT } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import { EAGAIN, EMFILE } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close, receive, send, takeError } from '../linux/socket.ts'
import { connectTcp } from '../linux/tcp.ts'
import { connectUdp } from '../linux/udp.ts'
import { getU16 } from '../wire/bytes.ts'
import { MESSAGE_BYTES_MAX } from '../wire/header.ts'
import {
  CHANNEL_FAILED,
  type Channels,
  NOTHING_YET,
  QUESTION_AT,
  QUESTION_BYTES,
} from './forwarder.ts'
import type { Server } from './routes.ts'

const TCP_TRIES_MAX = 64
const LENGTH_BYTES = 2
const TCP_BUFFER_BYTES = MESSAGE_BYTES_MAX + 1 + LENGTH_BYTES + 6 // a multiple of 8

const NO_SOCKET = -1
const NO_BUFFER = 255

export interface SocketChannelOptions {
  flightsMax: number
  /** Mark of our own sockets, so that no rule of ours intercepts what we ask; 0 for none. */
  mark: number
  /** Added to a flight's number: how the loop knows its sockets. */
  token: number
}

export class SocketChannels implements Channels {
  readonly questions: Uint8Array
  readonly reply: Uint8Array
  readonly #questionMemory: Region
  readonly #replyMemory: Region
  readonly #tcpMemory: Region
  readonly #epoll: Epoll
  readonly #mark: number
  readonly #token: number
  readonly #sockets: Int32Array
  /** Which TCP buffer a flight has, NO_BUFFER for UDP; how much of it is read, or still to send. */
  readonly #buffer: Uint8Array
  readonly #received: Int32Array
  readonly #unsent: Int32Array
  readonly #freeBuffers: Uint8Array
  #freeCount = TCP_TRIES_MAX

  constructor(epoll: Epoll, options: SocketChannelOptions) {
    this.#epoll = epoll
    this.#mark = options.mark
    this.#token = options.token
    this.#questionMemory = Region.create(options.flightsMax * QUESTION_BYTES)
    this.#replyMemory = Region.create(MESSAGE_BYTES_MAX + 1)
    this.#tcpMemory = Region.create(TCP_TRIES_MAX * TCP_BUFFER_BYTES)
    this.questions = this.#questionMemory.u8
    this.reply = this.#replyMemory.u8
    this.#sockets = new Int32Array(options.flightsMax).fill(NO_SOCKET)
    this.#buffer = new Uint8Array(options.flightsMax).fill(NO_BUFFER)
    this.#received = new Int32Array(options.flightsMax)
    this.#unsent = new Int32Array(options.flightsMax)
    this.#freeBuffers = new Uint8Array(TCP_TRIES_MAX)
    for (let index = 0; index < TCP_TRIES_MAX; index++) this.#freeBuffers[index] = index
  }

  open(flight: number, server: Server, isTcp: boolean, questionBytes: number): number {
    assert(this.#sockets[flight] === NO_SOCKET, 'one channel a flight')
    return isTcp
      ? this.#openTcp(flight, server, questionBytes)
      : this.#openUdp(flight, server, questionBytes)
  }

  receive(flight: number): number {
    if (this.#buffer[flight] === NO_BUFFER) return this.#receiveDatagram(flight)
    if (this.#unsent[flight]! > 0) {
      const result = this.#sendRest(flight)
      if (result < 0 || this.#unsent[flight]! > 0) return result
    }
    return this.#receiveStream(flight)
  }

  close(flight: number): void {
    const socket = this.#sockets[flight]!
    if (socket !== NO_SOCKET) {
      // Closing the only descriptor of a socket takes it out of the epoll.
      close(socket)
      this.#sockets[flight] = NO_SOCKET
    }
    if (this.#buffer[flight] !== NO_BUFFER) {
      this.#freeBuffers[this.#freeCount++] = this.#buffer[flight]!
      this.#buffer[flight] = NO_BUFFER
    }
  }

  #openUdp(flight: number, server: Server, questionBytes: number): number {
    const socket = connectUdp(server.family, server.address, 0, server.port, this.#mark)
    if (socket < 0) return socket
    this.#sockets[flight] = socket
    const added = this.#epoll.add(socket, EPOLLIN, this.#token + flight)
    const sent = added < 0 ? added : send(socket, this.#questionAddress(flight), questionBytes)
    if (sent < 0) this.close(flight)
    return Math.min(sent, 0)
  }

  #openTcp(flight: number, server: Server, questionBytes: number): number {
    if (this.#freeCount === 0) return -EMFILE
    const socket = connectTcp(server.family, server.address, 0, server.port, this.#mark)
    if (socket < 0) return socket
    this.#sockets[flight] = socket
    this.#buffer[flight] = this.#freeBuffers[--this.#freeCount]!
    this.#received[flight] = 0
    this.#unsent[flight] = questionBytes + LENGTH_BYTES
    const added = this.#epoll.add(socket, EPOLLOUT, this.#token + flight)
    if (added < 0) this.close(flight)
    return Math.min(added, 0)
  }

  #receiveDatagram(flight: number): number {
    const bytes = receive(this.#sockets[flight]!, this.#replyMemory.address, MESSAGE_BYTES_MAX)
    if (bytes === -EAGAIN) return NOTHING_YET
    // ECONNREFUSED and its like: an ICMP error to our own question. It can be forged, but all it
    // does is move us on to the next try.
    return bytes < 0 ? CHANNEL_FAILED : bytes
  }

  /** Writes what of the question is not sent yet; the connection may have just been made. */
  #sendRest(flight: number): number {
    const socket = this.#sockets[flight]!
    if (takeError(socket) < 0) return CHANNEL_FAILED
    const address = this.#questionAddress(flight) - LENGTH_BYTES
    const total = getU16(this.questions, flight * QUESTION_BYTES + QUESTION_AT - LENGTH_BYTES)
    const unsent = this.#unsent[flight]!
    const sent = send(socket, address + total + LENGTH_BYTES - unsent, unsent)
    if (sent === -EAGAIN) return NOTHING_YET
    if (sent < 0) return CHANNEL_FAILED
    this.#unsent[flight] = unsent - sent
    if (unsent === sent) this.#epoll.modify(socket, EPOLLIN, this.#token + flight)
    return NOTHING_YET
  }

  /** Reads on; the whole message, once it is there, goes to the start of `reply`. */
  #receiveStream(flight: number): number {
    const at = this.#buffer[flight]! * TCP_BUFFER_BYTES
    const memory = this.#tcpMemory
    for (;;) {
      const received = this.#received[flight]!
      const wanted = received < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + getU16(memory.u8, at)
      if (received === wanted && received > LENGTH_BYTES) break
      const bytes = receive(
        this.#sockets[flight]!,
        memory.address + at + received,
        wanted - received,
      )
      if (bytes === -EAGAIN) return NOTHING_YET
      if (bytes <= 0) return CHANNEL_FAILED
      this.#received[flight] = received + bytes
      if (this.#received[flight] === LENGTH_BYTES && getU16(memory.u8, at) === 0) {
        return CHANNEL_FAILED
      }
    }
    const bytes = this.#received[flight]! - LENGTH_BYTES
    for (let index = 0; index < bytes; index++) {
      this.reply[index] = memory.u8[at + LENGTH_BYTES + index]!
    }
    this.#received[flight] = 0
    return bytes
  }

  #questionAddress(flight: number): number {
    return this.#questionMemory.address + flight * QUESTION_BYTES + QUESTION_AT
  }
}
