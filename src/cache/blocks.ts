/**
 * The cache's memory: blocks of 64 bytes, chained to hold one entry each.
 *
 * Blocks of one size can't fragment: whatever was freed fits whatever comes next, and an entry
 * wastes less than one block. cache/cache.ts is the only caller and decides what the words mean.
 *
 * LAYOUT of a block, in 32-bit words
 *     0      number of the next block of the chain, 0 at its end; of a free block: the next free
 *     1–15   content
 * Block 0 is never given out, so that 0 can mean "none" in memory that nobody has written.
 *
 * A *position* is the index in `words` of a stream's next word. A stream runs through the content
 * of a chain's blocks; every step that reaches a block's end goes on in the next one, so a position
 * is never a multiple of 16. A stream that ends with its chain leaves a position in block 0, which
 * must not be used. Streams are whole words, little-endian, the last one padded with zeros.
 *
 * What must stay true: memory that was never used is never touched, so that the kernel need not
 * back it: blocks come from the free list first and then, in order, from the untouched end.
 */
import { assert } from '../assert.ts'

export const BLOCK_BYTES = 64
const BLOCK_SHIFT = 4
const BLOCK_WORDS = 1 << BLOCK_SHIFT
const IN_BLOCK = BLOCK_WORDS - 1
/** Words of a block that hold content. */
export const CONTENT_WORDS = BLOCK_WORDS - 1

/** Other people's buffers that a view is kept of: names of queries and flights, UDP and TCP replies. */
const VIEWS_MAX = 8

export class BlockStore {
  readonly words: Int32Array
  /** The same memory; a block's words 2n and 2n+1 are its double n. */
  readonly doubles: Float64Array
  readonly capacity: number
  #freeCount: number
  #firstFree = 0
  #untouched = 1
  /**
   * Views of the buffers seen last. A DataView reads and writes words where no Int32Array can
   * begin: a name is compared in half the time that its bytes take (25 to 52 ns for 36 bytes).
   */
  readonly #buffers: Uint8Array[] = []
  readonly #views: DataView[] = []
  #nextView = 0
  #name: Uint8Array = NO_BYTES
  #nameView: DataView = NO_VIEW
  #output: Uint8Array = NO_BYTES
  #outputView: DataView = NO_VIEW

  /**
   * @param at  bytes, a multiple of 8
   * @param bytes  what the blocks may take, from `at`
   */
  constructor(buffer: ArrayBuffer, at: number, bytes: number) {
    assert(isLittleEndian(), 'words of answers are stored as the bytes they came in')
    const count = Math.floor(bytes / BLOCK_BYTES)
    this.words = new Int32Array(buffer, at, count * BLOCK_WORDS)
    this.doubles = new Float64Array(buffer, at, (count * BLOCK_WORDS) / 2)
    this.capacity = count - 1
    this.#freeCount = this.capacity
  }

  get freeCount(): number {
    return this.#freeCount
  }

