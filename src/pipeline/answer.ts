/**
 * Answer: gives a client the message that the cache or an upstream has for its question.
 *
 * The message is copied to where the reply leaves from and made this client's own there: TTLs run
 * down, ID, flags, the question with its case, an OPT record if it sent one, cut to what it takes.
 * Then its grants are made (admit.ts), and only if all are in force does it leave. In audit mode the
 * kernel denies nothing, so there it leaves anyway.
 */
import { FRESH } from '../cache/freshness.ts'
import { REASON_ANSWERED_BY_UPSTREAM, REASON_ANSWERED_FROM_CACHE } from '../flow/reason.ts'
import { VERDICT_AUDIT, VERDICT_FORWARDED } from '../flow/record.ts'
import { ageTtls, finishAnswer, writeError, writeMinimalAny } from '../wire/build.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { OPT_BYTES_MAX } from '../wire/edns.ts'
import { EDE_NONE, FLAG_TC, FLAGS_AT, MESSAGE_BYTES_MAX, RCODE_NOERROR } from '../wire/header.ts'
import { ADMITTED, admit } from './admit.ts'
import { CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { keyFlagsOf } from './key.ts'
import { record } from './record.ts'
import { refuse } from './refuse.ts'

const CACHED = counterIndex('answersCached')
const UPSTREAM = counterIndex('answersUpstream')
const TRUNCATED = counterIndex('answersTruncated')
const WITHHELD = counterIndex('answersWithheld')
const REPLIES_LOST = counterIndex('repliesLost')

/** Answers from the cache; false when it has nothing fresh. */
export function answerFromCache(context: Context, nowMs: number): boolean {
  const { cache, replies, counters } = context.parts
  const arrival = context.arrival
  const query = arrival.query
  const entry = cache.find(
    arrival.name,
    0,
    query.nameBytes,
    query.nameHash,
    query.type,
    query.class,
    keyFlagsOf(query),
    arrival.group,
  )
  if (entry < 0 || cache.freshness(entry, nowMs) !== FRESH) return false
  counters.add(CACHED, 1)
  if (!replies.open(arrival)) {
    giveUp(context, REASON_ANSWERED_FROM_CACHE, nowMs)
    return true
  }
  const bytes = cache.messageBytes(entry)
  if (!hasRoom(context, bytes)) {
    giveTruncated(context, REASON_ANSWERED_FROM_CACHE, nowMs)
    return true
  }
  const meta = context.meta
  cache.copyMessage(entry, replies.bytes, replies.at)
  meta.ttlCount = cache.ttlOffsets(entry, meta.ttlOffsets)
  meta.isWhole = true // an answer that is not is never kept
  meta.addressCount = cache.addresses(entry, meta.addressOffsets, meta.addressFamilies)
  const age = cache.ageSeconds(entry, nowMs)
  give(context, bytes, age, cache.ttlSeconds(entry) - age, REASON_ANSWERED_FROM_CACHE, nowMs)
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
  if (!replies.open(context.arrival)) giveUp(context, REASON_ANSWERED_BY_UPSTREAM, nowMs)
  else if (!hasRoom(context, bytes)) giveTruncated(context, REASON_ANSWERED_BY_UPSTREAM, nowMs)
  else {
    copyBytes(message, at, bytes, replies.bytes, replies.at)
    give(context, bytes, 0, ttlSeconds, REASON_ANSWERED_BY_UPSTREAM, nowMs)
  }
}

/** RFC 8482: a question of type ANY gets one small record, whoever asks it. */
export function answerAny(context: Context, nowMs: number): void {
  const arrival = context.arrival
  const replies = context.parts.replies
  if (!replies.open(arrival)) {
    giveUp(context, REASON_ANSWERED_FROM_CACHE, nowMs)
    return
  }
  const at = replies.at
  const bytes = replies.bytes
  const length = writeMinimalAny(bytes, at, arrival.packet, arrival.start, arrival.query)
  send(context, length, REASON_ANSWERED_FROM_CACHE, nowMs)
}

/** The reply's place holds a copy of the message: makes it the client's, and lets it go. */
function give(
  context: Context,
  messageBytes: number,
  ageSeconds: number,
  leftSeconds: number,
  reason: number,
  nowMs: number,
): void {
  const arrival = context.arrival
  const meta = context.meta
  const bytes = context.parts.replies.bytes
  const at = context.parts.replies.at
  const floor = context.options.minTtlSeconds - ageSeconds
  const floorSeconds = floor < 0 ? 0 : floor > leftSeconds ? leftSeconds : floor
  ageTtls(bytes, at, meta.ttlOffsets, 0, meta.ttlCount, ageSeconds, floorSeconds, leftSeconds)
  const length = finishAnswer(
    bytes,
    at,
    messageBytes,
    arrival.packet,
    arrival.start,
    arrival.query,
    bytesMaxOf(context),
    EDE_NONE,
  )
  const isTruncated = (getU16(bytes, at + FLAGS_AT) & FLAG_TC) !== 0
  if (isTruncated) context.parts.counters.add(TRUNCATED, 1)
  const fault = isTruncated ? ADMITTED : admit(context, bytes, at, nowMs)
  if (fault !== ADMITTED && !context.policy.isAudit) {
    context.parts.counters.add(WITHHELD, 1)
    arrival.reason = fault
    refuse(context, nowMs)
    return
  }
  send(context, length, reason, nowMs)
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
  send(context, length, reason, nowMs)
}

function giveUp(context: Context, reason: number, nowMs: number): void {
  context.parts.counters.add(REPLIES_LOST, 1)
  record(context, verdictOf(context), reason, context.arrival.packet, 0, 0, nowMs)
}

function send(context: Context, length: number, reason: number, nowMs: number): void {
  const arrival = context.arrival
  const replies = context.parts.replies
  const bytes = replies.bytes
  const at = replies.at
  replies.send(arrival, length)
  record(
    context,
    verdictOf(context),
    arrival.isAudited ? arrival.reason : reason,
    bytes,
    at,
    length,
    nowMs,
  )
}

function verdictOf(context: Context): number {
  return context.arrival.isAudited ? VERDICT_AUDIT : VERDICT_FORWARDED
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
