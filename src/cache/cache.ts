/**
 * The cache: answers by question, in a fixed number of bytes.
 *
 * One in each process; its worker owns it and nobody else touches it. pipeline/answer.ts looks up
 * and copies out, pipeline/learn.ts inserts, the loop sweeps a few entries when it is idle, and
 * cache/learned.ts carries answers to the peer. The cache knows bytes, times and nothing of
 * policy: an answer in it says nothing about who may have it.
 *
 * An *entry* is a number that stands for a stored answer. It is valid until the next call of
 * insert, insertFailure, remove, clear or sweep: use it within the handling of one packet.
 *
 * KEY: name (lower case), type, class, the DO and CD bits, and the group of upstreams that
 * answered. CD is part of it because an answer that was not validated must not reach those who
 * want it validated (CVE-2024-0874); the group, because a server that a client chose itself must
 * not be able to answer for others, nor one zone's server for another zone (CVE-2021-25220).
 *
 * MEMORY: one ArrayBuffer, as long as the budget says.
 *     buckets     u32 each, a power of two: first entry of the list of names with these hash bits
 *     blocks      64 bytes each (blocks.ts); an entry is a chain of them (entry.ts)
 * The kernel backs it as it is touched: an idle cache costs a few pages. Full, the entry that
 * SIEVE names gives way (sieve.ts).
 *
 * What must stay true:
 *   - the hash is seeded: who can choose names must not be able to choose buckets;
 *   - a failure never takes the place of an answer that can still be given, fresh or stale
 *     (RFC 8767; CoreDNS #7956 served SERVFAIL in place of a good answer);
 *   - a newer answer replaces an older one and nothing but an answer extends a life: refreshing
 *     an entry without new data is how ghost domains stay alive (CVE-2022-30698);
 *   - a group's number may come to stand for another server (forgetGroup): what was stored before
 *     is dead from then on, and never found;
 *   - no call takes longer than HAND_STEPS_MAX steps of the eviction hand.
 */
import { assert } from '../assert.ts'
import { KIND_ERROR, KIND_NXDOMAIN } from '../wire/answer.ts'
import { BLOCK_BYTES, BlockStore, CONTENT_WORDS } from './blocks.ts'
import { BucketTable } from './buckets.ts'
import {
  ENTRY_CONTENT,
  ENTRY_GROUP,
  ENTRY_QUESTION,
  ENTRY_RETRY,
  ENTRY_SERIAL,
  ENTRY_SIZES,
  ENTRY_STATE,
  ENTRY_STORED,
  ENTRY_TTL,
  FAILURES_MAX,
  STATE_FAILURES_SHIFT,
  STATE_FLAGS_SHIFT,
  STATE_KEY,
  STATE_KIND_SHIFT,
  STATE_PEERS,
  STATE_VISITED,
} from './entry.ts'
import { DEAD, FRESH, failureTtl, freshness, isPrefetchDue } from './freshness.ts'
import { GROUPS_MAX, type Question } from './question.ts'
import { EntryReader, halfWords, isFailureKind, wordsOf } from './reader.ts'
import { SieveQueue } from './sieve.ts'

export const NO_ENTRY = -1
/** What findNxdomain returns of a name that is known to exist. */
export const EXISTS = -2

/**
 * How far the hand may go for one insertion, about 0.1 ms. When all entries that it meets were
 * visited since it last came, the new answer is not stored; the next one finds the hand further on.
 * Without this bound one question would wait until the hand has been round the whole cache.
 */
const HAND_STEPS_MAX = 1024

/** Room for some sixty of the longest messages; less could not evict its way to a free place. */
export const CACHE_BYTES_MIN = 1 << 20
/** So that the index of every word and every double is a small integer. */
export const CACHE_BYTES_MAX = 2 ** 32

/** A failure is remembered for this long after its end, so that the next one backs off further. */
const FAILURE_MEMORY_MS = 10_000

/**
 * For so long after the end of an answer that the peer told, the peer is left to ask for it anew:
 * else both ask for each popular name whenever it ends, since both are asked for it before either
 * has the answer. Longer than most upstreams take; short beside a TTL, which counts in seconds and
 * of which we hand out up to one too many, since ages are whole seconds. A client is then told 0.
 */
