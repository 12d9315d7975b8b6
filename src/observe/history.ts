/**
 * The last flows of a node, as raw records, in a fixed number of bytes.
 *
 * The main thread appends what it takes from the flow ring, what the peer sends, and connections
 * that the kernel dropped; `observe` and `explain` read. It keeps bytes and not objects: some
 * 25,000 flows in 4 MiB, and nothing for the garbage collector to walk.
 *
 * Records lie in CHUNK_COUNT chunks one behind the other, in the form that they have in the ring
 * (flow/ring.ts: a header word of kind and length, then the body in whole words), so that what the
 * worker wrote is taken over by one copy for many records. When the last chunk is full the oldest
 * is emptied and used again. A reader is a cursor: it holds
 * no records and nobody waits for it. One that is overtaken goes on at the oldest record there is
 * and knows how many it lost.
 */
import { assert } from '../assert.ts'
import { RECORD_FLOW, RECORD_FOREIGN_FLOW } from '../flow/record.ts'
import { copyToWords } from '../wire/bytes.ts'

export const HISTORY_BYTES = 4 << 20
/** What appendRun takes at once: far less than a chunk, so that little of one is wasted. */
export const HISTORY_RUN_WORDS = 2048
const CHUNK_COUNT = 16
const LENGTH_MASK = 0xffffff
const KIND_SHIFT = 24

interface Chunk {
  readonly bytes: Uint8Array
  readonly words: Int32Array
  /** Words in use. */
  used: number
  /** Sequence number of its first record. */
  first: number
  count: number
}

export class FlowHistory {
  readonly #chunkWords: number
  /** Oldest first; at least one. */
  readonly #chunks: Chunk[]
  /** Not used yet. All memory is taken at the start: flows do not make a process larger. */
  readonly #spare: Chunk[] = []
  #waiting: (() => void)[] = []

  constructor(bytes: number = HISTORY_BYTES) {
    this.#chunkWords = Math.floor(bytes / CHUNK_COUNT / 4)
    for (let count = 0; count < CHUNK_COUNT; count++) this.#spare.push(newChunk(this.#chunkWords))
    this.#chunks = [this.#spare.pop()!]
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

  /**
   * Appends a copy of the `length` bytes at `at`.
   * @param isForeign  the peer decided it, so it need not be told of it
   */
  append(view: DataView, at: number, length: number, isForeign = false): void {
    const words = wordsOf(length)
    const chunk = this.#chunkFor(words)
    const kind = isForeign ? RECORD_FOREIGN_FLOW : RECORD_FLOW
    chunk.words[chunk.used] = (kind << KIND_SHIFT) | length
    copyToWords(view, at, length, chunk.words, chunk.used + 1)
    chunk.used += words
    chunk.count++
    if (this.#waiting.length > 0) this.#wake()
  }

  /**
   * Appends `count` records that lie one behind the other in a ring: `length` words from word `at`.
   * @param length  at most HISTORY_RUN_WORDS
   */
  appendRun(words: Int32Array, at: number, length: number, count: number): void {
    const chunk = this.#chunkFor(length)
    chunk.words.set(words.subarray(at, at + length), chunk.used)
    chunk.used += length
    chunk.count += count
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
   * Where record `sequence` lies: its chunk and the word of its header. Chunks are walked from
   * their first record, so a cursor remembers where it was and asks only when it must.
   */
  find(sequence: number): { chunk: Chunk; at: number } {
    const chunk = this.#chunks.findLast((candidate) => candidate.first <= sequence)!
    let at = 0
    for (let index = chunk.first; index < sequence; index++) at += wordsOf(chunk.words[at]!)
    return { chunk, at }
  }

  /** First records of the chunks, newest first: where somebody who reads backwards sets cursors. */
  get chunkStarts(): readonly number[] {
    return this.#chunks.map((chunk) => chunk.first).reverse()
  }

  #chunkFor(words: number): Chunk {
    assert(words <= this.#chunkWords, 'what is appended is far smaller than a chunk')
    const chunk = this.#chunks.at(-1)!
    return chunk.used + words > this.#chunkWords ? this.#nextChunk() : chunk
  }

  #nextChunk(): Chunk {
    const first = this.end
    const free = this.#spare.pop() ?? this.#chunks.shift()!
    const chunk = { ...free, used: 0, first, count: 0 }
    this.#chunks.push(chunk)
    return chunk
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }
}

export class HistoryCursor {
  /** The record that `next` found; valid until something is appended. */
  bytes: Uint8Array = new Uint8Array(0)
  /** The same as words; a record begins at a whole word. */
  words: Int32Array = new Int32Array(0)
  recordAt = 0
  recordBytes = 0
  /** The peer decided it. */
  isForeign = false
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
    this.words = chunk.words
    const header = chunk.words[place.at]!
    this.recordBytes = header & LENGTH_MASK
    this.recordAt = (place.at + 1) * 4
    this.isForeign = header >>> KIND_SHIFT === RECORD_FOREIGN_FLOW
    this.#sequence++
    place.at += wordsOf(header)
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

function newChunk(words: number): Chunk {
  const memory = new Int32Array(words).fill(0)
  return { bytes: new Uint8Array(memory.buffer), words: memory, used: 0, first: 0, count: 0 }
}

/** Words of a record, its header included. */
function wordsOf(header: number): number {
  return 1 + (((header & LENGTH_MASK) + 3) >>> 2)
}
