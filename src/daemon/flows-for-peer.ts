/**
 * The flows that the peer gets: each that this process decided, and for a new process first all
 * that is still known here, its predecessor's too.
 */
import { FLOW_BYTES_MAX } from '../flow/record.ts'
import type { FlowHistory, HistoryCursor } from '../observe/history.ts'
import type { FlowSource } from '../sync/peer.ts'
import { FrameBuffer } from './frames.ts'

const PIECE_BYTES = 64 * 1024

export class FlowsForPeer implements FlowSource {
  readonly #all: FlowHistory
  readonly #own: FlowHistory
  readonly #frames = new FrameBuffer(PIECE_BYTES)
  #cursor: HistoryCursor
  /** While a new peer is told of the past: where that ends. */
  #pastEnd = 0
  #ownFrom = 0

  constructor(all: FlowHistory, own: FlowHistory) {
    this.#all = all
    this.#own = own
    this.#cursor = own.cursor(0)
  }

  next(): Uint8Array | null {
    while (this.#frames.hasRoom(FLOW_BYTES_MAX) && this.#advance()) {
      const { bytes, recordAt, recordBytes } = this.#cursor
      this.#frames.add(bytes, recordAt, recordBytes)
    }
    return this.#frames.isEmpty ? null : this.#frames.take()
  }

  rewind(): void {
    this.#cursor = this.#all.cursor(0)
    this.#pastEnd = this.#all.end
    this.#ownFrom = this.#own.end
  }

  #advance(): boolean {
    if (this.#pastEnd > 0 && this.#cursor.sequence >= this.#pastEnd) {
      this.#pastEnd = 0
      this.#cursor = this.#own.cursor(this.#ownFrom)
    }
    return this.#cursor.next()
  }
}
