/**
 * Flights: questions that an upstream is being asked, and who waits for each.
 *
 * However many clients ask the same thing meanwhile, one question goes out (single flight): that
 * spares the upstream, and it denies an attacker the many identical questions in flight that make
 * guessing one of them easy (RFC 5452 §4.1; "birthday" attacks). Same means: name without case,
 * type, class, the DO and CD bits, and the upstream group.
 */
import { assert } from '../assert.ts'
import type { Question } from '../cache/question.ts'
import { copyBytes } from '../wire/bytes.ts'
import { NO_SLOT } from './slot.ts'

export const NO_FLIGHT = -1
const NAME_BYTES = 256

/**
 * For how long clients wait for upstreams while a stale answer lies in the cache.
 * Source: RFC 8767 §5, the client response timer: below the 2 s after which many ask again.
 */
const WAIT_MS = 1800

/** A quarter of all flights may be in the background. */
const BACKGROUND_SHIFT = 2

export class FlightTable {
  readonly count: number
  readonly firstSlot: Int32Array
  readonly nameBytes: Uint16Array
  readonly type: Uint16Array
  readonly class: Uint16Array
  readonly keyFlags: Uint8Array
  readonly group: Uint16Array
  readonly hash: Int32Array
  /** The name of flight n, wire form, lower case, at nameAt(n). */
  readonly names: Uint8Array
  /** When it began. */
  readonly begunMs: Float64Array
  /** When those who wait for it have waited long enough; Infinity: not, or not any more. */
  readonly dueMs: Float64Array
  readonly #isBackground: Uint8Array
  #backgroundCount = 0
  readonly #lastSlot: Int32Array
  readonly #free: Int32Array
  #freeCount: number
  /** Flights with the same hash form a list: bucket → first, then #next. */
  readonly #buckets: Int32Array
  readonly #next: Int32Array

  /** @param count  a power of two */
  constructor(count: number) {
    assert((count & (count - 1)) === 0, 'a power of two of flights')
    this.count = count
    this.firstSlot = new Int32Array(count).fill(NO_SLOT)
    this.#lastSlot = new Int32Array(count).fill(NO_SLOT)
    this.nameBytes = new Uint16Array(count)
    this.type = new Uint16Array(count)
    this.class = new Uint16Array(count)
    this.keyFlags = new Uint8Array(count)
    this.group = new Uint16Array(count)
    this.hash = new Int32Array(count)
    this.begunMs = new Float64Array(count)
    this.dueMs = new Float64Array(count).fill(Infinity)
    this.#isBackground = new Uint8Array(count)
    this.names = new Uint8Array(count * NAME_BYTES)
    this.#free = new Int32Array(count)
    for (let index = 0; index < count; index++) this.#free[index] = count - 1 - index
    this.#freeCount = count
    this.#buckets = new Int32Array(count).fill(NO_FLIGHT)
    this.#next = new Int32Array(count).fill(NO_FLIGHT)
  }

  get usedCount(): number {
    return this.count - this.#freeCount
  }

  get freeCount(): number {
    return this.#freeCount
  }

  /** Room for a flight that no client waits for: most of it is kept for those that one does. */
  get hasBackgroundRoom(): boolean {
    return this.#freeCount > 0 && this.#backgroundCount < this.count >> BACKGROUND_SHIFT
  }

  nameAt(flight: number): number {
    return flight * NAME_BYTES
  }

  /** Makes `into` the flight's question; its name is the flight's own, valid until `end`. */
  read(flight: number, into: Question): void {
    into.name = this.names
    into.nameAt = this.nameAt(flight)
    into.nameBytes = this.nameBytes[flight]!
    into.hash = this.hash[flight]!
    into.type = this.type[flight]!
    into.class = this.class[flight]!
    into.keyFlags = this.keyFlags[flight]!
    into.group = this.group[flight]!
  }

  find(question: Question): number {
    const { hash } = question
    let flight = this.#buckets[hash & (this.count - 1)]!
    while (flight !== NO_FLIGHT) {
      if (
        this.hash[flight] === hash &&
        this.type[flight] === question.type &&
        this.class[flight] === question.class &&
        this.keyFlags[flight] === question.keyFlags &&
        this.group[flight] === question.group &&
        this.#isName(flight, question)
      ) {
        return flight
      }
      flight = this.#next[flight]!
    }
    return NO_FLIGHT
  }

  /**
   * Begins a flight; there must be room.
   * @param isBackground  no client waits for it, so far
   */
  begin(question: Question, isBackground: boolean, nowMs: number): number {
    assert(this.#freeCount > 0, 'room for a flight was asked for')
    const flight = this.#free[--this.#freeCount]!
    const at = this.nameAt(flight)
    const { name, nameAt, nameBytes, hash } = question
    copyBytes(name, nameAt, nameBytes, this.names, at)
    this.nameBytes[flight] = nameBytes
    this.hash[flight] = hash
    this.type[flight] = question.type
    this.class[flight] = question.class
    this.keyFlags[flight] = question.keyFlags
    this.group[flight] = question.group
    this.begunMs[flight] = nowMs
    this.dueMs[flight] = nowMs + WAIT_MS
    this.#isBackground[flight] = isBackground ? 1 : 0
    if (isBackground) this.#backgroundCount++
    this.firstSlot[flight] = NO_SLOT
    this.#lastSlot[flight] = NO_SLOT
    const bucket = hash & (this.count - 1)
    this.#next[flight] = this.#buckets[bucket]!
    this.#buckets[bucket] = flight
    return flight
  }

  /** Lets a slot wait for a flight; `next` is SlotTable.next. */
  join(flight: number, slot: number, next: Int32Array): void {
    const last = this.#lastSlot[flight]!
    if (last === NO_SLOT) this.firstSlot[flight] = slot
    else next[last] = slot
    this.#lastSlot[flight] = slot
  }

  /** Nobody waits for the flight any more; returns the first slot that did. */
  detach(flight: number): number {
    const first = this.firstSlot[flight]!
    this.firstSlot[flight] = NO_SLOT
    this.#lastSlot[flight] = NO_SLOT
    return first
  }

  /** Ends a flight; returns the first slot that waited for it. */
  end(flight: number): number {
    const bucket = this.hash[flight]! & (this.count - 1)
    let at = this.#buckets[bucket]!
    if (at === flight) this.#buckets[bucket] = this.#next[flight]!
    else {
      while (this.#next[at] !== flight) {
        at = this.#next[at]!
        assert(at !== NO_FLIGHT, 'a flight under way is in its bucket')
      }
      this.#next[at] = this.#next[flight]!
    }
    if (this.#isBackground[flight] === 1) this.#backgroundCount--
    this.dueMs[flight] = Infinity
    this.#free[this.#freeCount++] = flight
    return this.firstSlot[flight]!
  }

  #isName(flight: number, question: Question): boolean {
    const { name, nameAt, nameBytes } = question
    if (this.nameBytes[flight] !== nameBytes) return false
    const at = this.nameAt(flight)
    for (let index = 0; index < nameBytes; index++) {
      if (this.names[at + index] !== name[nameAt + index]) return false
    }
    return true
  }
}