const PEERS_TURN_MS = 200

/** Buckets looked into for one entry that a sweep or a listing may handle. */
const BUCKETS_PER_ENTRY = 8

/**
 * What is known of a message beside its bytes; an Answer (wire/answer.ts) is one. Owned and reused
 * by the caller; nothing is kept.
 */
export interface AnswerMeta {
  /** KIND_POSITIVE, KIND_NXDOMAIN, KIND_NODATA, or a *failure*: KIND_ERROR, or one of entry.ts. */
  readonly kind: number
  /** Where the TTL of each record lies, counted from the message's first byte. */
  readonly ttlOffsets: Uint16Array
  readonly ttlCount: number
  /** Where the addresses lie that a grant may be made of, and the family of each, 4 or 6. */
  readonly addressOffsets: Uint16Array
  readonly addressFamilies: Uint8Array
  readonly addressCount: number
}

export interface CacheOptions {
  /** cache.size: bytes for everything, the index included. CACHE_BYTES_MIN to CACHE_BYTES_MAX. */
  readonly bytes: number
  /** cache.serveStale: for how long after its TTL an answer can still be given; default 0. */
  readonly serveStaleMs?: number
}

/** Numbers since the start, but for the first three. */
export interface CacheCounters {
  entries: number
  bytesUsed: number
  bytesMax: number
  /** Answers stored, replacements included. */
  stored: number
  replaced: number
  /** Left to make room while they could still have been given. */
  evicted: number
  /** Left because they were dead. */
  expired: number
  /** Answers for which no room was found within HAND_STEPS_MAX. */
  refused: number
}

const STORED = 0
const REPLACED = 1
const EVICTED = 2
const EXPIRED = 3
const REFUSED = 4

export class AnswerCache extends EntryReader {
  /** How many entries the last `list` wrote. */
  listed = 0
  readonly #buckets: BucketTable
  readonly #queue: SieveQueue
  readonly #bytesMax: number
  #serveStaleMs: number
  #entryCount = 0
  #sweepBucket = 0
  /** Of the answer inserted last. */
  #serial = 0
  /** By group: what was stored before is dead; 0: nothing is. Untouched pages take no memory. */
  readonly #forgottenMs = new Float64Array(GROUPS_MAX)
  /** Doubles, because a number in a field becomes an object when it outgrows 31 bits. */
  readonly #counts = new Float64Array(5)

  constructor(options: CacheOptions) {
    const { bytes } = options
    assert(bytes >= CACHE_BYTES_MIN && bytes <= CACHE_BYTES_MAX, 'the cache size is within bounds')
    const buffer = new ArrayBuffer(Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES)
    const bucketBytes = bucketCountFor(bytes) * 4
    super(new BlockStore(buffer, bucketBytes, buffer.byteLength - bucketBytes))
    this.#buckets = new BucketTable(new Int32Array(buffer, 0, bucketBytes / 4), this.words)
    this.#queue = new SieveQueue(this.words)
    this.#bytesMax = buffer.byteLength
    this.#serveStaleMs = options.serveStaleMs ?? 0
  }

  /** For how long after its TTL an answer is stale, and dead only then. */
  get serveStaleMs(): number {
    return this.#serveStaleMs
  }

  /** Follows a reload of the configuration; what is stored stays. */
  setServeStale(serveStaleMs: number): void {
    this.#serveStaleMs = serveStaleMs
  }

  /** The entry of a question, whatever its age, or NO_ENTRY. It counts as a visit. */
  find(question: Question): number {
    const entry = this.#lookUp(question)
    if (entry === 0) return NO_ENTRY
    const state = (entry << 4) + ENTRY_STATE
    this.words[state] = this.words[state]! | STATE_VISITED
    return entry
  }

