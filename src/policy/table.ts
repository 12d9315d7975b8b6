/**
 * The compiled table as the worker uses it: who is this client, may it ask this, and what does an
 * answer to this name open? Looked up for every packet, in memory that policy/table-encode.ts
 * filled (its layout: policy/table-layout.ts). One object serves all tables, one after the other.
 *
 * What must stay true: no look-up allocates, throws or walks further than a bound that the table's
 * content sets: exact names and `*.x`, `**.x` patterns are hash look-ups, one for each label of the
 * name at most; the rest is tried one by one. And what is not allowed by a rule is denied.
 */
import { assert } from '../assert.ts'
import { isSuffixAt, matchesGlob } from './pattern.ts'
import type { ScannedName } from './scanned-name.ts'
import {
  CLIENT_INTERFACE,
  CLIENT_IPV4_AT,
  CLIENT_IPV4_COUNT,
  CLIENT_IPV6_AT,
  CLIENT_IPV6_COUNT,
  CLIENT_SLOT_WORDS,
  CLIENT_SUBJECT,
  CLIENT_WORDS,
  DENY_RESPONSES,
  firstSlot,
  GLOB_AT,
  GLOB_IS_DEEP,
  GLOB_VALUES,
  GLOB_WORDS,
  GROUP_DENY,
  GROUP_IPV4,
  GROUP_IPV4_COUNT,
  GROUP_IPV6,
  GROUP_IPV6_COUNT,
  GROUP_NAMES,
  GROUP_PORT_COUNT,
  GROUP_PORTS,
  GROUP_VERDICT,
  GROUP_WORDS,
  HEADER_BYTES_AT,
  HEADER_CLIENT_COUNT,
  HEADER_CLIENTS,
  HEADER_DENY_RESPONSE,
  HEADER_FLAGS,
  HEADER_IPV4_HASH,
  HEADER_IPV4_MASK,
  HEADER_IPV6_HASH,
  HEADER_IPV6_MASK,
  HEADER_MAGIC,
  HEADER_PORT_SETS_MAX,
  HEADER_REVISION,
  HEADER_SUBJECTS,
  HEADER_TOTAL_WORDS,
  hashAddress,
  IPV4_RANGE_WORDS,
  IPV6_RANGE_WORDS,
  MATCHER_ALL,
  MATCHER_EXACT,
  MATCHER_GLOB_COUNT,
  MATCHER_GLOBS,
  MATCHER_LABELS,
  MATCHER_ONE_LABEL,
  PORT_WORDS,
  PROTOCOL_ANY,
  SLOT_HASH,
  SLOT_NAME_AT,
  SLOT_NAME_BYTES,
  SLOT_VALUES,
  SLOT_WORDS,
  SUBJECT_FLAG_FAULTY,
  SUBJECT_FLAGS,
  SUBJECT_GROUP_COUNT,
  SUBJECT_GROUPS,
  SUBJECT_NAMES,
  SUBJECT_WORDS,
  sortableWord,
  TABLE_FLAG_AUDIT,
  TABLE_FLAG_UNKNOWN_CLOSED,
  TABLE_MAGIC,
} from './table-layout.ts'
import {
  QUESTION_ALLOWED,
  QUESTION_DENIED_FAULTY,
  QUESTION_DENIED_NAME,
  QUESTION_DENIED_SERVER,
  QUESTION_DENIED_UNKNOWN,
  QUESTION_UNGOVERNED,
} from './verdict.ts'

/** No client has this address; a client of no subject. */
export const NONE = -1

export class PolicyTable {
  /** The table's memory as bytes: `addressAt` is an offset in here. */
  bytes: Uint8Array = new Uint8Array()
  #words: Int32Array = new Int32Array()
  #bytesAt = 0
  /** The server of the question being decided, as words that sort as addresses do. */
  readonly #server = new Int32Array(4)

