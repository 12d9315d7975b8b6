/**
 * SIEVE: which entry gives way when the cache is full.
 *
 * One queue in the order of insertion and one bit for each entry, "visited since the hand came
 * by". A hit sets the bit and moves nothing. For room the *hand* goes from the oldest towards the
 * newest: a visited entry loses its bit and stays where it is, the first that has none is evicted,
 * and the hand stays there for the next time. So names asked once leave soon, and names asked
 * again stay without a list being reordered for each query. cache/cache.ts owns the queue and
 * decides what happens to the victim.
 *
 * The links and the bit live in the entries' own words, at ENTRY_* of cache/entry.ts; 0 is nobody.
 *
 * What must stay true: an entry's place never changes while it lives, and an entry that leaves for
 * another reason (expired, removed) takes the hand one further if it stood there.
 *
 * Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI '24, algorithm 1.
 */
import { ENTRY_NEWER, ENTRY_OLDER, ENTRY_STATE, STATE_VISITED } from './entry.ts'

export class SieveQueue {
  readonly #words: Int32Array
  #newest = 0
  #oldest = 0
  #hand = 0

  /** @param words  the entries' memory; entry e begins at word 16 × e */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Puts a new entry at the newest end, not visited. */
  push(entry: number): void {
    const words = this.#words
    const at = entry << 4
    words[at + ENTRY_NEWER] = 0
    words[at + ENTRY_OLDER] = this.#newest
    words[at + ENTRY_STATE] = words[at + ENTRY_STATE]! & ~STATE_VISITED
    if (this.#newest !== 0) words[(this.#newest << 4) + ENTRY_NEWER] = entry
    else this.#oldest = entry
    this.#newest = entry
  }

  unlink(entry: number): void {
    const words = this.#words
    const newer = words[(entry << 4) + ENTRY_NEWER]!
    const older = words[(entry << 4) + ENTRY_OLDER]!
    if (newer !== 0) words[(newer << 4) + ENTRY_OLDER] = older
    else this.#newest = older
    if (older !== 0) words[(older << 4) + ENTRY_NEWER] = newer
    else this.#oldest = newer
    if (this.#hand === entry) this.#hand = newer
  }

  /** The entry at the hand, which begins again at the oldest; 0 when the queue is empty. */
  atHand(): number {
    if (this.#hand === 0) this.#hand = this.#oldest
    return this.#hand
  }

  /** Leaves the entry at the hand where it is: takes its bit and goes on. */
  pass(): void {
    const at = this.#hand << 4
    const words = this.#words
    words[at + ENTRY_STATE] = words[at + ENTRY_STATE]! & ~STATE_VISITED
    this.#hand = words[at + ENTRY_NEWER]!
  }

  isVisited(entry: number): boolean {
    return (this.#words[(entry << 4) + ENTRY_STATE]! & STATE_VISITED) !== 0
  }

  clear(): void {
    this.#newest = 0
    this.#oldest = 0
    this.#hand = 0
  }
}
