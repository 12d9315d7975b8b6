/** The way back to clients without sockets: replies are kept under the number of their exchange. */
import type { Arrival } from '../../../src/pipeline/arrival.ts'
import { CHANNEL_TCP } from '../../../src/pipeline/arrival.ts'
import type { Replies } from '../../../src/pipeline/context.ts'

/** Room for a datagram, as worker/replies.ts has it. */
const DATAGRAM_BYTES_MAX = 4096
const MESSAGE_ROOM = 70_000

export class CollectedReplies implements Replies {
  readonly bytes = new Uint8Array(MESSAGE_ROOM)
  readonly view = new DataView(this.bytes.buffer)
  readonly at = 64
  limit = 0
  /** By the client's source port, which is the exchange's number. */
  readonly byPort = new Map<number, Uint8Array>()
  /** Called before a reply is kept, with the pipeline's arrival. */
  onSend: (arrival: Arrival, message: Uint8Array) => void = () => {}

  open(arrival: Arrival): boolean {
    const isTcp = arrival.channel >= CHANNEL_TCP
    this.limit = isTcp ? this.bytes.length : this.at + DATAGRAM_BYTES_MAX
    return true
  }

  send(arrival: Arrival, length: number): void {
    const message = this.bytes.slice(this.at, this.at + length)
    this.onSend(arrival, message)
    this.byPort.set(arrival.sourcePort, message)
  }
}
