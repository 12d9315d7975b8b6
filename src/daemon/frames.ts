/**
 * Records on their way to the peer and from it: each behind a u32 of its length, little-endian,
 * collected until they are sent as one message. (Flows, of which there are many more, are collected
 * by words: flows-for-peer.ts.)
 */
import { viewOf } from '../wire/bytes.ts'

const LENGTH_BYTES = 4

export class FrameBuffer {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #used = 0

  constructor(bytes: number) {
    this.#bytes = new Uint8Array(bytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get isEmpty(): boolean {
    return this.#used === 0
  }

  /** Adds a copy of the record; false when it has no room (then `take` and add it again). */
  add(bytes: Uint8Array, at: number, length: number): boolean {
    const end = this.#used + LENGTH_BYTES + length
    if (end > this.#bytes.length) return false
    this.#view.setUint32(this.#used, length, true)
    this.#bytes.set(bytes.subarray(at, at + length), this.#used + LENGTH_BYTES)
    this.#used = end
    return true
  }

  /** All that was added, as a copy; empty afterwards. */
  take(): Uint8Array {
    const frames = this.#bytes.slice(0, this.#used)
    this.#used = 0
    return frames
  }
}

/** Calls `take` for each record, which lies at `at`; what is not whole at the end is left out. */
export function eachFrame(
  frames: Uint8Array,
  take: (view: DataView, at: number, length: number) => void,
): void {
  const view = viewOf(frames)
  let at = 0
  while (at + LENGTH_BYTES <= frames.length) {
    const length = view.getUint32(at, true)
    at += LENGTH_BYTES
    if (length > frames.length - at) return
    take(view, at, length)
    at += length
  }
}
