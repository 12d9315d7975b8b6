/**
 * Answer: gives a client the message that the cache or an upstream has for its question.
 *
 * The message is copied to where the reply leaves from and made this client's own there: TTLs run
 * down, addresses take turns, ID, flags, the question with its case, an OPT record if it sent one,
 * cut to what it takes.
 * Then its grants are made (admit.ts), and only if all are in force does it leave. In audit mode the
 * kernel denies nothing, so there it leaves anyway.
 */
import { STALE_TTL_SECONDS } from '../cache/freshness.ts'
import {
  REASON_ANSWERED_BY_UPSTREAM,
  REASON_ANSWERED_FROM_CACHE,
  REASON_ANSWERED_STALE,
} from '../flow/reason.ts'
import { KIND_ERROR, KIND_NXDOMAIN } from '../wire/answer.ts'
import { NO_ENTRY } from '../cache/cache.ts'
import { ageTtls, finishAnswer, writeError, writeMinimalAny } from '../wire/build.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { OPT_BYTES_MAX } from '../wire/edns.ts'
import {
  EDE_CACHED_ERROR,
  EDE_NONE,
  EDE_STALE_ANSWER,
  EDE_STALE_NXDOMAIN,
  EDE_SYNTHESIZED,
  FLAG_TC,
  FLAGS_AT,
  MESSAGE_BYTES_MAX,
  RCODE_NOERROR,
  TYPE_A,
  TYPE_AAAA,
} from '../wire/header.ts'
import { ADMITTED, admit, wasAdmitted } from './admit.ts'
import { CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { refuse } from './refuse.ts'
import { openReply, sendReply } from './reply.ts'
import { rotate } from './rotate.ts'

const CACHED = counterIndex('answersCached')
const STALE = counterIndex('answersStale')
const UPSTREAM = counterIndex('answersUpstream')
const TRUNCATED = counterIndex('answersTruncated')
const WITHHELD = counterIndex('answersWithheld')

/** Gives a fresh entry of the cache. */
export function giveCached(context: Context, entry: number, nowMs: number): void {
  const { cache, counters } = context.parts
  counters.add(CACHED, 1)
  if (!copyEntry(context, entry, REASON_ANSWERED_FROM_CACHE, nowMs)) return
  const age = cache.ageSeconds(entry, nowMs)
  const left = cache.ttlSeconds(entry) - age
  const ede = cache.kind(entry) === KIND_ERROR ? EDE_CACHED_ERROR : EDE_NONE
  const bytes = cache.messageBytes(entry)
  const floor = floorSeconds(context, age, left)
  // A TTL that is raised again and again outlives what was granted for it.
  const lasting = floor === 0 ? entry : NO_ENTRY
  give(context, lasting, bytes, age, floor, left, ede, REASON_ANSWERED_FROM_CACHE, nowMs)
}

/**
 * Gives an entry whose TTL is over, for STALE_TTL_SECONDS. False when its client was not granted,
 * within the time that answers may be stale for, all that it would open: then it is not for him.
 */
export function giveStale(context: Context, entry: number, nowMs: number): boolean {
  const { cache, replies, counters } = context.parts
  if (!copyEntry(context, entry, REASON_ANSWERED_STALE, nowMs)) return true
  const sinceMs = nowMs - cache.serveStaleMs
  const isForClient =
    context.policy.isAudit || wasAdmitted(context, replies.bytes, replies.at, sinceMs)
  if (!isForClient) return false
  counters.add(STALE, 1)
  const ede = cache.kind(entry) === KIND_NXDOMAIN ? EDE_STALE_NXDOMAIN : EDE_STALE_ANSWER
  const bytes = cache.messageBytes(entry)
  const ttl = STALE_TTL_SECONDS
  give(context, NO_ENTRY, bytes, 0, ttl, ttl, ede, REASON_ANSWERED_STALE, nowMs)
  return true
}

/** Copies an entry to where the reply is written; false when it can't be, and the query has ended. */
function copyEntry(context: Context, entry: number, reason: number, nowMs: number): boolean {
  const { cache, replies } = context.parts
  const meta = context.meta
  if (!openReply(context, reason, nowMs)) return false
  if (!hasRoom(context, cache.messageBytes(entry))) {
    giveTruncated(context, reason, nowMs)
    return false
  }
  cache.copyMessage(entry, replies.bytes, replies.at)
  meta.ttlCount = cache.ttlOffsets(entry, meta.ttlOffsets)
  meta.isWhole = true // an answer that is not is never kept
  meta.addressCount = cache.addresses(entry, meta.addressOffsets, meta.addressFamilies)
  return true
}

/**
 * Answers with what an upstream has just said; context.meta describes it.
 * @param bytes  of the message, at `at`; it has no OPT record any more
 * @param ttlSeconds  the longest that the client may keep it
 */
export function answerFromUpstream(
  context: Context,
  message: Uint8Array,
  at: number,
  bytes: number,
  ttlSeconds: number,
  nowMs: number,
): void {
  const replies = context.parts.replies
  context.parts.counters.add(UPSTREAM, 1)
  const reason = REASON_ANSWERED_BY_UPSTREAM
  if (!openReply(context, reason, nowMs)) return
  if (!hasRoom(context, bytes)) giveTruncated(context, reason, nowMs)
  else {
    copyBytes(message, at, bytes, replies.bytes, replies.at)
    const floor = floorSeconds(context, 0, ttlSeconds)
    give(context, NO_ENTRY, bytes, 0, floor, ttlSeconds, EDE_NONE, reason, nowMs)
  }
}

/**
 * Answers with an NXDOMAIN that was made of a fresh entry for a name above (nothing-below.ts);
 * context.meta describes it.
 */
export function giveDenial(
  context: Context,
  entry: number,
  message: Uint8Array,
  bytes: number,
  nowMs: number,
): void {
  const { cache, counters, replies } = context.parts
  const reason = REASON_ANSWERED_FROM_CACHE
  counters.add(CACHED, 1)
  if (!openReply(context, reason, nowMs)) return
  if (!hasRoom(context, bytes)) giveTruncated(context, reason, nowMs)
  else {
    copyBytes(message, 0, bytes, replies.bytes, replies.at)
    const age = cache.ageSeconds(entry, nowMs)
    const left = cache.ttlSeconds(entry) - age
    give(context, NO_ENTRY, bytes, age, 0, left, EDE_SYNTHESIZED, reason, nowMs)
  }
}

/** RFC 8482: a question of type ANY gets one small record, whoever asks it. */
export function answerAny(context: Context, nowMs: number): void {
  const arrival = context.arrival
  const replies = context.parts.replies
  if (!openReply(context, REASON_ANSWERED_FROM_CACHE, nowMs)) return
  const at = replies.at
  const bytes = replies.bytes
  const length = writeMinimalAny(bytes, at, arrival.packet, arrival.start, arrival.query)
  sendReply(context, length, REASON_ANSWERED_FROM_CACHE, nowMs)
}

/**
 * The reply's place holds a copy of the message: makes it the client's, and lets it go.
 * @param entry  see admit
 * @param floorSeconds  and `leftSeconds`: bounds of the TTLs that the client sees
 */
function give(
  context: Context,
  entry: number,
  messageBytes: number,
  ageSeconds: number,
  floorSeconds: number,
  leftSeconds: number,
  ede: number,
  reason: number,
  nowMs: number,
): void {
  const arrival = context.arrival
  const meta = context.meta
  const bytes = context.parts.replies.bytes
  const at = context.parts.replies.at
  ageTtls(bytes, at, meta.ttlOffsets, 0, meta.ttlCount, ageSeconds, floorSeconds, leftSeconds)
  if (context.options.rotate) takeTurn(context, bytes, at)
  const length = finishAnswer(
    bytes,
    at,
    messageBytes,
    arrival.packet,
    arrival.start,
    arrival.query,
    bytesMaxOf(context),
    ede,
  )
  const isTruncated = (getU16(bytes, at + FLAGS_AT) & FLAG_TC) !== 0
  if (isTruncated) context.parts.counters.add(TRUNCATED, 1)
  const fault = isTruncated ? ADMITTED : admit(context, entry, bytes, at, nowMs)
  if (fault !== ADMITTED && !context.policy.isAudit) {
    context.parts.counters.add(WITHHELD, 1)
    arrival.reason = fault
    refuse(context, nowMs)
    return
  }
  sendReply(context, length, reason, nowMs)
}

/**
 * Which address comes first is drawn, not counted: who asks for A and AAAA in turn would get every
 * second one only. The generator is Numerical Recipes'; nothing depends on its being guessed.
 */
function takeTurn(context: Context, bytes: Uint8Array, at: number): void {
  const { type } = context.arrival.query
  if (type !== TYPE_A && type !== TYPE_AAAA) return
  context.turn = (Math.imul(context.turn, 1_664_525) + 1_013_904_223) | 0
  rotate(bytes, at, context.meta, type === TYPE_A ? 4 : 6, context.turn >>> 16)
}

/** What cache.minTtl still raises TTLs to. */
function floorSeconds(context: Context, ageSeconds: number, leftSeconds: number): number {
  const floor = context.options.minTtlSeconds - ageSeconds
  return floor < 0 ? 0 : floor > leftSeconds ? leftSeconds : floor
}

/** The message is longer than any datagram of ours: the client is told to come by TCP. */
function giveTruncated(context: Context, reason: number, nowMs: number): void {
  const arrival = context.arrival
  const bytes = context.parts.replies.bytes
  const at = context.parts.replies.at
  context.parts.counters.add(TRUNCATED, 1)
  const length = writeError(
    bytes,
    at,
    arrival.packet,
    arrival.start,
    arrival.query,
    RCODE_NOERROR,
    EDE_NONE,
  )
  putU16(bytes, at + FLAGS_AT, getU16(bytes, at + FLAGS_AT) | FLAG_TC)
  sendReply(context, length, reason, nowMs)
}

/** Whether a message of that length, and an OPT record, can be written where the reply is. */
function hasRoom(context: Context, bytes: number): boolean {
  const replies = context.parts.replies
  return replies.at + bytes + OPT_BYTES_MAX <= replies.limit
}

function bytesMaxOf(context: Context): number {
  const arrival = context.arrival
  return arrival.channel >= CHANNEL_TCP ? MESSAGE_BYTES_MAX : arrival.query.udpBytes
}
