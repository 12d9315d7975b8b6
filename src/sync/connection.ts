/**
 * One connection to another process of the node: whole messages in and out, never waiting.
 *
 * Used by meeting.ts, which opens and accepts them, and by link.ts for the one that was kept. What
 * must stay true: at most MESSAGES_MAX messages are handled in one turn of the event loop, so that
 * a peer that floods us delays nothing else for long; after `close` nothing is reported; received
 * descriptors are closed here unless somebody takes them.
 *
 * Memory: one region for all that is received and one for all that is sent, because calls are
 * synchronous; the bytes of a message are valid while it is handled.
 */
import { assert } from '../assert.ts'
import { EAGAIN, ECONNRESET, EMSGSIZE, ENOBUFS, EPIPE, errnoText } from '../linux/errno.ts'
import { type Watch, watchReadable } from '../linux/event-loop.ts'
import { Region } from '../linux/region.ts'
import { close } from '../linux/socket.ts'
import { receiveMessage, sendMessage } from '../linux/unix.ts'
import { MESSAGE_BYTES_MAX } from './protocol.ts'

const MESSAGES_MAX = 64
/** Too many descriptors on their way, to this peer or to any: unix(7). <asm-generic/errno.h> */
const ETOOMANYREFS = 109

const received = Region.create(MESSAGE_BYTES_MAX)
const outgoing = Region.create(MESSAGE_BYTES_MAX)

/** 'full': the peer has not read what came before; try again. 'gone': the connection has ended. */
export type Sent = 'sent' | 'full' | 'gone'

export interface ConnectionOwner {
  /**
   * One message. 'malformed': it is none that may come here, and the connection ends.
   * @param body         valid during the call
   * @param descriptors  closed after the call, but for those that were taken out of the array
   */
  received(type: number, body: Uint8Array, descriptors: number[]): 'fine' | 'malformed'
  /** The other end closed, or it broke the rules; called once, and never after `close`. */
  ended(why: string, isFault: boolean): void
}

export class Connection {
  readonly fd: number
  readonly #owner: ConnectionOwner
  readonly #watch: Watch
  #isClosed = false

  /** @param fd  the connection's from now on. Throws SocketError when it can't be watched. */
  constructor(fd: number, owner: ConnectionOwner) {
    this.fd = fd
    this.#owner = owner
    this.#watch = watchReadable(fd, () => this.#read())
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** @param descriptors  stay the caller's; the peer gets copies */
  send(type: number, body: Uint8Array, descriptors: readonly number[] = []): Sent {
    if (this.#isClosed) return 'gone'
    assert(body.length < MESSAGE_BYTES_MAX, 'what does not fit into a message is cut before')
    outgoing.u8[0] = type
    outgoing.u8.set(body, 1)
    const result = sendMessage(this.fd, outgoing.address, 1 + body.length, descriptors)
    if (result > 0) return 'sent'
    if (result === -EAGAIN || result === -ENOBUFS || result === -ETOOMANYREFS) return 'full'
    // After these reading will find the end, behind what the peer still said.
    if (result !== -EPIPE && result !== -ECONNRESET) setImmediate(() => this.#end(result))
    return 'gone'
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#watch.close()
    close(this.fd)
  }

  #read(): void {
    for (let count = 0; count < MESSAGES_MAX && !this.#isClosed; count++) {
      const { bytes, descriptors } = receiveMessage(this.fd, received.address, MESSAGE_BYTES_MAX)
      if (bytes === -EAGAIN) return
      // Said once and ahead of all that waits, by a peer that closed before it had read everything
      // (unix_release_sock in net/unix/af_unix.c).
      if (bytes === -ECONNRESET) continue
      if (bytes <= 0) {
        this.#end(bytes)
        return
      }
      const left = [...descriptors]
      const type = received.u8[0]!
      const verdict = this.#owner.received(type, received.u8.subarray(1, bytes), left)
      for (const descriptor of left) close(descriptor)
      if (verdict === 'malformed' && !this.#isClosed) {
        this.close()
        this.#owner.ended(`message ${type} of ${bytes} bytes is malformed`, true)
      }
    }
  }

  #end(result: number): void {
    if (this.#isClosed) return
    this.close()
    this.#owner.ended(result === 0 ? 'closed' : errnoText(-result), result === -EMSGSIZE)
  }
}
