/**
 * Learned answers: what one process's cache tells the other's.
 *
 * The worker writes each answer that an upstream gave into a ring (record kind RECORD_LEARNED of
 * flow/record.ts), its main thread sends the bytes on, and the peer's worker inserts them; a
 * process that starts gets all answers in the same form. Only answers of upstreams are told, never
 * those learned from the peer: an answer that went to and fro would grow older than its TTL.
 *
 * LAYOUT, bytes; numbers in network order
 *      0  u32  when its TTL ends: the low 32 bits of CLOCK_MONOTONIC in milliseconds
 *      4  u32  TTL in seconds
 *      8  u32  group id: what stands for the upstream group in both processes, whose group numbers
 *              differ. The caller maps it; an id that it does not know is not inserted.
 *     12  u16  question type
 *     14  u16  question class
 *     16  u16  message bytes
 *     18  u16  TTL count
 *     20  u16  address count
 *     22  u8   name bytes
 *     23  u8   kind | key flags << 4
 *     24       name, wire form, lower case
 *              u16 per TTL offset
 *              u16 and u8 per address: offset, family
 *              message
 *
 * CLOCK_MONOTONIC is one clock for all processes of a machine, so the copy ends when the original
 * does, however long the record lay in a socket whose reader was stopped. Differences of the low
 * 32 bits are right within 24 days; no TTL is longer than a week. The name's hash is not in it:
 * each process has its own seed.
 *
 * What must stay true: bytes that are no such record are never inserted (`isLearned`), although
 * the peer is our own program: it may be of another release.
 */
import { KIND_ERROR, RECORDS_MAX } from '../wire/answer.ts'
import { getU16, getU32, putU16, putU32 } from '../wire/bytes.ts'
import { QUESTION_AT } from '../wire/header.ts'
import { LOWER, skipName } from '../wire/name.ts'
import { type AnswerCache, type AnswerMeta, NO_ENTRY } from './cache.ts'
import { Question } from './question.ts'

const END = 0
const TTL = 4
const GROUP = 8
const TYPE = 12
const CLASS = 14
const MESSAGE_BYTES = 16
const TTL_COUNT = 18
const ADDRESS_COUNT = 20
const NAME_BYTES = 22
const KIND = 23
/** Where the name begins, counted from the record's first byte: for the caller's hash. */
export const LEARNED_NAME = 24

/** A header and a question with the shortest name. */
const MESSAGE_BYTES_MIN = 17
/** A stale record is not worth sending any more after a day: cache.serveStale allows no longer. */
const STALE_MS_MAX = 86_400_000

/**
 * Of each second of its TTL: for so long an answer of the peer's is for the peer to ask for anew. It
 * does so from nine tenths on (freshness.ts), and we have what came at once; without it, we do. At
 * the same moment both would ask for every name that is popular enough.
 */
const PEERS_SHARE_MS = 950

/** Reads and writes learned answers; keeps the room that this takes. One for each cache. */
export class LearnedCodec {
  readonly #cache: AnswerCache
  readonly #startedMs: number
  readonly #ttlOffsets = new Uint16Array(RECORDS_MAX)
  readonly #addressOffsets = new Uint16Array(RECORDS_MAX)
  readonly #addressFamilies = new Uint8Array(RECORDS_MAX)
  readonly #meta: Changeable<AnswerMeta>
  readonly #question = new Question()

