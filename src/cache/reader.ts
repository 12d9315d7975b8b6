/**
 * Reading a cache entry: its fields and the bytes it holds. The reading half of AnswerCache
 * (cache.ts), which says what an entry is and for how long its number is valid. Nothing here
 * changes anything.
 */
import { assert } from '../assert.ts'
import { KIND_ERROR } from '../wire/answer.ts'
import type { BlockStore } from './blocks.ts'
import {
  ENTRY_CONTENT,
  ENTRY_GROUP,
  ENTRY_QUESTION,
  ENTRY_SERIAL,
  ENTRY_SIZES,
  ENTRY_STATE,
  ENTRY_STORED,
  ENTRY_TTL,
  FAILURES_MAX,
  KIND_TIMEOUT,
  KIND_UNREACHABLE,
  STATE_FAILURES_SHIFT,
  STATE_FLAGS_SHIFT,
  STATE_KIND_SHIFT,
} from './entry.ts'

export abstract class EntryReader {
  protected readonly blocks: BlockStore
  protected readonly words: Int32Array
  protected readonly doubles: Float64Array

  constructor(blocks: BlockStore) {
    this.blocks = blocks
    this.words = blocks.words
    this.doubles = blocks.doubles
  }

  /** KIND_* of wire/answer.ts or entry.ts. */
  kind(entry: number): number {
    return (this.words[(entry << 4) + ENTRY_STATE]! >>> STATE_KIND_SHIFT) & 15
  }

  /** Whether it says that no answer could be had. */
  isFailure(entry: number): boolean {
    return isFailureKind(this.kind(entry))
  }

  /** Failures in a row since the last answer. */
  failures(entry: number): number {
    return (this.words[(entry << 4) + ENTRY_STATE]! >>> STATE_FAILURES_SHIFT) & FAILURES_MAX
  }

  type(entry: number): number {
    return this.words[(entry << 4) + ENTRY_QUESTION]! & 0xffff
  }

  class(entry: number): number {
    return this.words[(entry << 4) + ENTRY_QUESTION]! >>> 16
  }

  /** KEY_*. */
  keyFlags(entry: number): number {
    return (this.words[(entry << 4) + ENTRY_STATE]! >>> STATE_FLAGS_SHIFT) & 15
  }

  group(entry: number): number {
    return this.words[(entry << 4) + ENTRY_GROUP]! & 0xffff
  }

  nameBytes(entry: number): number {
    return this.words[(entry << 4) + ENTRY_STATE]! & 0xff
  }

  messageBytes(entry: number): number {
    return this.words[(entry << 4) + ENTRY_SIZES]! & 0xffff
  }

  ttlCount(entry: number): number {
    return this.words[(entry << 4) + ENTRY_SIZES]! >>> 16
  }

  addressCount(entry: number): number {
    return this.words[(entry << 4) + ENTRY_GROUP]! >>> 16
  }

  /**
   * 32 bits that tell this answer from whatever was or will be in the same place: insertions are
   * counted, and come round after 4 billion of them.
   */
  serial(entry: number): number {
    return this.words[(entry << 4) + ENTRY_SERIAL]!
  }

  /** Seconds that it was stored for. */
  ttlSeconds(entry: number): number {
    return this.words[(entry << 4) + ENTRY_TTL]!
  }

  /** Whole seconds since it was stored. While it is fresh this is less than its TTL. */
  ageSeconds(entry: number, nowMs: number): number {
    const seconds = Math.floor((nowMs - this.storedAtMs(entry)) / 1000)
    return seconds > 0 ? seconds : 0
  }

  /** TTL less age: at least 1 while it is fresh, 0 or less afterwards. */
  remainingSeconds(entry: number, nowMs: number): number {
    return this.ttlSeconds(entry) - this.ageSeconds(entry, nowMs)
  }

  /** Monotonic milliseconds. Not for hot code: where it is not inlined the result is an object. */
  storedAtMs(entry: number): number {
    return this.doubles[(entry << 3) + ENTRY_STORED]!
  }

  /** As storedAtMs. */
  expiresAtMs(entry: number): number {
    return this.storedAtMs(entry) + this.words[(entry << 4) + ENTRY_TTL]! * 1000
  }

  /**
   * Copies the message out as it came in, and nothing after it; returns its bytes.
   * @param out  has room for messageBytes() at `outAt`; may be any of a few buffers (readBytes)
   */
  copyMessage(entry: number, out: Uint8Array, outAt: number): number {
    const bytes = this.messageBytes(entry)
    assert(outAt + bytes <= out.length, 'the message has room where it is copied to')
    const before =
      wordsOf(this.nameBytes(entry)) + halfWords(this.ttlCount(entry)) + this.addressCount(entry)
    const from = this.blocks.skip((entry << 4) + ENTRY_CONTENT, before)
    this.blocks.readBytes(from, out, outAt, bytes)
    return bytes
  }

  /** Copies the name out; returns its bytes. */
  copyName(entry: number, out: Uint8Array, outAt: number): number {
    const bytes = this.nameBytes(entry)
    assert(outAt + bytes <= out.length, 'the name has room where it is copied to')
    this.blocks.readBytes((entry << 4) + ENTRY_CONTENT, out, outAt, bytes)
    return bytes
  }

  /** Copies the places of the records' TTLs; returns how many. */
  ttlOffsets(entry: number, into: Uint16Array): number {
    const count = this.ttlCount(entry)
    assert(count <= into.length, 'the offsets have room where they are copied to')
    const before = wordsOf(this.nameBytes(entry))
    this.blocks.readHalves(this.blocks.skip((entry << 4) + ENTRY_CONTENT, before), into, count)
    return count
  }

  /** Copies the places and families of the addresses; returns how many. */
  addresses(entry: number, offsets: Uint16Array, families: Uint8Array): number {
    const count = this.addressCount(entry)
    assert(count <= offsets.length && count <= families.length, 'the addresses have room')
    const before = wordsOf(this.nameBytes(entry)) + halfWords(this.ttlCount(entry))
    this.blocks.readPairs(
      this.blocks.skip((entry << 4) + ENTRY_CONTENT, before),
      offsets,
      families,
      count,
    )
    return count
  }
}

export function isFailureKind(kind: number): boolean {
  return kind === KIND_ERROR || kind === KIND_TIMEOUT || kind === KIND_UNREACHABLE
}

/** Words that `bytes` bytes take. */
export function wordsOf(bytes: number): number {
  return (bytes + 3) >>> 2
}

/** Words that `count` 16-bit numbers take. */
export function halfWords(count: number): number {
  return (count + 1) >>> 1
}