  /**
   * Reads from now on the table that begins at `words[0]`. The only place that allocates.
   * @param words  kept until the next `open`; may be longer than the table
   */
  open(words: Int32Array): void {
    assert(words[HEADER_MAGIC] === TABLE_MAGIC, 'a policy table is of this release')
    assert(words[HEADER_TOTAL_WORDS]! <= words.length, 'a policy table is whole')
    this.#words = words
    this.bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
    this.#bytesAt = words[HEADER_BYTES_AT]! * 4
  }

  /** Snapshot.revision. */
  get revision(): number {
    return this.#words[HEADER_REVISION]!
  }

  /** What is denied is recorded and let through. */
  get isAudit(): boolean {
    return (this.#words[HEADER_FLAGS]! & TABLE_FLAG_AUDIT) !== 0
  }

  get denyResponse(): (typeof DENY_RESPONSES)[number] {
    return DENY_RESPONSES[this.#words[HEADER_DENY_RESPONSE]!]!
  }

  get clientCount(): number {
    return this.#words[HEADER_CLIENT_COUNT]!
  }

  /** The most numbers that `matchGrants` can return. */
  get portSetsMax(): number {
    return this.#words[HEADER_PORT_SETS_MAX]!
  }

  /** Index of the client with this address, or NONE. */
  findClient(family: number, bytes: Uint8Array, at: number): number {
    const words = this.#words
    const isIpv4 = family === 4
    const addressBytes = isIpv4 ? 4 : 16
    const hashAt = words[isIpv4 ? HEADER_IPV4_HASH : HEADER_IPV6_HASH]!
    const mask = words[isIpv4 ? HEADER_IPV4_MASK : HEADER_IPV6_MASK]!
    let slot = firstSlot(hashAddress(bytes, at, addressBytes), mask)
    for (;;) {
      const slotAt = hashAt + slot * CLIENT_SLOT_WORDS
      const client = words[slotAt]! - 1
      if (client < 0) return NONE
      const known = this.addressAt(client, family, words[slotAt + 1]!)
      if (isSame(this.bytes, known, bytes, at, addressBytes)) return client
      slot = (slot + 1) & mask
    }
  }

  /** Index into Snapshot.subjects, or NONE. */
  subjectOf(client: number): number {
    return client < 0 ? NONE : this.#client(client, CLIENT_SUBJECT)
  }

  isGoverned(client: number): boolean {
    return this.subjectOf(client) !== NONE
  }

  /** Index of the client's interface in the kernel; 0 not known, -1 not there. */
  interfaceOf(client: number): number {
    return this.#client(client, CLIENT_INTERFACE)
  }

  /** How many addresses of this family the client has. */
  addressCount(client: number, family: number): number {
    return this.#client(client, family === 4 ? CLIENT_IPV4_COUNT : CLIENT_IPV6_COUNT)
  }

  /** Offset in `bytes` of address `index` of the client's addresses of this family. */
  addressAt(client: number, family: number, index: number): number {
    const first = this.#client(client, family === 4 ? CLIENT_IPV4_AT : CLIENT_IPV6_AT)
    return this.#bytesAt + first + index * (family === 4 ? 4 : 16)
  }

  /**
   * Whether this client may ask this name of this server: QUESTION_* of policy/verdict.ts.
   * @param client  NONE for an address that is no client's
   * @param name  lower case; one that is not whole is denied to whoever has a policy
   * @param server  the address the client sent its question to: 4 or 16 bytes at `serverAt`
   * @param protocol  IP protocol number
   */
  decideQuestion(
    client: number,
    name: ScannedName,
    family: number,
    server: Uint8Array,
    serverAt: number,
    port: number,
    protocol: number,
  ): number {
    if (client < 0) {
      const isClosed = (this.#words[HEADER_FLAGS]! & TABLE_FLAG_UNKNOWN_CLOSED) !== 0
      return isClosed ? QUESTION_DENIED_UNKNOWN : QUESTION_UNGOVERNED
    }
    const subject = this.#client(client, CLIENT_SUBJECT)
    if (subject === NONE) return QUESTION_UNGOVERNED
    const subjectAt = this.#subjectAt(subject)
    if (!name.isWhole) return QUESTION_DENIED_NAME
    this.#loadServer(family, server, serverAt)
    const verdict = this.#decideGroups(subjectAt, name, family, port, protocol)
    if (verdict === QUESTION_ALLOWED) return verdict
    const flags = this.#words[subjectAt + SUBJECT_FLAGS]!
    return (flags & SUBJECT_FLAG_FAULTY) !== 0 ? QUESTION_DENIED_FAULTY : verdict
  }

  /**
   * The port sets that an answer to this name opens for clients of this subject.
   * @param name  lower case; one that is not whole opens nothing
   * @param out  gets their numbers, each once; room for `portSetsMax`
   * @returns how many
   */
  matchGrants(subject: number, name: ScannedName, out: Int32Array): number {
    const words = this.#words
    const matcher = subject < 0 ? 0 : words[this.#subjectAt(subject) + SUBJECT_NAMES]!
    if (matcher === 0 || !name.isWhole) return 0
    assert(out.length >= words[HEADER_PORT_SETS_MAX]!, 'there is room for each port set')
    let count = 0
    const all = words[matcher + MATCHER_ALL]!
    if (all !== 0 && name.isClean()) count = this.#take(all, out, count)
    count = this.#take(this.#findSuffix(matcher + MATCHER_EXACT, name, 0), out, count)
    if (name.cleanCount > 0) {
      count = this.#take(this.#findSuffix(matcher + MATCHER_ONE_LABEL, name, 1), out, count)
    }
    for (let label = 1; label <= this.#deepest(matcher, name); label++) {
      count = this.#take(this.#findSuffix(matcher + MATCHER_LABELS, name, label), out, count)
    }
    const globCount = words[matcher + MATCHER_GLOB_COUNT]!
    for (let index = 0; index < globCount; index++) {
      const glob = words[matcher + MATCHER_GLOBS]! + index * GLOB_WORDS
      if (this.#matchesGlob(glob, name)) count = this.#take(words[glob + GLOB_VALUES]!, out, count)
    }
    return count
  }

  #client(client: number, field: number): number {
    const words = this.#words
    return words[words[HEADER_CLIENTS]! + client * CLIENT_WORDS + field]!
  }

  #subjectAt(subject: number): number {
    return this.#words[HEADER_SUBJECTS]! + subject * SUBJECT_WORDS
  }

  #loadServer(family: number, server: Uint8Array, at: number): void {
    const count = family === 4 ? 1 : 4
    for (let index = 0; index < count; index++) {
      this.#server[index] = sortableWord(server, at + index * 4)
    }
  }

  /** Groups that deny stand first, so the first that decides is right. */
  #decideGroups(
    subjectAt: number,
    name: ScannedName,
    family: number,
    port: number,
    protocol: number,
  ): number {
    const words = this.#words
    const count = words[subjectAt + SUBJECT_GROUP_COUNT]!
    let group = words[subjectAt + SUBJECT_GROUPS]!
    let verdict = QUESTION_DENIED_SERVER
    for (let index = 0; index < count; index++, group += GROUP_WORDS) {
      if (!this.#isPortIn(group, port, protocol) || !this.#isServerIn(group, family)) continue
      if (words[group + GROUP_VERDICT] === GROUP_DENY) return QUESTION_DENIED_SERVER
      const matcher = words[group + GROUP_NAMES]!
      if (matcher === 0 || this.#matchesQuestion(matcher, name)) return QUESTION_ALLOWED
      verdict = QUESTION_DENIED_NAME
    }
    return verdict
  }

  #isPortIn(group: number, port: number, protocol: number): boolean {
    const words = this.#words
    const count = words[group + GROUP_PORT_COUNT]!
    let at = words[group + GROUP_PORTS]!
    for (let index = 0; index < count; index++, at += PORT_WORDS) {
      const wanted = words[at]!
      if (wanted !== PROTOCOL_ANY && wanted !== protocol) continue
      if (words[at + 1]! <= port && port <= words[at + 2]!) return true
    }
    return false
  }

  /** Looks for the last range that begins at or before the server. */
  #isServerIn(group: number, family: number): boolean {
    const words = this.#words
    const isIpv4 = family === 4
    const rangesAt = words[group + (isIpv4 ? GROUP_IPV4 : GROUP_IPV6)]!
    const rangeWords = isIpv4 ? IPV4_RANGE_WORDS : IPV6_RANGE_WORDS
    const addressWords = rangeWords >>> 1
    let low = 0
    let high = words[group + (isIpv4 ? GROUP_IPV4_COUNT : GROUP_IPV6_COUNT)]!
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#compareServer(rangesAt + middle * rangeWords, addressWords) < 0) high = middle
      else low = middle + 1
    }
    if (low === 0) return false
    return this.#compareServer(rangesAt + (low - 1) * rangeWords + addressWords, addressWords) <= 0
  }

