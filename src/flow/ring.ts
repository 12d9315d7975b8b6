/**
 * A ring of records from one thread to another, in shared memory.
 *
 * One writer, one reader; neither ever waits. Full, the newest record is dropped and counted: a
 * slow reader must not delay a DNS answer. The worker writes flows and learned answers to the main
 * thread through one, and gets what the peer learned through another.
 *
 * LAYOUT, in 32-bit words
 *     0  HEAD      words ever written; only the writer stores it
 *     1  TAIL      words ever read; only the reader stores it
 *     2  DROPPED   records lost to a full ring; never decreases
 *     3            unused
 *     4  words     word n of the stream is at 4 + (n mod capacity)
 *
 * A record is one word of header and its body:
 *     header  = kind << 24 | body bytes        kind 0 is padding up to the end of the ring
 *     body    = bytes, padded to whole words
 * A record never wraps: one that would is preceded by padding, so that its body can be read and
 * written in place. HEAD and TAIL count up for ever and wrap at 2³², so the capacity is a power of
 * two and `(head - tail) >>> 0` is the number waiting even across the wrap. Bodies are plain
 * stores; the Atomics.store to HEAD publishes them, and the reader's Atomics.load of HEAD is what
 * makes them visible. Both are fences, which cost as much as writing a short record: the writer
 * publishes once for all that it has written, and looks at TAIL only when the ring seems full.
 */
import { assert } from '../assert.ts'

const HEAD = 0
const TAIL = 1
const DROPPED = 2
const HEADER_WORDS = 4
const PADDING = 0

/**
 * The largest body that an empty ring always has room for, wherever its head stands: with padding
 * up to the end it takes at most half of the ring, the record's header word included. A header has
 * 24 bits for the length.
 */
export function bodyBytesMax(capacityWords: number): number {
  return Math.min(0xffffff, capacityWords * 2 - 4)
}

/** Bytes of memory that a ring of `capacityWords` takes. */
export function ringBytes(capacityWords: number): number {
  return (HEADER_WORDS + capacityWords) * 4
}

abstract class RingEnd {
  /** The ring's own memory as bytes: bodies are read and written here, at the offset returned. */
  readonly bytes: Uint8Array
  /** The same as words; a body begins at a whole word. */
  readonly words: Int32Array
  protected readonly capacity: number

  /** @param words  ringBytes() of memory, zeroed before the first use; shared by both ends */
  constructor(words: Int32Array) {
    this.words = words
    this.capacity = words.length - HEADER_WORDS
    assert(
      this.capacity > 1 && (this.capacity & (this.capacity - 1)) === 0,
      'a ring holds a power of two words',
    )
    this.bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
  }

  /** Records lost to a full ring so far. */
  get dropped(): number {
    return Atomics.load(this.words, DROPPED) >>> 0
  }
}

export class RingWriter extends RingEnd {
  /** Of the stream: behind the last record that is whole, published or not. */
  #head = 0
  /** HEAD: what the reader may see. */
  #published = 0
  /** TAIL as it was when last looked at; the reader may have gone on since. */
  #tail = 0
  #next = 0

  /** @param words  as of RingEnd; a writer goes on where one before it has stopped */
  constructor(words: Int32Array) {
    super(words)
    this.#head = words[HEAD]! // only the writer stores HEAD, so a plain read is current
    this.#published = this.#head
    this.#tail = Atomics.load(words, TAIL)
  }

  /**
   * Room for a record's body: its byte offset in `bytes`, or -1 when the ring is full (the record
   * is then counted as dropped). Write the body there, then `commit`.
   * @param kind  1 to 127
   * @param bodyBytes  0 to bodyBytesMax()
   */
  reserve(kind: number, bodyBytes: number): number {
    const words = this.words
    const needed = 1 + ((bodyBytes + 3) >>> 2)
    const head = this.#head
    const at = head & (this.capacity - 1)
    const tillEnd = this.capacity - at
    const skipped = needed > tillEnd ? tillEnd : 0
    if (!this.#hasRoom(needed + skipped)) {
      Atomics.add(words, DROPPED, 1)
      return -1
    }
    if (skipped > 0) words[HEADER_WORDS + at] = (PADDING << 24) | ((skipped - 1) * 4)
    const header = HEADER_WORDS + (skipped > 0 ? 0 : at)
    this.#next = (head + skipped + needed) | 0
    words[header] = (kind << 24) | bodyBytes
    return (header + 1) * 4
  }

  /** The record reserved last is whole. */
  commit(): void {
    this.#head = this.#next
  }

  /** Lets the reader see every whole record; false when it has seen them all. */
  publish(): boolean {
    if (this.#head === this.#published) return false
    this.#published = this.#head
    Atomics.store(this.words, HEAD, this.#head)
    return true
  }

  #hasRoom(needed: number): boolean {
    if (needed <= this.capacity - ((this.#head - this.#tail) >>> 0)) return true
    this.#tail = Atomics.load(this.words, TAIL)
    return needed <= this.capacity - ((this.#head - this.#tail) >>> 0)
  }
}

export class RingReader extends RingEnd {
  /** Kind, place in `bytes` and length of the record that `next` found. */
  kind = 0
  bodyAt = 0
  bodyBytes = 0
  #end = 0

  /** Moves to the next record; false when nothing waits. Its body stays valid until `release`. */
  next(): boolean {
    const words = this.words
    for (;;) {
      const tail = words[TAIL]! // only the reader stores TAIL
      if (tail === Atomics.load(words, HEAD)) return false
      const at = HEADER_WORDS + (tail & (this.capacity - 1))
      const header = words[at]!
      this.kind = header >>> 24
      this.bodyBytes = header & 0xffffff
      this.bodyAt = (at + 1) * 4
      this.#end = (tail + 1 + ((this.bodyBytes + 3) >>> 2)) | 0
      if (this.kind !== PADDING) return true
      Atomics.store(words, TAIL, this.#end)
    }
  }

  /** What `nextRun` found: where it begins (a header), how long it is, how many records. */
  runAt = 0
  runWords = 0
  runCount = 0

  /**
   * Moves to the next record and all of its kind that lie right behind it, up to `wordsMax` words
   * (one record may be longer); false when nothing waits. They stay valid until `release`.
   */
  nextRun(wordsMax: number): boolean {
    if (!this.next()) return false
    const words = this.words
    const head = Atomics.load(words, HEAD)
    const kind = this.kind
    const first = (this.bodyAt >>> 2) - 1
    let end = this.#end
    let length = 1 + ((this.bodyBytes + 3) >>> 2)
    let count = 1
    // At the ring's end the stream goes on at its beginning: another run.
    while (end !== head && (end & (this.capacity - 1)) !== 0) {
      const header = words[HEADER_WORDS + (end & (this.capacity - 1))]!
      const next = 1 + (((header & 0xffffff) + 3) >>> 2)
      if (header >>> 24 !== kind || length + next > wordsMax) break
      end = (end + next) | 0
      length += next
      count++
    }
    this.#end = end
    this.runAt = first
    this.runWords = length
    this.runCount = count
    return true
  }

  /** Gives the room of the record, or run, back to the writer. */
  release(): void {
    Atomics.store(this.words, TAIL, this.#end)
  }
}
