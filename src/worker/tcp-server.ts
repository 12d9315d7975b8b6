/**
 * DNS over TCP for clients: accepted connections, their messages in and out.
 *
 * Each connection has a fixed room to read into and a fixed room to write from; both are touched
 * only as far as they are used. Queries are taken as they come (pipelining) and answered as their
 * answers come, in any order (RFC 7766 §6.2.1.1, §7). Bounds, and what happens at them:
 * - CONNECTIONS_MAX connections, and of one client as many as are left free: half of all, if it is
 *   alone. A client that has its share loses the one of its own that was idle for longest when it
 *   opens another, and when all are taken a client that has none gets the place of whichever was
 *   (src/fair-places.ts). Where none is idle the new one is accepted and closed, so that it can't
 *   sit in the backlog that our peer reads from too. Its handshake proves a client's address;
 * - a message longer than READ_BYTES − 2: no query is that long; the connection is closed;
 * - more than PENDING_MAX unanswered queries, or no room for one more answer: nothing further is
 *   read from it until it has caught up;
 * - TCP_IDLE_MS without a query or an answer: closed (RFC 7766 §6.2.3); who asks for it is told how
 *   long that is (RFC 7828).
 *
 * A connection belongs to the process that accepted it and carries that process's mark, so that the
 * kernel resets it when its owner is no longer alive.
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../linux/constants.ts'
import type { Epoll } from '../linux/epoll.ts'
import { EAGAIN } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close, receive, send, setMark } from '../linux/socket.ts'
import { TcpAcceptor } from '../linux/tcp.ts'
import { FairPlaces, NO_PLACE } from '../fair-places.ts'
import { hashAddress } from '../identity/address.ts'
import { CHANNEL_TCP } from '../pipeline/arrival.ts'
import { type Counters, counterIndex } from '../pipeline/counters.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { TCP_IDLE_MS } from '../wire/edns.ts'
import { MESSAGE_BYTES_MAX } from '../wire/header.ts'

const CONNECTIONS_MAX = 256
const READ_BYTES = 4096
/** Room for one answer of any length behind some that are not sent yet. */
const WRITE_BYTES = 2 * (MESSAGE_BYTES_MAX + 3)
const LENGTH_BYTES = 2
const PENDING_MAX = 64
/** Accepted in one turn of the loop; the rest waits for the next, or for the peer. */
const ACCEPTS_MAX = 16
/**
 * Who stops waits so long for the first question on a new connection: when the kernel let it go by
 * because nobody was there any more, and the connection was not accepted yet, it comes again after
 * 200 ms (Linux, TCP_RTO_MIN).
 */
const BEGIN_MS = 300
const ADDRESS_BYTES = 16

const REFUSED = counterIndex('connectionsRefused')
const GAVE_WAY = counterIndex('connectionsGaveWay')

const NO_SOCKET = -1
/** A channel is CHANNEL_TCP | generation << 8 | connection: a late answer must not go to the next. */
const GENERATION_SHIFT = 8
const GENERATION_MASK = 0xffff

export interface TcpServerOptions {
  /** Added to a connection's number: how the loop knows its sockets. */
  token: number
  /** Mark of accepted connections; 0 for none. */
  ownerMark: number
  /** Of the hashes of clients' addresses: unknown outside. */
  seed: number
  counters: Counters
}

/** Takes one whole message of a connection; false when it will get no reply. */
export type TakeMessage = (connection: number, at: number, end: number) => boolean

export class TcpServer {
  /** Where the reply opened last is written. */
  readonly bytes: Uint8Array
  /** The same memory. */
  readonly view: DataView
  at = 0
  limit = 0
  /** Source and destination of connection n, at addressesAt(n) and 16 bytes further. */
  readonly addresses = new Uint8Array(CONNECTIONS_MAX * 2 * ADDRESS_BYTES)
  readonly families = new Uint8Array(CONNECTIONS_MAX)
  readonly sourcePorts = new Uint16Array(CONNECTIONS_MAX)
  readonly destinationPorts = new Uint16Array(CONNECTIONS_MAX)
  readonly isIntercepted = new Uint8Array(CONNECTIONS_MAX)
  /** What was read lies in here. */
  readonly input: Uint8Array

