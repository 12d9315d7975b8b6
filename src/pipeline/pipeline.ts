/**
 * The way of a query, in the order in which it happens:
 *
 *     take ─ parse ─ identify ─ decide ─ route ─ answer from cache ─────────► admit ─ reply ─ record
 *                                  │                 └ not cached: forward ┐     ▲
 *                                  └ denied, malformed: refuse   upstream … learn ┘
 *
 * The pipeline decides and performs nothing: it reads bytes and `nowMs`, and acts through the parts
 * it was given (Replies, Transport, GrantWriter). So the same code runs in the worker over real
 * sockets and in a scenario over a scripted world. It is owned by one thread.
 *
 * What must stay true:
 * - An answer that names addresses leaves only when every grant that the client's policy gives for
 *   them is in force (`admit`); there is no time after which it leaves anyway.
 * - Every query that gets through `take` ends in exactly one reply and one flow; what is no query
 *   at all (too short, a response) gets neither, only a counter: answering it would let two
 *   servers talk to each other for ever.
 */
import { REASON_UPSTREAM_FAILURE, REASON_UPSTREAM_TIMEOUT } from '../flow/reason.ts'
import type { PolicyTable } from '../policy/table.ts'
import { type AnswerSink, FLIGHT_TIMEOUT, type FlightFailure } from '../upstream/transport.ts'
import type { Answer } from '../wire/answer.ts'
import { TYPE_ANY } from '../wire/header.ts'
import { answerAny, answerFromCache, answerFromUpstream } from './answer.ts'
import type { Arrival } from './arrival.ts'
import { Context, type PipelineOptions, type PipelineParts } from './context.ts'
import { counterIndex } from './counters.ts'
import { decide, isServed } from './decide.ts'
import { forward } from './forward.ts'
import { identify } from './identify.ts'
import { learn } from './learn.ts'
import { refuse, refuseUnreadable } from './refuse.ts'
import { route } from './route.ts'
import { NO_SLOT } from './slot.ts'
import { answerSpecial } from './special.ts'

const QUERIES = counterIndex('queries')
const DENIED_AUDIT = counterIndex('deniedAudit')

export class Pipeline implements AnswerSink {
  readonly #context: Context

  constructor(parts: PipelineParts, policy: PolicyTable, options: PipelineOptions) {
    this.#context = new Context(parts, policy, options)
  }

  /** To be filled before `take`: from whom the message comes, and by which way. */
  get arrival(): Arrival {
    return this.#context.arrival
  }

  /** What the wall clock shows; to be told now and then, since people and NTP set clocks. */
  setWallClock(wallMs: number, nowMs: number): void {
    this.#context.epochMs = wallMs - nowMs
  }

  /** Whether there is something for the peer since the last call: it should have it at once. */
  takeTold(): boolean {
    const hasTold = this.#context.hasTold
    this.#context.hasTold = false
    return hasTold
  }

  /** Queries that wait for an upstream. */
  get waitingCount(): number {
    return this.#context.slots.usedCount
  }

  /**
   * The policy table was opened anew, or the kernel's grants may be gone: each grant is written
   * again when it is next asked for.
   */
  forgetGrants(): void {
    this.#context.parts.grants.clear()
  }

  /**
   * One message that came to us; `arrival` says from whom, the message lies in `packet`. False when
   * it is no query and gets no reply.
   */
  take(packet: Uint8Array, start: number, end: number, nowMs: number): boolean {
    const context = this.#context
    const arrival = context.arrival
    context.parts.counters.add(QUERIES, 1)
    arrival.receivedMs = nowMs
    const parsed = arrival.parse(packet, start, end)
    if (parsed < 0) return refuseUnreadable(context, parsed, nowMs)
    identify(context)
    const isAllowed = decide(context)
    if (arrival.isAudited) context.parts.counters.add(DENIED_AUDIT, 1)
    if (!isAllowed || !isServed(context)) refuse(context, nowMs)
    else if (arrival.query.type === TYPE_ANY) answerAny(context, nowMs)
    else if (answerSpecial(context, nowMs)) return true
    else if (!route(context)) refuse(context, nowMs)
    else if (!answerFromCache(context, nowMs)) forward(context, nowMs)
    return true
  }

  /** An upstream answered: everyone who waits for it gets it. */
  arrived(flight: number, bytes: Uint8Array, at: number, answer: Answer, nowMs: number): void {
    const context = this.#context
    const length = learn(context, flight, bytes, at, answer, nowMs)
    let slot = context.flights.end(flight)
    while (slot !== NO_SLOT) {
      const next = this.#load(slot)
      // The policy may have changed while the upstream was asked.
      identify(context)
      if (decide(context))
        answerFromUpstream(context, bytes, at, length, context.meta.ttlSeconds, nowMs)
      else refuse(context, nowMs)
      context.slots.free(slot)
      slot = next
    }
  }

  /** No upstream answered: everyone who waits is told so. */
  failed(flight: number, failure: FlightFailure, nowMs: number): void {
    const context = this.#context
    let slot = context.flights.end(flight)
    while (slot !== NO_SLOT) {
      const next = this.#load(slot)
      context.arrival.reason =
        failure === FLIGHT_TIMEOUT ? REASON_UPSTREAM_TIMEOUT : REASON_UPSTREAM_FAILURE
      refuse(context, nowMs)
      context.slots.free(slot)
      slot = next
    }
  }

  #load(slot: number): number {
    this.#context.slots.load(slot, this.#context.arrival)
    return this.#context.slots.next[slot]!
  }
}
