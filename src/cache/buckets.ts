/**
 * From a name's hash to the entries of that name: buckets, each the head of a list.
 *
 * All entries of one name are in one bucket, whatever their type and group, so that a name can be
 * forgotten as a whole. The lists run through ENTRY_CHAIN of the entries' own words; 0 ends them.
 * cache/cache.ts owns the table and compares keys; the memory is part of its budget.
 */
import { assert } from '../assert.ts'
import { ENTRY_CHAIN, ENTRY_HASH } from './entry.ts'

export class BucketTable {
  readonly count: number
  readonly #words: Int32Array
  readonly #first: Int32Array
  readonly #mask: number

  /**
   * @param first  zeros, a power of two of them
   * @param words  the entries' memory; entry e begins at word 16 × e
   */
  constructor(first: Int32Array, words: Int32Array) {
    this.count = first.length
    assert((this.count & (this.count - 1)) === 0, 'a power of two of buckets')
    this.#first = first
    this.#words = words
    this.#mask = this.count - 1
  }

  /** The first entry in the bucket of a hash, 0 none. */
  firstOf(hash: number): number {
    return this.#first[hash & this.#mask]!
  }

  /** The entry after this one in its bucket, 0 none. */
  after(entry: number): number {
    return this.#words[(entry << 4) + ENTRY_CHAIN]!
  }

  /** The hash that an entry was added with, as a signed number. */
  hash(entry: number): number {
    return this.#words[(entry << 4) + ENTRY_HASH]!
  }

  add(entry: number, hash: number): void {
    const bucket = hash & this.#mask
    this.#words[(entry << 4) + ENTRY_HASH] = hash
    this.#words[(entry << 4) + ENTRY_CHAIN] = this.#first[bucket]!
    this.#first[bucket] = entry
  }

  remove(entry: number): void {
    const bucket = this.hash(entry) & this.#mask
    const after = this.after(entry)
    let before = this.#first[bucket]!
    if (before === entry) {
      this.#first[bucket] = after
      return
    }
    while (this.after(before) !== entry) {
      before = this.after(before)
      assert(before !== 0, 'a stored entry is in its bucket')
    }
    this.#words[(before << 4) + ENTRY_CHAIN] = after
  }

  clear(): void {
    this.#first.fill(0)
  }
}
