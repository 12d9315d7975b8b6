/**
 * Replies over real sockets: datagrams collected in a batch, messages into TCP connections.
 *
 * The pipeline opens a reply, writes it where it will be sent from, and sends it; datagrams leave
 * when the loop flushes, at the end of its turn or when the batch is full. A datagram that the kernel
 * does not take is that client's loss alone: it is counted, and the rest goes on behind it.
 */
import { EAGAIN } from '../linux/errno.ts'
import { SendBatch } from '../linux/udp-batch.ts'
import { type Arrival, CHANNEL_PROOF, CHANNEL_TCP } from '../pipeline/arrival.ts'
import type { Replies } from '../pipeline/context.ts'
import { type Counters, counterIndex } from '../pipeline/counters.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import { getU16 } from '../wire/bytes.ts'
import { FLAGS_AT, MESSAGE_BYTES_MAX, RCODE_MASK } from '../wire/header.ts'
import type { TcpServer } from './tcp-server.ts'

const REPLIES_LOST = counterIndex('repliesLost')

export class SocketReplies implements Replies {
  bytes: Uint8Array
  view: DataView
  at = 0
  limit = 0
  readonly #batch = new SendBatch()
  /** Socket of each message in the batch; several sockets share it. */
  readonly #fds: Int32Array
  #count = 0
  readonly #sockets: readonly ListenSocket[]
  /** Where the answer to our own question is written, and who waits for its rcode. */
  readonly #proof = new Uint8Array(MESSAGE_BYTES_MAX)
  readonly #proofView = new DataView(this.#proof.buffer)
  onProof: (rcode: number) => void = () => {}
  readonly #tcp: TcpServer
  readonly #counters: Counters

  /** @param sockets  by channel: the loop's own array */
  constructor(sockets: readonly ListenSocket[], tcp: TcpServer, counters: Counters) {
    this.#sockets = sockets
    this.#tcp = tcp
    this.#counters = counters
    this.#fds = new Int32Array(this.#batch.capacity)
    this.bytes = this.#batch.u8
    this.view = this.#batch.view
  }

  open(arrival: Arrival): boolean {
    if (arrival.channel === CHANNEL_PROOF) {
      this.bytes = this.#proof
      this.view = this.#proofView
      this.at = 0
      this.limit = MESSAGE_BYTES_MAX
      return true
    }
    if (arrival.channel >= CHANNEL_TCP) {
      if (!this.#tcp.open(arrival.channel)) return false
      this.bytes = this.#tcp.bytes
      this.view = this.#tcp.view
      this.at = this.#tcp.at
      this.limit = this.#tcp.limit
      return true
    }
    if (this.#count === this.#batch.capacity) this.flush()
    this.bytes = this.#batch.u8
    this.view = this.#batch.view
    this.at = this.#batch.packetAt(this.#count)
    this.limit = this.at + this.#batch.packetBytesMax
    return true
  }

  send(arrival: Arrival, length: number): void {
    if (arrival.channel === CHANNEL_PROOF) {
      this.onProof(getU16(this.#proof, FLAGS_AT) & RCODE_MASK)
      return
    }
    if (arrival.channel >= CHANNEL_TCP) {
      this.#tcp.send(arrival.channel, length)
      return
    }
    this.#batch.set(
      this.#count,
      arrival.family,
      arrival.addresses,
      arrival.sourceAt,
      arrival.sourcePort,
      arrival.addresses,
      arrival.destinationAt,
      length,
      arrival.interfaceIndex,
    )
    this.#fds[this.#count++] = this.#sockets[arrival.channel]!.fd
  }

  /** Gives up what is collected. */
  drop(): void {
    this.#counters.add(REPLIES_LOST, this.#count)
    this.#count = 0
  }

  /** Sends what is collected. */
  flush(): void {
    const count = this.#count
    let from = 0
    while (from < count) {
      const fd = this.#fds[from]!
      let until = from + 1
      while (until < count && this.#fds[until] === fd) until++
      while (from < until) {
        const sent = this.#batch.send(fd, from, until - from)
        if (sent > 0) {
          from += sent
          continue
        }
        // A full send buffer is everybody's; any other error belongs to the first message.
        const lost = sent === -EAGAIN ? until - from : 1
        this.#counters.add(REPLIES_LOST, lost)
        from += lost
      }
    }
    this.#count = 0
  }
}