  /** Below 0: the server sorts before the address at word `at`; 0: it is that address. */
  #compareServer(at: number, addressWords: number): number {
    const words = this.#words
    for (let index = 0; index < addressWords; index++) {
      const server = this.#server[index]!
      const other = words[at + index]!
      if (server !== other) return server < other ? -1 : 1
    }
    return 0
  }

  #matchesQuestion(matcher: number, name: ScannedName): boolean {
    const words = this.#words
    if (words[matcher + MATCHER_ALL] !== 0) return true
    if (this.#findSuffix(matcher + MATCHER_EXACT, name, 0) !== 0) return true
    const isBelow = name.cleanCount > 0
    if (isBelow && this.#findSuffix(matcher + MATCHER_ONE_LABEL, name, 1) !== 0) return true
    for (let label = 1; label <= this.#deepest(matcher, name); label++) {
      if (this.#findSuffix(matcher + MATCHER_LABELS, name, label) !== 0) return true
    }
    const globCount = words[matcher + MATCHER_GLOB_COUNT]!
    for (let index = 0; index < globCount; index++) {
      if (this.#matchesGlob(words[matcher + MATCHER_GLOBS]! + index * GLOB_WORDS, name)) return true
    }
    return false
  }

  /** The last label that a pattern for names of any depth may begin behind; 0: there is none. */
  #deepest(matcher: number, name: ScannedName): number {
    return this.#words[matcher + MATCHER_LABELS] === 0 ? 0 : name.cleanCount
  }

  #matchesGlob(glob: number, name: ScannedName): boolean {
    const words = this.#words
    const at = this.#bytesAt + words[glob + GLOB_AT]!
    return matchesGlob(this.bytes, at, words[glob + GLOB_IS_DEEP] !== 0, name)
  }

  /** Word of the values of the name from label `label` on, in the hash table said at `at`; or 0. */
  #findSuffix(at: number, name: ScannedName, label: number): number {
    const words = this.#words
    const slots = words[at]!
    if (slots === 0) return 0
    const mask = words[at + 1]!
    const hash = name.suffixHash[label]!
    let slot = firstSlot(hash, mask)
    for (;;) {
      const slotAt = slots + slot * SLOT_WORDS
      const length = words[slotAt + SLOT_NAME_BYTES]!
      if (length === 0) return 0
      if (words[slotAt + SLOT_HASH] === hash) {
        const nameAt = this.#bytesAt + words[slotAt + SLOT_NAME_AT]!
        if (isSuffixAt(name, label, this.bytes, nameAt, length)) {
          return words[slotAt + SLOT_VALUES]!
        }
      }
      slot = (slot + 1) & mask
    }
  }

  /** Adds the values at word `values` that `out` does not have yet. */
  #take(values: number, out: Int32Array, count: number): number {
    if (values === 0) return count
    const words = this.#words
    const end = values + 1 + words[values]!
    let total = count
    for (let at = values + 1; at < end; at++) {
      const value = words[at]!
      let index = 0
      while (index < total && out[index] !== value) index++
      if (index === total) out[total++] = value
    }
    return total
  }
}

function isSame(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, count: number): boolean {
  for (let index = 0; index < count; index++) {
    if (a[aAt + index] !== b[bAt + index]) return false
  }
  return true
}