  readonly #epoll: Epoll
  readonly #options: TcpServerOptions
  readonly #acceptor = new TcpAcceptor()
  readonly #readMemory = Region.create(CONNECTIONS_MAX * READ_BYTES)
  readonly #writeMemory = Region.create(CONNECTIONS_MAX * WRITE_BYTES)
  readonly #sockets = new Int32Array(CONNECTIONS_MAX).fill(NO_SOCKET)
  readonly #generations = new Int32Array(CONNECTIONS_MAX)
  readonly #readBytes = new Int32Array(CONNECTIONS_MAX)
  /** What is not sent yet lies from #sentAt to #writeEnd of a connection's room. */
  readonly #sentAt = new Int32Array(CONNECTIONS_MAX)
  readonly #writeEnd = new Int32Array(CONNECTIONS_MAX)
  readonly #pending = new Int32Array(CONNECTIONS_MAX)
  readonly #isFinished = new Uint8Array(CONNECTIONS_MAX)
  readonly #hasAsked = new Uint8Array(CONNECTIONS_MAX)
  readonly #events = new Int32Array(CONNECTIONS_MAX)
  /** Who has which connection, and when it was last used: taken as long as its socket is there. */
  readonly #places = new FairPlaces(CONNECTIONS_MAX)
  readonly #isIdle = (connection: number): boolean =>
    this.#pending[connection]! <= 0 && this.#sentAt[connection] === this.#writeEnd[connection]

  constructor(epoll: Epoll, options: TcpServerOptions) {
    this.#epoll = epoll
    this.#options = options
    this.bytes = this.#writeMemory.u8
    this.view = new DataView(this.bytes.buffer)
    this.input = this.#readMemory.u8
  }

  get count(): number {
    return this.#places.takenCount
  }

