/**
 * Cached: what the cache can do for a question, by the age of what it has.
 *
 *     fresh    it is given. Near its end it is asked for anew meanwhile (cache.prefetch)
 *     failed   the client is told at once; nobody is asked again for some seconds (RFC 9520)
 *     stale    upstreams are asked first, and the client waits, but not for ever: `answerInstead`
 *              gives it the stale answer when they fail or are late (RFC 8767). When it is known
 *              that they are silent, it is given at once
 *     dead     as if nothing were there
 *
 * Just after the end of an answer that the peer told, it is still given to whom it opens nothing new:
 * the peer is asking for it.
 * Where it has nothing fresh, a fresh NXDOMAIN for a name above may do (nothing-below.ts).
 *
 * What must stay true:
 * - A stale answer leaves only when nothing better could be had, and opens nothing that its client
 *   did not have before (docs/adr/007-stale-answers.md).
 * - While upstreams are silent, what is asked of them does not grow with what clients ask of us.
 */
import { KIND_TIMEOUT, KIND_UNREACHABLE } from '../cache/entry.ts'
import { DEAD, FRESH, STALE } from '../cache/freshness.ts'
import { REASON_UPSTREAM_FAILURE, REASON_UPSTREAM_TIMEOUT } from '../flow/reason.ts'
import { isAdmitted } from './admit.ts'
import { giveCached, giveStale } from './answer.ts'
import type { Context } from './context.ts'
import { NO_FLIGHT } from './flight.ts'
import { refresh } from './forward.ts'
import { answerNothingBelow } from './nothing-below.ts'
import { refuse } from './refuse.ts'

/** The query ends with what the cache has; false when an upstream is to be asked. */
export function answerFromCache(context: Context, nowMs: number): boolean {
  const { cache } = context.parts
  const { question } = context.arrival
  const entry = cache.find(question)
  const age = entry < 0 ? DEAD : cache.freshness(entry, nowMs)
  if (age !== FRESH) {
    if (entry >= 0 && cache.isPeersTurn(entry, nowMs) && isAdmitted(context, entry)) {
      giveCached(context, entry, nowMs)
      return true
    }
    if (context.options.nothingBelowNxdomain && answerNothingBelow(context, nowMs)) return true
    return age === STALE && answerStale(context, entry, nowMs)
  }
  const kind = cache.kind(entry)
  if (kind === KIND_TIMEOUT || kind === KIND_UNREACHABLE) {
    if (context.silence.isBackSince(question.group, cache.storedAtMs(entry))) return false
    refuseSilent(context, kind, nowMs)
    return true
  }
  const isDue = context.options.prefetch && cache.isPrefetchDue(entry, nowMs)
  giveCached(context, entry, nowMs)
  if (isDue) refresh(context, nowMs)
  return true
}

/**
 * What the cache has is given to a client that waits for upstreams in vain; false when there is
 * nothing, or nothing for this client.
 */
export function answerInstead(context: Context, nowMs: number): boolean {
  const { cache } = context.parts
  const entry = cache.find(context.arrival.question)
  if (entry < 0) return false
  const age = cache.freshness(entry, nowMs)
  if (age === STALE) return giveStale(context, entry, nowMs)
  // The peer may have had more luck meanwhile.
  if (age !== FRESH || cache.isFailure(entry)) return false
  giveCached(context, entry, nowMs)
  return true
}

function answerStale(context: Context, entry: number, nowMs: number): boolean {
  const { silence, flights } = context
  const { question } = context.arrival
  const mayAsk = context.parts.cache.mayRefresh(entry, nowMs)
  if (mayAsk && !silence.isSilent(question.group)) return false
  if (giveStale(context, entry, nowMs)) {
    if (mayAsk && silence.mayProbe(question.group, nowMs)) refresh(context, nowMs)
    return true
  }
  // It is not for this client, who waits as for a name that is not cached.
  if (mayAsk || flights.find(question) !== NO_FLIGHT) return false
  refuseSilent(context, KIND_TIMEOUT, nowMs)
  return true
}

function refuseSilent(context: Context, kind: number, nowMs: number): void {
  context.arrival.reason = kind === KIND_TIMEOUT ? REASON_UPSTREAM_TIMEOUT : REASON_UPSTREAM_FAILURE
  refuse(context, nowMs)
}
