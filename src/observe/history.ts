/**
 * The last flows of a node, as raw records, in a fixed number of bytes.
 *
 * The main thread appends what it takes from the flow ring, what the peer sends, and connections
 * that the kernel dropped; `observe` and `explain` read. It keeps bytes and not objects: some
 * 25,000 flows in 4 MiB, and nothing for the garbage collector to walk.
 *
 * Records lie in CHUNK_COUNT chunks one behind the other, each as a u32 of length and its bytes;
 * when the last chunk is full the oldest is emptied and used again. A reader is a cursor: it holds
 * no records and nobody waits for it. One that is overtaken goes on at the oldest record there is
 * and knows how many it lost.
 */
import { assert } from '../assert.ts'

export const HISTORY_BYTES = 4 << 20
const CHUNK_COUNT = 16
const LENGTH_BYTES = 4

interface Chunk {
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Bytes in use. */
  used: number
  /** Sequence number of its first record. */
  first: number
  count: number
}

export class FlowHistory {
  readonly #chunkBytes: number
  /** Oldest first; at least one. */
  readonly #chunks: Chunk[]
  #waiting: (() => void)[] = []

  constructor(bytes: number = HISTORY_BYTES) {
    this.#chunkBytes = Math.floor(bytes / CHUNK_COUNT)
    this.#chunks = [newChunk(this.#chunkBytes, 0)]
  }

  /** Sequence number of the next record; also how many were ever appended. */
  get end(): number {
    const last = this.#chunks.at(-1)!
    return last.first + last.count
  }

  /** Sequence number of the oldest record that is still here; `end` when there is none. */
  get start(): number {
    return this.#chunks[0]!.first
  }

  /** Appends a copy of the `length` bytes at `at`. */
  append(bytes: Uint8Array, at: number, length: number): void {
    const needed = LENGTH_BYTES + length
    assert(needed <= this.#chunkBytes, 'a flow record is far smaller than a chunk')
    let chunk = this.#chunks.at(-1)!
    if (chunk.used + needed > this.#chunkBytes) chunk = this.#nextChunk()
    chunk.view.setUint32(chunk.used, length)
    chunk.bytes.set(bytes.subarray(at, at + length), chunk.used + LENGTH_BYTES)
    chunk.used += needed
    chunk.count++
    if (this.#waiting.length > 0) this.#wake()
  }

  /** A cursor whose next record is `sequence`, or the oldest there is, if that is later. */
  cursor(sequence: number): HistoryCursor {
    return new HistoryCursor(this, sequence)
  }

  /** Resolves when a record with number `sequence` is there, or `signal` is aborted. */
  async reached(sequence: number, signal: AbortSignal): Promise<void> {
    while (this.end <= sequence && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          signal.removeEventListener('abort', wake)
          this.#waiting = this.#waiting.filter((other) => other !== wake)
          resolve()
        }
        signal.addEventListener('abort', wake)
        this.#waiting.push(wake)
      })
    }
  }

  /**
   * Where record `sequence` lies: its chunk and the offset of its length. Chunks are walked from
   * their first record, so a cursor remembers where it was and asks only when it must.
   */
  find(sequence: number): { chunk: Chunk; at: number } {
    const chunk = this.#chunks.findLast((candidate) => candidate.first <= sequence)!
    let at = 0
    for (let index = chunk.first; index < sequence; index++) {
      at += LENGTH_BYTES + chunk.view.getUint32(at)
    }
    return { chunk, at }
  }

  /** First records of the chunks, newest first: where somebody who reads backwards sets cursors. */
  get chunkStarts(): readonly number[] {
    return this.#chunks.map((chunk) => chunk.first).reverse()
  }

  #nextChunk(): Chunk {
    const first = this.end
    if (this.#chunks.length < CHUNK_COUNT) {
      this.#chunks.push(newChunk(this.#chunkBytes, first))
    } else {
      const oldest = this.#chunks.shift()!
      this.#chunks.push({ ...oldest, used: 0, first, count: 0 })
    }
    return this.#chunks.at(-1)!
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }
}

export class HistoryCursor {
  /** The record that `next` found; valid until something is appended. */
  bytes: Uint8Array = new Uint8Array(0)
  recordAt = 0
  recordBytes = 0
  /** Records that were overwritten before this cursor came to them. */
  lost = 0
  readonly #history: FlowHistory
  #sequence: number
  #place: { chunk: Chunk; at: number } | null = null

  constructor(history: FlowHistory, sequence: number) {
    this.#history = history
    this.#sequence = Math.max(sequence, history.start)
  }

  /** Sequence number of the record that comes next. */
  get sequence(): number {
    return this.#sequence
  }

  /** Moves to the next record; false when there is none yet. */
  next(): boolean {
    const { start, end } = this.#history
    if (this.#sequence < start) {
      this.lost += start - this.#sequence
      this.#sequence = start
    }
    if (this.#sequence >= end) return false
    const place = this.#locate()
    const { chunk } = place
    this.bytes = chunk.bytes
    this.recordBytes = chunk.view.getUint32(place.at)
    this.recordAt = place.at + LENGTH_BYTES
    this.#sequence++
    place.at += LENGTH_BYTES + this.recordBytes
    return true
  }

  #locate(): { chunk: Chunk; at: number } {
    const place = this.#place
    // A chunk used again is another object, so one that was overtaken ends before #sequence.
    if (place && this.#sequence < place.chunk.first + place.chunk.count) return place
    this.#place = this.#history.find(this.#sequence)
    return this.#place
  }
}

function newChunk(bytes: number, first: number): Chunk {
  const memory = new Uint8Array(bytes)
  return { bytes: memory, view: new DataView(memory.buffer), used: 0, first, count: 0 }
}
