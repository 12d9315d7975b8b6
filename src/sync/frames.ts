/**
 * Frames: records one behind the other, each behind a u32 of its length, little-endian. Flows and
 * learned answers travel so; what is in a record is not looked at here.
 *
 * FrameBuffer collects them until they are sent as one message, `eachFrame` takes them apart. (Of
 * flows there are many more: daemon/flows-for-peer.ts collects those by words.)
 */
import { CHUNK_BYTES, MESSAGE_BYTES_MAX } from './protocol.ts'

const LENGTH_BYTES = 4
/** A frame must fit into one message behind its first byte. */
export const FRAME_BYTES_MAX = MESSAGE_BYTES_MAX - 1

/** Whether the bytes are whole frames and nothing else, at least one. */
export function areFrames(bytes: Uint8Array): boolean {
  return bytes.length > 0 && countFrames(bytes, 0, bytes.length) > 0
}

/** How many whole frames lie between the two offsets; -1 when they are not just whole frames. */
export function countFrames(bytes: Uint8Array, at: number, end: number): number {
  let count = 0
  while (at < end) {
    at = frameEnd(bytes, at)
    if (at === -1 || at > end) return -1
    count++
  }
  return count
}

/**
 * End of the frames from `at` on that go into one message: as many as CHUNK_BYTES hold, or one
 * that is larger. -1 when the frame at `at` is cut short or fits into no message.
 */
export function endOfPiece(bytes: Uint8Array, at: number): number {
  let end = frameEnd(bytes, at)
  if (end === -1 || end - at > FRAME_BYTES_MAX) return -1
  while (end < bytes.length) {
    const next = frameEnd(bytes, end)
    if (next === -1 || next - at > CHUNK_BYTES) break
    end = next
  }
  return end
}

/** Offset behind the frame at `at`, or -1 when it does not end within the bytes. */
function frameEnd(bytes: Uint8Array, at: number): number {
  if (at + LENGTH_BYTES > bytes.length) return -1
  const length =
    (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  const end = at + LENGTH_BYTES + length
  return end <= bytes.length ? end : -1
}

/** Calls `take` for each record, which lies at `at`; what is not whole at the end is left out. */
export function eachFrame(
  frames: Uint8Array,
  take: (view: DataView, at: number, length: number) => void,
): void {
  const view = new DataView(frames.buffer, frames.byteOffset, frames.byteLength)
  let at = 0
  while (at < frames.length) {
    const end = frameEnd(frames, at)
    if (end === -1) return
    take(view, at + LENGTH_BYTES, end - at - LENGTH_BYTES)
    at = end
  }
}

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