  channelOf(connection: number): number {
    return CHANNEL_TCP | (this.#generations[connection]! << GENERATION_SHIFT) | connection
  }

  addressesAt(connection: number): number {
    return connection * 2 * ADDRESS_BYTES
  }

  /** Accepts what waits on a listener. */
  accept(listener: number, isIntercepted: boolean, nowMs: number): void {
    for (let accepted = 0; accepted < ACCEPTS_MAX; accepted++) {
      const socket = this.#acceptor.accept(listener)
      if (socket < 0) return
      const { counters, seed } = this.#options
      const { u8, peerAt, family } = this.#acceptor
      const client = hashAddress(u8, peerAt, family, seed)
      const connection = this.#places.find(client, this.#isIdle)
      if (connection === NO_PLACE) {
        close(socket)
        counters.add(REFUSED, 1)
        continue
      }
      if (this.#places.isTaken(connection)) {
        this.#end(connection)
        counters.add(GAVE_WAY, 1)
      }
      this.#places.take(connection, client, nowMs)
      this.#begin(connection, socket, isIntercepted)
    }
  }

  /** A connection can be read or written. Its whole messages go to `take`, one by one. */
  ready(connection: number, events: number, take: TakeMessage, nowMs: number): void {
    if (this.#sockets[connection] === NO_SOCKET) return
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
      // Reset, or closed in both directions: no answer could reach the client any more.
      this.#end(connection)
      return
    }
    if ((events & EPOLLOUT) !== 0) this.#write(connection)
    if ((events & EPOLLIN) !== 0 && this.#sockets[connection] !== NO_SOCKET) {
      this.#read(connection)
    }
    this.#takeMessages(connection, take, nowMs)
    this.#settle(connection)
  }

  /** Replies.open for a TCP channel. */
  open(channel: number): boolean {
    const connection = this.#connectionOf(channel)
    if (connection < 0) return false
    if (this.#writeEnd[connection]! + LENGTH_BYTES + MESSAGE_BYTES_MAX > WRITE_BYTES) {
      this.#compact(connection)
      // A client that asks and does not read: it was not read from either, so this is rare.
      if (this.#writeEnd[connection]! + LENGTH_BYTES + MESSAGE_BYTES_MAX > WRITE_BYTES) {
        this.#end(connection)
        return false
      }
    }
    this.at = connection * WRITE_BYTES + this.#writeEnd[connection]! + LENGTH_BYTES
    this.limit = this.at + MESSAGE_BYTES_MAX
    return true
  }

  /** Replies.send: the message written at `at` is whole. */
  send(channel: number, length: number): void {
    const connection = this.#connectionOf(channel)
    this.#pending[connection]!--
    putU16(this.bytes, this.at - LENGTH_BYTES, length)
    this.#writeEnd[connection]! += LENGTH_BYTES + length
    this.#write(connection)
    if (this.#sockets[connection] !== NO_SOCKET) this.#settle(connection)
  }

  /** Closes connections on which nothing has happened for a while. */
  sweep(nowMs: number): void {
    if (this.count === 0) return
    for (let connection = 0; connection < CONNECTIONS_MAX; connection++) {
      if (this.#sockets[connection] === NO_SOCKET || this.#pending[connection]! > 0) continue
      if (nowMs - this.#places.usedAt(connection) > TCP_IDLE_MS) this.#end(connection)
    }
  }

  /** Ends every connection that waits for nothing: the process wants to stop. */
  closeIdle(nowMs: number): void {
    for (let connection = 0; connection < CONNECTIONS_MAX; connection++) {
      if (this.#sockets[connection] === NO_SOCKET || this.#pending[connection]! > 0) continue
      const isNew = this.#hasAsked[connection] === 0
      if (isNew && nowMs - this.#places.usedAt(connection) < BEGIN_MS) continue
      if (this.#sentAt[connection] === this.#writeEnd[connection]) this.#end(connection)
    }
  }

  #begin(connection: number, socket: number, isIntercepted: boolean): void {
    const acceptor = this.#acceptor
    if (this.#options.ownerMark !== 0) setMark(socket, this.#options.ownerMark)
    const addressBytes = acceptor.family === 4 ? 4 : ADDRESS_BYTES
    const at = this.addressesAt(connection)
    copyBytes(acceptor.u8, acceptor.peerAt, addressBytes, this.addresses, at)
    copyBytes(acceptor.u8, acceptor.localAt, addressBytes, this.addresses, at + ADDRESS_BYTES)
    this.families[connection] = acceptor.family
    this.sourcePorts[connection] = acceptor.peerPort
    this.destinationPorts[connection] = acceptor.localPort
    this.isIntercepted[connection] = isIntercepted ? 1 : 0
    this.#sockets[connection] = socket
    this.#generations[connection] = (this.#generations[connection]! + 1) & GENERATION_MASK
    this.#readBytes[connection] = 0
    this.#sentAt[connection] = 0
    this.#writeEnd[connection] = 0
    this.#pending[connection] = 0
    this.#hasAsked[connection] = 0
    this.#isFinished[connection] = 0
    this.#events[connection] = EPOLLIN
    if (this.#epoll.add(socket, EPOLLIN, this.#options.token + connection) < 0) {
      this.#end(connection)
    }
  }

  #read(connection: number): void {
    const at = connection * READ_BYTES
    const room = READ_BYTES - this.#readBytes[connection]!
    if (room === 0 || this.#isFinished[connection] === 1) return
    const address = this.#readMemory.address + at + this.#readBytes[connection]!
    const bytes = receive(this.#sockets[connection]!, address, room)
    if (bytes === -EAGAIN) return
    if (bytes < 0) {
      this.#end(connection)
      return
    }
    // It has no more to ask, but may still want its answers (RFC 7766 §6.2.3).
    if (bytes === 0) this.#isFinished[connection] = 1
    this.#readBytes[connection]! += bytes
  }

  #takeMessages(connection: number, take: TakeMessage, nowMs: number): void {
    const at = connection * READ_BYTES
    let from = 0
    while (this.#sockets[connection] !== NO_SOCKET && this.#mayTake(connection)) {
      const there = this.#readBytes[connection]! - from
      if (there < LENGTH_BYTES) break
      const length = getU16(this.input, at + from)
      if (length === 0 || length > READ_BYTES - LENGTH_BYTES) {
        this.#end(connection)
        return
      }
      if (there < LENGTH_BYTES + length) break
      const message = at + from + LENGTH_BYTES
      this.#pending[connection]!++
      this.#hasAsked[connection] = 1
      // Only a whole query counts: a byte now and then must not keep a connection.
      this.#places.use(connection, nowMs)
      from += LENGTH_BYTES + length
      if (!take(connection, message, message + length)) {
        // No query, and nothing to answer: whoever sends that over TCP is not a DNS client.
        this.#end(connection)
        return
      }
    }
    if (from === 0 || this.#sockets[connection] === NO_SOCKET) return
    const left = this.#readBytes[connection]! - from
    this.input.copyWithin(at, at + from, at + from + left)
    this.#readBytes[connection] = left
  }

  /** Whether one more query may be taken: its answer must find room. */
  #mayTake(connection: number): boolean {
    return (
      this.#pending[connection]! < PENDING_MAX &&
      this.#writeEnd[connection]! - this.#sentAt[connection]! < MESSAGE_BYTES_MAX
    )
  }

  #hasMessage(connection: number): boolean {
    const there = this.#readBytes[connection]!
    if (there < LENGTH_BYTES) return false
    return there >= LENGTH_BYTES + getU16(this.input, connection * READ_BYTES)
  }

  #write(connection: number): void {
    const base = this.#writeMemory.address + connection * WRITE_BYTES
    while (this.#sentAt[connection]! < this.#writeEnd[connection]!) {
      const bytes = this.#writeEnd[connection]! - this.#sentAt[connection]!
      const sent = send(this.#sockets[connection]!, base + this.#sentAt[connection]!, bytes)
      if (sent === -EAGAIN) return
      if (sent < 0) {
        this.#end(connection)
        return
      }
      this.#sentAt[connection]! += sent
    }
    this.#sentAt[connection] = 0
    this.#writeEnd[connection] = 0
  }

  /** After anything happened: waits for the right events, or ends what is finished. */
  #settle(connection: number): void {
    const socket = this.#sockets[connection]!
    if (socket === NO_SOCKET) return
    const isWriting = this.#sentAt[connection]! < this.#writeEnd[connection]!
    if (this.#isFinished[connection] === 1 && !isWriting && this.#pending[connection]! <= 0) {
      this.#end(connection)
      return
    }
    const isReading =
      this.#isFinished[connection] === 0 &&
      this.#mayTake(connection) &&
      this.#readBytes[connection]! < READ_BYTES
    // A message that was read already but not taken makes no event; being writable does, at once.
    const isTaking = this.#mayTake(connection) && this.#hasMessage(connection)
    const events = (isReading ? EPOLLIN : 0) | (isWriting || isTaking ? EPOLLOUT : 0)
    if (events === this.#events[connection]) return
    this.#events[connection] = events
    this.#epoll.modify(socket, events, this.#options.token + connection)
  }

  #compact(connection: number): void {
    const at = connection * WRITE_BYTES
    const from = this.#sentAt[connection]!
    const end = this.#writeEnd[connection]!
    this.bytes.copyWithin(at, at + from, at + end)
    this.#sentAt[connection] = 0
    this.#writeEnd[connection] = end - from
  }

  #connectionOf(channel: number): number {
    const connection = channel & 0xff
    return this.#sockets[connection] !== NO_SOCKET && this.channelOf(connection) === channel
      ? connection
      : -1
  }

  #end(connection: number): void {
    close(this.#sockets[connection]!)
    this.#sockets[connection] = NO_SOCKET
    this.#places.leave(connection)
  }
}