  /**
   * The entry of a fresh NXDOMAIN for the question's name, of whatever type: it is the name that
   * does not exist (RFC 2308 §5). EXISTS when a fresh answer of another type says the contrary, as
   * those of some servers do; NO_ENTRY when there is neither. The one found counts as visited.
   */
  findNxdomain(question: Question, nowMs: number): number {
    const words = this.words
    const { name, nameAt, nameBytes, group } = question
    const hash = question.hash | 0
    const key = nameBytes | (question.keyFlags << STATE_FLAGS_SHIFT)
    let found = NO_ENTRY
    for (let entry = this.#buckets.firstOf(hash); entry !== 0; entry = this.#buckets.after(entry)) {
      const head = entry << 4
      if (
        this.#buckets.hash(entry) !== hash ||
        this.class(entry) !== question.class ||
        (words[head + ENTRY_STATE]! & STATE_KEY) !== key ||
        this.group(entry) !== group ||
        !this.blocks.equals(head + ENTRY_CONTENT, name, nameAt, nameBytes) ||
        this.isFailure(entry) ||
        this.#isForgotten(entry) ||
        this.freshness(entry, nowMs) !== FRESH
      ) {
        continue
      }
      if (this.kind(entry) !== KIND_NXDOMAIN) return EXISTS
      found = entry
    }
    if (found === NO_ENTRY) return NO_ENTRY
    const state = (found << 4) + ENTRY_STATE
    words[state] = words[state]! | STATE_VISITED
    return found
  }

  /**
   * Stores an answer; returns its entry, or NO_ENTRY when it was not stored: its TTL is 0, or there
   * was no room (counters.refused). In both cases what was there before is gone too, unless the
   * answer is a failure.
   * A failure for a question whose answer can still be given is only noted: see mayRefresh. An
   * answer that came before the stored one (from the peer, late) changes nothing. Both return the
   * entry that stays.
   * @param message  the whole message; its bytes are copied
   * @param messageBytes  to 65535; 0 only for a failure
   * @param ttlSeconds  how long it is fresh: freshness.ts
   * @param nowMs  when it came, monotonic
   */
  insert(
    question: Question,
    message: Uint8Array,
    messageAt: number,
    messageBytes: number,
    meta: AnswerMeta,
    ttlSeconds: number,
    nowMs: number,
  ): number {
    const { nameBytes, keyFlags } = question
    assert(nameBytes > 0 && nameBytes < 256, 'a name has 1 to 255 bytes')
    assert(messageBytes >= 0 && messageBytes < 65536, 'a message has at most 65535 bytes')
    const found = this.#lookUp(question)
    this.#dropDead(question.hash, found, nowMs)
    if (found !== 0) {
      if (this.storedAtMs(found) > nowMs) return found
      if (isFailureKind(meta.kind) && this.#isUsable(found, nowMs)) {
        this.#noteFailure(found, ttlSeconds, nowMs)
        return found
      }
    }
    const failures = !isFailureKind(meta.kind) ? 0 : found === 0 ? 1 : this.#nextFailure(found)
    const words = contentWords(nameBytes, meta.ttlCount, meta.addressCount, messageBytes)
    const entry = this.#takeRoom(found, words, ttlSeconds, nowMs)
    if (entry === 0) return NO_ENTRY
    const head = entry << 4
    this.words[head + ENTRY_STATE] =
      (this.words[head + ENTRY_STATE]! & STATE_VISITED) |
      nameBytes |
      (meta.kind << STATE_KIND_SHIFT) |
      (keyFlags << STATE_FLAGS_SHIFT) |
      (failures << STATE_FAILURES_SHIFT)
    this.words[head + ENTRY_QUESTION] = question.type | (question.class << 16)
    this.words[head + ENTRY_GROUP] = question.group | (meta.addressCount << 16)
    this.words[head + ENTRY_SIZES] = messageBytes | (meta.ttlCount << 16)
    this.doubles[(entry << 3) + ENTRY_STORED] = nowMs
    this.words[head + ENTRY_TTL] = ttlSeconds
    this.words[head + ENTRY_RETRY] = 0
    this.words[head + ENTRY_SERIAL] = this.#serial = (this.#serial + 1) | 0
    let to = head + ENTRY_CONTENT
    to = this.blocks.writeBytes(to, question.name, question.nameAt, nameBytes)
    to = this.blocks.writeHalves(to, meta.ttlOffsets, meta.ttlCount)
    to = this.blocks.writePairs(to, meta.addressOffsets, meta.addressFamilies, meta.addressCount)
    this.blocks.writeBytes(to, message, messageAt, messageBytes)
    if (found === 0) {
      this.#buckets.add(entry, question.hash)
      this.#queue.push(entry)
      this.#entryCount++
    } else this.#counts[REPLACED]!++
    this.#counts[STORED]!++
    return entry
  }

