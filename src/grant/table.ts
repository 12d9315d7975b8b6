/**
 * What this process's worker knows to be granted: client address × address × port set → until when;
 * and which cached answers it has admitted whole, so that a hit need not look for each address.
 *
 * The kernel's sets are the truth; this table only says which grants need not be written again.
 * Losing an entry costs one packet, never a connection, so it is a fixed, two-way associative
 * table that forgets the sooner ending of two entries when a third wants their place. It must not
 * say "in force" for a grant that the kernel dropped: whoever revokes grants, changes the policy
 * or finds the kernel's sets gone has it cleared (Pipeline.forgetGrants).
 *
 * LAYOUT of an entry, 32-bit words
 *     0     family << 16 | port set
 *     1     client's IPv4 address, or the first word of its IPv6 address
 *     2     the same of the address that is open
 *     3..5  the rest of the client's IPv6 address; of no meaning in an IPv4 entry
 *     6..8  the rest of the open one
 * and beside it, in #ends, when it ends: ms on the worker's clock, 0 for an empty entry; negative
 * when we know only that it was given until then. (Not a tenth word: 2³¹ ms are 24 days, and a
 * process should outlive them.)
 *
 * An answer in the cache never changes, and its TTLs end when they end: if all that it opens was
 * granted to a client for as long as it lives, then so it is at the next hit. Rows of client, entry
 * and serial (cache/entry.ts) say for which this is so. One row for each hash, the last one stays.
 */
import { assert } from '../assert.ts'

const WORDS = 9
const KEY = 0
const CLIENT = 1
const ADDRESS = 2
const REST = 3
/** Words of an IPv6 address behind its first. */
const REST_WORDS = 3
const WAYS = 2

const ADMITTED_WORDS = 4
const ADMITTED_CLIENT = 0
/** 0: none; there is no entry 0. */
const ADMITTED_ENTRY = 1
const ADMITTED_SERIAL = 2

export class GrantTable {
  readonly #words: Int32Array
  readonly #ends: Float64Array
  readonly #sets: number
  readonly #admitted: Int32Array
  readonly #admittedMask: number
  /** What is being looked for, as an entry has it. */
  readonly #key = new Int32Array(WORDS)

  /** @param entries  a power of two; 32,768 cover 1,000 clients with 32 open addresses each */
  constructor(entries: number) {
    assert(entries >= WAYS && (entries & (entries - 1)) === 0, 'a power of two of grants')
    this.#words = new Int32Array(entries * WORDS)
    this.#ends = new Float64Array(entries)
    this.#sets = entries / WAYS
    this.#admitted = new Int32Array(entries * ADMITTED_WORDS)
    this.#admittedMask = entries - 1
  }

  /** Whether the kernel holds this grant until `untilMs` or longer, as far as we know. */
  isInForce(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    portSet: number,
    untilMs: number,
  ): boolean {
    const first = this.#place(family, client, clientAt, address, addressAt, portSet)
    for (let entry = first; entry < first + WAYS; entry++) {
      if (this.#ends[entry]! >= untilMs && this.#isKey(entry, family)) return true
    }
    return false
  }

  /**
   * Whether we have written this grant and it lasted until `sinceMs` or longer, though it may be
   * over or taken back. No is what a table that has forgotten says, too.
   */
  wasGiven(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    portSet: number,
    sinceMs: number,
  ): boolean {
    const first = this.#place(family, client, clientAt, address, addressAt, portSet)
    for (let entry = first; entry < first + WAYS; entry++) {
      if (Math.abs(this.#ends[entry]!) >= sinceMs && this.#isKey(entry, family)) return true
    }
    return false
  }

  /** Notes a grant that the kernel took; it lasts until `endMs`, more than 0. */
  note(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    portSet: number,
    endMs: number,
  ): void {
    const first = this.#place(family, client, clientAt, address, addressAt, portSet)
    const ends = this.#ends
    let entry = first
    if (!this.#isKey(first, family)) {
      if (this.#isKey(first + 1, family) || ends[first + 1]! < ends[first]!) entry = first + 1
    }
    if (this.#isKey(entry, family) && ends[entry]! >= endMs) return
    const at = entry * WORDS
    for (let word = 0; word < WORDS; word++) this.#words[at + word] = this.#key[word]!
    ends[entry] = endMs
  }

  /** Whether noteAdmitted was told so since the last clear. No is what may be forgotten, too. */
  isAdmitted(client: number, entry: number, serial: number): boolean {
    const admitted = this.#admitted
    const at = this.#admittedAt(client, entry)
    return (
      admitted[at + ADMITTED_ENTRY] === entry &&
      admitted[at + ADMITTED_CLIENT] === client &&
      admitted[at + ADMITTED_SERIAL] === serial
    )
  }

  /**
   * All that a cached answer opens is granted to the client for as long as the answer is fresh.
   * @param client  index in the policy table
   * @param entry  of the cache, not 0; and its serial
   */
  noteAdmitted(client: number, entry: number, serial: number): void {
    const at = this.#admittedAt(client, entry)
    this.#admitted[at + ADMITTED_CLIENT] = client
    this.#admitted[at + ADMITTED_ENTRY] = entry
    this.#admitted[at + ADMITTED_SERIAL] = serial
  }

  /** No grant is in force any more, as far as we know. */
  clear(): void {
    this.#admitted.fill(0)
    const ends = this.#ends
    for (let entry = 0; entry < ends.length; entry++) ends[entry] = -Math.abs(ends[entry]!)
  }

  #admittedAt(client: number, entry: number): number {
    const hash = Math.imul(entry ^ Math.imul(client, 0x85ebca6b), 0x9e3779b1)
    return ((hash >>> 15) & this.#admittedMask) * ADMITTED_WORDS
  }

  /** Puts the key into #key and returns the first entry of its set. */
  #place(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    portSet: number,
  ): number {
    const key = this.#key
    const clientWord = readWord(client, clientAt)
    const addressWord = readWord(address, addressAt)
    key[KEY] = (family << 16) | portSet
    key[CLIENT] = clientWord
    key[ADDRESS] = addressWord
    let hash = mix(portSet, clientWord, addressWord)
    for (let word = 0; family === 6 && word < REST_WORDS; word++) {
      const clientRest = readWord(client, clientAt + 4 + word * 4)
      const addressRest = readWord(address, addressAt + 4 + word * 4)
      key[REST + word] = clientRest
      key[REST + REST_WORDS + word] = addressRest
      hash = mix(hash, clientRest, addressRest)
    }
    hash ^= hash >>> 16
    return (hash & (this.#sets - 1)) * WAYS
  }

  #isKey(entry: number, family: number): boolean {
    const words = this.#words
    const key = this.#key
    const at = entry * WORDS
    if (words[at + CLIENT] !== key[CLIENT] || words[at + ADDRESS] !== key[ADDRESS]) return false
    if (words[at + KEY] !== key[KEY]) return false
    if (family === 4) return true
    for (let word = REST; word < WORDS; word++) {
      if (words[at + word] !== key[word]) return false
    }
    return true
  }
}

function mix(hash: number, client: number, address: number): number {
  const mixed = Math.imul(hash ^ client, 0x9e3779b1)
  return Math.imul((mixed >>> 15) ^ mixed ^ address, 0x85ebca6b)
}

function readWord(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}
