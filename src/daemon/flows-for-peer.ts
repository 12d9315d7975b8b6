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
  readonly #history: FlowHistory
  readonly #frames = new FrameBuffer(PIECE_BYTES)
  #cursor: HistoryCursor
  /** Up to here a new peer is told everything, what its predecessor decided too. */
  #pastEnd = 0

  constructor(history: FlowHistory) {
    this.#history = history
    this.#cursor = history.cursor(history.end)
  }

  next(): Uint8Array | null {
    const cursor = this.#cursor
    while (this.#frames.hasRoom(FLOW_BYTES_MAX) && cursor.next()) {
      if (cursor.isForeign && cursor.sequence > this.#pastEnd) continue
      this.#frames.add(cursor.bytes, cursor.recordAt, cursor.recordBytes)
    }
    return this.#frames.isEmpty ? null : this.#frames.take()
  }

  rewind(): void {
    this.#cursor = this.#history.cursor(0)
    this.#pastEnd = this.#history.end
  }
}
