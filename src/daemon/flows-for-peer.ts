/**
 * The flows that the peer gets: each that this process decided, and for a new process first all
 * that is still known here, its predecessor's too.
 *
 * There is one for each query, so they are copied by words: a view and a call for each record cost
 * three times as much, and made a busy node's answers wait.
 */
import { FLOW_BYTES_MAX } from '../flow/record.ts'
import { letOthersRun } from '../linux/process.ts'
import type { FlowHistory, HistoryCursor } from '../observe/history.ts'
import type { FlowSource } from '../sync/peer.ts'

/** Some 150 flows: who waits for the processor gets it after each piece that is full. */
const PIECE_WORDS = 4 * 1024
const FRAME_WORDS_MAX = 1 + FLOW_BYTES_MAX / 4

export class FlowsForPeer implements FlowSource {
  readonly #history: FlowHistory
  readonly #words = new Int32Array(PIECE_WORDS)
  readonly #bytes = new Uint8Array(this.#words.buffer)
  #cursor: HistoryCursor
  /** Up to here a new peer is told everything, what its predecessor decided too. */
  #pastEnd = 0

  constructor(history: FlowHistory) {
    this.#history = history
    this.#cursor = history.cursor(history.end)
  }

  next(): Uint8Array | null {
    const cursor = this.#cursor
    const words = this.#words
    let used = 0
    while (used + FRAME_WORDS_MAX <= PIECE_WORDS && cursor.next()) {
      if (cursor.isForeign && cursor.sequence > this.#pastEnd) continue
      const count = (cursor.recordBytes + 3) >>> 2
      words[used++] = count * 4 // the frame's length
      for (let at = cursor.recordAt >>> 2, end = at + count; at < end; at++) {
        words[used++] = cursor.words[at]!
      }
    }
    if (used + FRAME_WORDS_MAX > PIECE_WORDS) letOthersRun()
    return used === 0 ? null : this.#bytes.subarray(0, used * 4)
  }

  rewind(): void {
    this.#cursor = this.#history.cursor(0)
    this.#pastEnd = this.#history.end
  }
}