  /**
   * Stores or notes that no answer could be had, for 1 to 5 seconds, longer each time in a row
   * (freshness.ts). Arguments and result as of insert.
   * @param kind  KIND_ERROR; `message` is what clients are told then. Or KIND_TIMEOUT or
   *   KIND_UNREACHABLE (entry.ts), without a message
   */
  insertFailure(
    question: Question,
    kind: number,
    message: Uint8Array,
    messageAt: number,
    messageBytes: number,
    nowMs: number,
  ): number {
    const found = this.#lookUp(question)
    const seconds = failureTtl(found === 0 ? 1 : this.#nextFailure(found))
    failureMeta.kind = kind
    return this.insert(question, message, messageAt, messageBytes, failureMeta, seconds, nowMs)
  }

  /** FRESH, STALE or DEAD (freshness.ts). A failure is never stale. */
  freshness(entry: number, nowMs: number): number {
    const remainingMs = this.expiresAtMs(entry) - nowMs
    return freshness(remainingMs, this.isFailure(entry) ? 0 : this.#serveStaleMs)
  }

  /** Whether asking the upstreams again makes sense now: not shortly after they failed to answer. */
  mayRefresh(entry: number, nowMs: number): boolean {
    const sinceMs = nowMs - this.storedAtMs(entry)
    return sinceMs >= this.words[(entry << 4) + ENTRY_RETRY]! >>> 0
  }

  /** Whether a hit should have it asked for again, now: near its end, and mayRefresh. */
  isPrefetchDue(entry: number, nowMs: number): boolean {
    const ageSeconds = (nowMs - this.storedAtMs(entry)) / 1000
    return isPrefetchDue(this.ttlSeconds(entry), ageSeconds) && this.mayRefresh(entry, nowMs)
  }

  /** The entry is the peer's, who is left to ask for it anew until then: postponeRefresh. */
  leaveToPeer(entry: number, untilMs: number): void {
    const state = (entry << 4) + ENTRY_STATE
    this.words[state] = this.words[state]! | STATE_PEERS
    this.postponeRefresh(entry, untilMs)
  }

  /** Whether an answer of the peer's has ended so recently that the new one is on its way, if it is asked for. */
  isPeersTurn(entry: number, nowMs: number): boolean {
    const isPeers = (this.words[(entry << 4) + ENTRY_STATE]! & STATE_PEERS) !== 0
    return isPeers && !this.isFailure(entry) && nowMs - this.expiresAtMs(entry) < PEERS_TURN_MS
  }

  /** mayRefresh is false until then, if it was not to be so for longer. */
  postponeRefresh(entry: number, untilMs: number): void {
    const retry = (entry << 4) + ENTRY_RETRY
    const afterMs = untilMs - this.storedAtMs(entry)
    if (afterMs > this.words[retry]! >>> 0) this.words[retry] = afterMs
  }

  remove(entry: number): void {
    this.#drop(entry)
  }

  /** Forgets every answer. */
  clear(): void {
    this.#buckets.clear()
    this.#queue.clear()
    this.blocks.releaseAll()
    this.#entryCount = 0
  }

  /**
   * Forgets every answer of a group, whose number is another's from now on. They are not looked
   * for: each goes when somebody comes by, as any dead one does.
   * @param nowMs  later than the last of them was stored
   */
  forgetGroup(group: number, nowMs: number): void {
    this.#forgottenMs[group] = nowMs
  }

  /** Forgets every answer for a name, of all types and groups; returns how many. */
  clearName(name: Uint8Array, nameAt: number, nameBytes: number, hash: number): number {
    let dropped = 0
    let next = this.#buckets.firstOf(hash)
    while (next !== 0) {
      const entry = next
      next = this.#buckets.after(entry)
      if (
        this.nameBytes(entry) === nameBytes &&
        this.blocks.equals((entry << 4) + ENTRY_CONTENT, name, nameAt, nameBytes)
      ) {
        this.#drop(entry)
        dropped++
      }
    }
    return dropped
  }

  /**
   * Frees dead entries, a bounded step of the way round each call; returns how many. At most once
   * round.
   * @param entriesMax  about how many entries to look at
   */
  sweep(nowMs: number, entriesMax: number): number {
    let seen = 0
    let freed = 0
    let left = Math.min(entriesMax * BUCKETS_PER_ENTRY, this.#buckets.count)
    for (; left > 0 && seen < entriesMax; left--) {
      let next = this.#buckets.firstOf(this.#sweepBucket)
      while (next !== 0) {
        const entry = next
        next = this.#buckets.after(entry)
        seen++
        if (!this.#isDead(entry, nowMs)) continue
        this.#drop(entry)
        freed++
      }
      this.#sweepBucket = (this.#sweepBucket + 1) % this.#buckets.count
    }
    this.#counts[EXPIRED]! += freed
    return freed
  }

  /**
   * Writes the next entries to `into` and their number to `listed`; for `cache list`. Begin with
   * cursor 0; the result is the cursor to go on with, or -1 at the end. A call may list none.
   * Between calls entries may come and go; those that stay are listed exactly once, and those of
   * a forgotten group not at all.
   * @param into  room for more entries than one bucket ever has: 64
   */
  list(cursor: number, into: Int32Array): number {
    let bucket = cursor
    this.listed = 0
    for (let left = into.length * BUCKETS_PER_ENTRY; left > 0; left--) {
      if (bucket >= this.#buckets.count) return -1
      const before = this.listed
      let entry = this.#buckets.firstOf(bucket)
      while (entry !== 0 && this.listed < into.length) {
        if (!this.#isForgotten(entry)) into[this.listed++] = entry
        entry = this.#buckets.after(entry)
      }
      if (entry !== 0 && before > 0) {
        this.listed = before // this bucket begins the next call
        return bucket
      }
      bucket++
    }
    return bucket
  }

  counters(): CacheCounters {
    return {
      entries: this.#entryCount,
      bytesUsed:
        this.#buckets.count * 4 + (this.blocks.capacity - this.blocks.freeCount) * BLOCK_BYTES,
      bytesMax: this.#bytesMax,
      stored: this.#counts[STORED]!,
      replaced: this.#counts[REPLACED]!,
      evicted: this.#counts[EVICTED]!,
      expired: this.#counts[EXPIRED]!,
      refused: this.#counts[REFUSED]!,
    }
  }

  /** As find, without a visit; 0 for none. */
  #lookUp(question: Question): number {
    const words = this.words
    const { name, nameAt, nameBytes, group } = question
    const hash = question.hash | 0
    const typeAndClass = question.type | (question.class << 16)
    const key = nameBytes | (question.keyFlags << STATE_FLAGS_SHIFT)
    let entry = this.#buckets.firstOf(hash)
    while (entry !== 0) {
      const head = entry << 4
      if (
        this.#buckets.hash(entry) === hash &&
        words[head + ENTRY_QUESTION] === typeAndClass &&
        (words[head + ENTRY_STATE]! & STATE_KEY) === key &&
        (words[head + ENTRY_GROUP]! & 0xffff) === group &&
        this.blocks.equals(head + ENTRY_CONTENT, name, nameAt, nameBytes)
      ) {
        return this.#isForgotten(entry) ? 0 : entry
      }
      entry = this.#buckets.after(entry)
    }
    return 0
  }

  /**
   * Blocks for an entry of `contentBytes` words: those of `found` and more, or new ones. Returns
   * its first block, or 0; then `found` is gone.
   */
  #takeRoom(found: number, contentWordCount: number, ttlSeconds: number, nowMs: number): number {
    const blockCount = blocksFor(contentWordCount)
    if (found !== 0) {
      this.blocks.release(this.words[found << 4]!)
      this.words[found << 4] = 0
    }
    const needed = found === 0 ? blockCount : blockCount - 1
    if (ttlSeconds <= 0 || !this.#makeRoom(needed, found, nowMs)) {
      if (found !== 0) this.#drop(found)
      return 0
    }
    if (found === 0) return this.blocks.allocate(needed)
    if (needed > 0) this.words[found << 4] = this.blocks.allocate(needed)
    return found
  }

  /** Evicts until `blockCount` blocks are free, but never `keep`; false when that takes too long. */
  #makeRoom(blockCount: number, keep: number, nowMs: number): boolean {
    for (let step = 0; this.blocks.freeCount < blockCount; step++) {
      const entry = this.#queue.atHand()
      if (entry === 0 || step === HAND_STEPS_MAX) {
        this.#counts[REFUSED]!++
        return false
      }
      const isDead = this.#isDead(entry, nowMs)
      if (entry === keep || (this.#queue.isVisited(entry) && !isDead)) {
        this.#queue.pass()
      } else {
        this.#drop(entry)
        this.#counts[isDead ? EXPIRED : EVICTED]!++
      }
    }
    return true
  }

  #drop(entry: number): void {
    this.#buckets.remove(entry)
    this.#queue.unlink(entry)
    this.blocks.release(entry)
    this.#entryCount--
  }

  /** Frees what is dead in the bucket of `hash`, but for `keep`. */
  #dropDead(hash: number, keep: number, nowMs: number): void {
    let next = this.#buckets.firstOf(hash)
    while (next !== 0) {
      const entry = next
      next = this.#buckets.after(entry)
      if (entry === keep || !this.#isDead(entry, nowMs)) continue
      this.#drop(entry)
      this.#counts[EXPIRED]!++
    }
  }

  /** Whether nothing would be lost with the entry. */
  #isDead(entry: number, nowMs: number): boolean {
    if (this.#isForgotten(entry)) return true
    const afterMs = this.isFailure(entry) ? FAILURE_MEMORY_MS : this.#serveStaleMs
    return nowMs >= this.expiresAtMs(entry) + afterMs
  }

  /** Whether it was stored when its group's number stood for another server. */
  #isForgotten(entry: number): boolean {
    const untilMs = this.#forgottenMs[this.group(entry)]!
    return untilMs !== 0 && this.doubles[(entry << 3) + ENTRY_STORED]! < untilMs
  }

  /** Whether the entry's answer can be given, fresh or stale. */
  #isUsable(entry: number, nowMs: number): boolean {
    return !this.isFailure(entry) && this.freshness(entry, nowMs) !== DEAD
  }

  #nextFailure(entry: number): number {
    const failures = this.failures(entry)
    return failures < FAILURES_MAX ? failures + 1 : FAILURES_MAX
  }