  /**
   * A chain of `count` blocks; their content is whatever was there.
   * @param count  1 to freeCount
   */
  allocate(count: number): number {
    assert(count > 0 && count <= this.#freeCount, 'blocks are there before they are taken')
    const words = this.words
    let first = 0
    let last = 0
    for (let taken = 0; taken < count; taken++) {
      let block = this.#firstFree
      if (block !== 0) this.#firstFree = words[block << BLOCK_SHIFT]!
      else {
        block = this.#untouched++
        assert(block <= this.capacity, 'what is not on the free list is untouched')
      }
      if (first === 0) first = block
      else words[last << BLOCK_SHIFT] = block
      last = block
    }
    words[last << BLOCK_SHIFT] = 0
    this.#freeCount -= count
    return first
  }

  /** Gives a chain back from `first` to its end. 0 is the empty chain. */
  release(first: number): void {
    if (first === 0) return
    const words = this.words
    let last = first
    let count = 1
    for (let next = words[last << BLOCK_SHIFT]!; next !== 0; count++) {
      last = next
      next = words[last << BLOCK_SHIFT]!
      assert(count < this.capacity, 'a chain ends')
    }
    words[last << BLOCK_SHIFT] = this.#firstFree
    this.#firstFree = first
    this.#freeCount += count
    assert(this.#freeCount <= this.capacity, 'a block is given back exactly once')
  }

  /** Forgets every chain. Memory that was touched stays so; it is used again first. */
  releaseAll(): void {
    this.#firstFree = 0
    this.#untouched = 1
    this.#freeCount = this.capacity
  }

  /** The position `count` words after `at`. */
  skip(at: number, count: number): number {
    const words = this.words
    let left = count
    let room = BLOCK_WORDS - (at & IN_BLOCK)
    while (left >= room) {
      at = followed(words, (at | IN_BLOCK) + 1)
      left -= room
      room = CONTENT_WORDS
    }
    return at + left
  }

  /**
   * Whether the `count` bytes of the stream at `at` are those of `bytes` from `from`.
   * @param bytes  any buffer; see readBytes
   */
  equals(at: number, bytes: Uint8Array, from: number, count: number): boolean {
    if (bytes !== this.#name) {
      this.#name = bytes
      this.#nameView = this.#viewOf(bytes)
    }
    const words = this.words
    const view = this.#nameView
    const wholeEnd = from + (count & ~3)
    while (from < wholeEnd) {
      if (words[at] !== view.getInt32(from, true)) return false
      from += 4
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
    return (count & 3) === 0 || words[at] === packed(bytes, from, from + (count & 3))
  }

  /** Writes bytes; returns the position after them. */
  writeBytes(at: number, bytes: Uint8Array, from: number, count: number): number {
    const words = this.words
    const end = from + count
    while (from < end) {
      words[at] = packed(bytes, from, end)
      from += 4
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
    return at
  }

  /** Writes 16-bit numbers, two to a word; returns the position after them. */
  writeHalves(at: number, halves: Uint16Array, count: number): number {
    const words = this.words
    for (let index = 0; index < count; index += 2) {
      const high = index + 1 < count ? halves[index + 1]! : 0
      words[at] = halves[index]! | (high << 16)
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
    return at
  }

  /** Writes pairs of a 16-bit number and a byte, one to a word; returns the position after them. */
  writePairs(at: number, halves: Uint16Array, bytes: Uint8Array, count: number): number {
    const words = this.words
    for (let index = 0; index < count; index++) {
      words[at] = halves[index]! | (bytes[index]! << 16)
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
    return at
  }

  /**
   * Copies `count` bytes of the stream at `at` to `out`, and not a byte more.
   * @param out  any buffer, any offset. A view is kept of the last VIEWS_MAX buffers that came
   *   here and to `equals`: who takes turns between more makes a new one each time
   */
  readBytes(at: number, out: Uint8Array, outAt: number, count: number): void {
    const words = this.words
    if (out !== this.#output) {
      this.#output = out
      this.#outputView = this.#viewOf(out)
    }
    const view = this.#outputView
    const wholeEnd = outAt + (count & ~3)
    while (outAt < wholeEnd) {
      view.setInt32(outAt, words[at]!, true)
      outAt += 4
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
    const left = count & 3
    if (left === 0) return
    const word = words[at]!
    for (let index = 0; index < left; index++) out[outAt + index] = word >>> (index * 8)
  }

  readHalves(at: number, into: Uint16Array, count: number): void {
    const words = this.words
    for (let index = 0; index < count; index += 2) {
      into[index] = words[at]!
      if (index + 1 < count) into[index + 1] = words[at]! >>> 16
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
  }

  readPairs(at: number, halves: Uint16Array, bytes: Uint8Array, count: number): void {
    const words = this.words
    for (let index = 0; index < count; index++) {
      halves[index] = words[at]!
      bytes[index] = words[at]! >>> 16
      at++
      if ((at & IN_BLOCK) === 0) at = followed(words, at)
    }
  }

  #viewOf(bytes: Uint8Array): DataView {
    for (let index = 0; index < this.#buffers.length; index++) {
      if (this.#buffers[index] === bytes) return this.#views[index]!
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#buffers[this.#nextView] = bytes
    this.#views[this.#nextView] = view
    this.#nextView = (this.#nextView + 1) % VIEWS_MAX
    return view
  }
}

const NO_BYTES = new Uint8Array(0)
const NO_VIEW = new DataView(new ArrayBuffer(0))

/** The first content word of the block that follows the one which ends before position `end`. */
function followed(words: Int32Array, end: number): number {
  return (words[end - BLOCK_WORDS]! << BLOCK_SHIFT) + 1
}

/** Four bytes as a little-endian word, zeros in the place of bytes at or after `end`. */
function packed(bytes: Uint8Array, from: number, end: number): number {
  if (from + 4 <= end) {
    return (
      bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24)
    )
  }
  let word = bytes[from]!
  if (from + 1 < end) word |= bytes[from + 1]! << 8
  if (from + 2 < end) word |= bytes[from + 2]! << 16
  return word
}

function isLittleEndian(): boolean {
  return new Uint8Array(new Uint32Array([1]).buffer)[0] === 1
}
