/**
 * Learn: makes an upstream's answer ours, and keeps it. The OPT record belongs to that hop and goes;
 * AD goes too, because nothing on the path proves that the upstream validated (RFC 6840 §5.7: only
 * over a channel that is trusted). What the cache keeps is told to the peer, if there is one.
 */
import { KIND_TIMEOUT, KIND_UNREACHABLE } from '../cache/entry.ts'
import { negativeTtl, positiveTtl, type TtlLimits } from '../cache/freshness.ts'
import { RECORD_LEARNED } from '../flow/record.ts'
import {
  type Answer,
  KIND_ERROR,
  KIND_INCOMPLETE,
  KIND_NODATA,
  KIND_NXDOMAIN,
  KIND_POSITIVE,
} from '../wire/answer.ts'
import { cutAtOpt } from '../wire/build.ts'
import { getU16, putU16 } from '../wire/bytes.ts'
import { FLAG_AD, FLAGS_AT } from '../wire/header.ts'
import {
  FLIGHT_FULL,
  FLIGHT_LOOP,
  FLIGHT_TIMEOUT,
  type FlightFailure,
} from '../upstream/transport.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import type { MessageMeta } from './meta.ts'

const INSERTS = counterIndex('cacheInserts')

/**
 * Reads what the pipeline needs of an answer into context.meta, and keeps the answer if it may be
 * kept. The message is changed where it lies.
 * @returns the message's length without the OPT record
 */
export function learn(
  context: Context,
  flight: number,
  bytes: Uint8Array,
  at: number,
  answer: Answer,
  nowMs: number,
): number {
  const { cache, counters } = context.parts
  const { flights, meta, options } = context
  const length = cutAtOpt(bytes, at, answer)
  putU16(bytes, at + FLAGS_AT, getU16(bytes, at + FLAGS_AT) & ~FLAG_AD)
  describe(meta, answer)
  meta.ttlSeconds = 0
  const { asked } = context
  flights.read(flight, asked)
  context.silence.heard(asked.group, nowMs)
  if (answer.kind === KIND_ERROR) {
    // SERVFAIL, REFUSED …: for a few seconds it is not asked the same again. RFC 9520.
    cache.insertFailure(asked, KIND_ERROR, bytes, at, length, nowMs)
    return length
  }
  if (answer.kind === KIND_INCOMPLETE) return length
  // Not kept if that is 0; but what it replaces must not come back as a stale answer.
  meta.ttlSeconds = keepSeconds(answer, options)
  const entry = cache.insert(asked, bytes, at, length, answer, meta.ttlSeconds, nowMs)
  if (entry < 0) return length
  counters.add(INSERTS, 1)
  if (context.hasPeer) tell(context, entry, asked.group)
  return length
}

/** Where the answer's TTLs and addresses lie. */
export function describe(meta: MessageMeta, answer: Answer): void {
  meta.ttlCount = answer.ttlCount
  for (let index = 0; index < answer.ttlCount; index++) {
    meta.ttlOffsets[index] = answer.ttlOffsets[index]!
  }
  meta.addressCount = answer.addressCount
  for (let index = 0; index < answer.addressCount; index++) {
    meta.addressOffsets[index] = answer.addressOffsets[index]!
    meta.addressFamilies[index] = answer.addressFamilies[index]!
  }
  meta.isWhole = answer.kind !== KIND_INCOMPLETE || (answer.isChainWhole && !answer.isTooMany)
}

/**
 * No upstream answered: it is not asked the same again for a few seconds, and whoever wants to know
 * meanwhile is told at once. Source: RFC 9520 §3.2.
 */
export function learnFailure(
  context: Context,
  flight: number,
  failure: FlightFailure,
  nowMs: number,
): void {
  // Nobody was asked.
  if (failure === FLIGHT_FULL || failure === FLIGHT_LOOP) return
  const { asked, flights } = context
  const kind = failure === FLIGHT_TIMEOUT ? KIND_TIMEOUT : KIND_UNREACHABLE
  flights.read(flight, asked)
  context.silence.unheard(asked.group, flights.begunMs[flight]!, nowMs)
  context.parts.cache.insertFailure(asked, kind, flights.names, 0, 0, nowMs)
}

/** For how long the answer may be kept; 0: not at all. */
function keepSeconds(answer: Answer, limits: TtlLimits): number {
  if (answer.isTooMany) return 0
  switch (answer.kind) {
    case KIND_POSITIVE:
      return positiveTtl(answer.minimumTtl, limits)
    case KIND_NXDOMAIN:
    case KIND_NODATA:
      return negativeTtl(answer.hasSoa, answer.soaTtl, answer.soaMinimum, limits)
    default:
      return 0
  }
}

/** Puts the answer into the ring to the main thread, which sends it to the peer. */
function tell(context: Context, entry: number, group: number): void {
  const { learned, records, transport } = context.parts
  const groupId = transport.groupId(group)
  const bytes = groupId === 0 ? 0 : learned.encodedBytes(entry)
  if (bytes === 0) return
  const at = records.reserve(RECORD_LEARNED, bytes)
  if (at < 0) return
  learned.encode(entry, groupId, records.bytes, at)
  records.commit()
  context.hasTold = true
}