  #noteFailure(entry: number, forSeconds: number, nowMs: number): void {
    const state = (entry << 4) + ENTRY_STATE
    this.words[state] =
      (this.words[state]! & ~(FAILURES_MAX << STATE_FAILURES_SHIFT)) |
      (this.#nextFailure(entry) << STATE_FAILURES_SHIFT)
    this.words[(entry << 4) + ENTRY_RETRY] = nowMs - this.storedAtMs(entry) + forSeconds * 1000
  }
}

/** Of every failure; its kind is set before each use. */
const failureMeta: { kind: number } & Omit<AnswerMeta, 'kind'> = {
  kind: KIND_ERROR,
  ttlOffsets: new Uint16Array(0),
  ttlCount: 0,
  addressOffsets: new Uint16Array(0),
  addressFamilies: new Uint8Array(0),
  addressCount: 0,
}

/** One bucket for two blocks at most: with three blocks an entry, two buckets have three entries. */
function bucketCountFor(bytes: number): number {
  return 1 << (Math.floor(Math.log2(bytes / BLOCK_BYTES)) - 1)
}

/** Words of an entry's stream: name, TTL offsets, address offsets, message. */
function contentWords(
  nameBytes: number,
  ttlCount: number,
  addressCount: number,
  messageBytes: number,
): number {
  return wordsOf(nameBytes) + halfWords(ttlCount) + addressCount + wordsOf(messageBytes)
}

/** Blocks for that many words behind an entry's own fields. */
function blocksFor(words: number): number {
  return Math.ceil((words + ENTRY_CONTENT - 1) / CONTENT_WORDS)
}