  /** @param startedMs  CLOCK_MONOTONIC at the caller's time 0, in milliseconds */
  constructor(cache: AnswerCache, startedMs: number) {
    this.#cache = cache
    this.#startedMs = startedMs
    this.#meta = {
      kind: KIND_ERROR,
      ttlOffsets: this.#ttlOffsets,
      ttlCount: 0,
      addressOffsets: this.#addressOffsets,
      addressFamilies: this.#addressFamilies,
      addressCount: 0,
    }
  }

  /** Bytes that `encode` will write; 0 when the entry has nothing worth telling. */
  encodedBytes(entry: number): number {
    const cache = this.#cache
    // That no upstream answered, each finds out itself: it may be our own trouble.
    if (cache.messageBytes(entry) === 0) return 0
    if (cache.ttlCount(entry) > RECORDS_MAX || cache.addressCount(entry) > RECORDS_MAX) return 0
    return (
      LEARNED_NAME +
      cache.nameBytes(entry) +
      cache.ttlCount(entry) * 2 +
      cache.addressCount(entry) * 3 +
      cache.messageBytes(entry)
    )
  }

  /**
   * Writes an entry; returns the bytes written.
   * @param bytes  has room for encodedBytes() at `at`, and encodedBytes() was not 0
   * @param groupId  stands for the entry's group in both processes
   */
  encode(entry: number, groupId: number, bytes: Uint8Array, at: number): number {
    const cache = this.#cache
    const ttlCount = cache.ttlOffsets(entry, this.#ttlOffsets)
    const addressCount = cache.addresses(entry, this.#addressOffsets, this.#addressFamilies)
    // The store keeps what fits: the low 32 bits.
    putU32(bytes, at + END, (this.#startedMs + cache.expiresAtMs(entry)) % 2 ** 32)
    putU32(bytes, at + TTL, cache.ttlSeconds(entry))
    putU32(bytes, at + GROUP, groupId)
    putU16(bytes, at + TYPE, cache.type(entry))
    putU16(bytes, at + CLASS, cache.class(entry))
    putU16(bytes, at + MESSAGE_BYTES, cache.messageBytes(entry))
    putU16(bytes, at + TTL_COUNT, ttlCount)
    putU16(bytes, at + ADDRESS_COUNT, addressCount)
    bytes[at + NAME_BYTES] = cache.nameBytes(entry)
    bytes[at + KIND] = cache.kind(entry) | (cache.keyFlags(entry) << 4)
    let to = at + LEARNED_NAME
    to += cache.copyName(entry, bytes, to)
    for (let index = 0; index < ttlCount; index++, to += 2) {
      putU16(bytes, to, this.#ttlOffsets[index]!)
    }
    for (let index = 0; index < addressCount; index++, to += 3) {
      putU16(bytes, to, this.#addressOffsets[index]!)
      bytes[to + 2] = this.#addressFamilies[index]!
    }
    to += cache.copyMessage(entry, bytes, to)
    return to - at
  }

  /**
   * Inserts a record for which isLearned() holds; returns its entry, that of a newer answer which
   * stays, or NO_ENTRY (AnswerCache.insert).
   * @param hash  of the record's name: learnedNameBytes() bytes at LEARNED_NAME
   * @param group  our number of the group that learnedGroupId() stands for
   */
  insert(bytes: Uint8Array, at: number, hash: number, group: number, nowMs: number): number {
    const meta = this.#meta
    meta.kind = bytes[at + KIND]! & 15
    meta.ttlCount = getU16(bytes, at + TTL_COUNT)
    meta.addressCount = getU16(bytes, at + ADDRESS_COUNT)
    const nameBytes = bytes[at + NAME_BYTES]!
    let from = at + LEARNED_NAME + nameBytes
    for (let index = 0; index < meta.ttlCount; index++, from += 2) {
      this.#ttlOffsets[index] = getU16(bytes, from)
    }
    for (let index = 0; index < meta.addressCount; index++, from += 3) {
      this.#addressOffsets[index] = getU16(bytes, from)
      this.#addressFamilies[index] = bytes[from + 2]!
    }
    const ttlSeconds = getU32(bytes, at + TTL)
    const remainingMs = (getU32(bytes, at + END) - ((this.#startedMs + nowMs) % 2 ** 32)) | 0
    // Longer than its own TTL: it is from a machine, or a time namespace, with another clock.
    if (remainingMs < -STALE_MS_MAX || remainingMs > ttlSeconds * 1000) return NO_ENTRY
    const question = this.#question
    question.name = bytes
    question.nameAt = at + LEARNED_NAME
    question.nameBytes = nameBytes
    question.hash = hash | 0
    question.type = getU16(bytes, at + TYPE)
    question.class = getU16(bytes, at + CLASS)
    question.keyFlags = bytes[at + KIND]! >>> 4
    question.group = group
    const storedMs = nowMs + remainingMs - ttlSeconds * 1000
    const entry = this.#cache.insert(
      question,
      bytes,
      from,
      getU16(bytes, at + MESSAGE_BYTES),
      meta,
      ttlSeconds,
      storedMs,
    )
    if (entry >= 0 && this.#cache.storedAtMs(entry) === storedMs) {
      this.#cache.leaveToPeer(entry, storedMs + ttlSeconds * PEERS_SHARE_MS)
    }
    return entry
  }
}

/** Whether `length` bytes at `at` are a record that can be inserted. */
export function isLearned(bytes: Uint8Array, at: number, length: number): boolean {
  if (length < LEARNED_NAME || at + length > bytes.length) return false
  const nameBytes = bytes[at + NAME_BYTES]!
  const messageBytes = getU16(bytes, at + MESSAGE_BYTES)
  const ttlCount = getU16(bytes, at + TTL_COUNT)
  const addressCount = getU16(bytes, at + ADDRESS_COUNT)
  const kind = bytes[at + KIND]! & 15
  const ttlSeconds = getU32(bytes, at + TTL)
  if (kind === 0 || kind > KIND_ERROR) return false
  if (nameBytes === 0 || messageBytes < MESSAGE_BYTES_MIN) return false
  if (ttlCount > RECORDS_MAX || addressCount > RECORDS_MAX) return false
  if (ttlSeconds === 0) return false
  const ttlsAt = at + LEARNED_NAME + nameBytes
  const addressesAt = ttlsAt + ttlCount * 2
  const messageAt = addressesAt + addressCount * 3
  if (messageAt + messageBytes !== at + length) return false
  if (!isQuestionOf(bytes, messageAt, messageBytes, at, nameBytes)) return false
  let before = QUESTION_AT
  for (let from = ttlsAt; from < addressesAt; from += 2) {
    const offset = getU16(bytes, from)
    if (offset < before || offset + 4 > messageBytes) return false
    before = offset
  }
  for (let from = addressesAt; from < messageAt; from += 3) {
    const family = bytes[from + 2]!
    const offset = getU16(bytes, from)
    if (family !== 4 && family !== 6) return false
    // An address lies in a record, behind that record's TTL.
    if (ttlCount === 0 || offset < getU16(bytes, ttlsAt) + 4) return false
    if (offset + (family === 4 ? 4 : 16) > messageBytes) return false
  }
  return true
}

/** Whether the record at `at` has a name, and its message is about that name, type and class. */
function isQuestionOf(
  bytes: Uint8Array,
  messageAt: number,
  messageBytes: number,
  at: number,
  nameBytes: number,
): boolean {
  const nameAt = at + LEARNED_NAME
  const name = messageAt + QUESTION_AT
  if (QUESTION_AT + nameBytes + 4 > messageBytes) return false
  if (skipName(bytes, nameAt, nameAt + nameBytes) !== nameAt + nameBytes) return false
  // A pointer ends a name for skipName, but is none.
  if (bytes[nameAt + nameBytes - 1] !== 0) return false
  for (let index = 0; index < nameBytes; index++) {
    if (bytes[nameAt + index] !== LOWER[bytes[name + index]!]) return false
  }
  for (let index = 0; index < 4; index++) {
    if (bytes[at + TYPE + index] !== bytes[name + nameBytes + index]) return false
  }
  return true
}

/** The group id that a record was written with. */
export function learnedGroupId(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at + GROUP)
}

/** Bytes of the record's name, which begins at LEARNED_NAME. */
export function learnedNameBytes(bytes: Uint8Array, at: number): number {
  return bytes[at + NAME_BYTES]!
}

type Changeable<T> = { -readonly [Key in keyof T]: T[Key] }
