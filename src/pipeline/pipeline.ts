/**
 * The way of a query, in the order in which it happens:
 *
 *     take ─ parse ─ identify ─ limit ─ decide ─ route ─ answer from cache ─► admit ─ reply ─ record
 *             │                  │        │           └ not cached: forward ┐  ▲
 *             └──── malformed, too many, denied: refuse     upstream … learn ┘──┘
 *             └── another opcode than QUERY: relay
 *
 * The pipeline decides and performs nothing: it reads bytes and `nowMs`, and acts through the parts
 * it was given (Replies, Transport, GrantWriter). So the same code runs in the worker over real
 * sockets and in a scenario over a scripted world. It is owned by one thread.
 *
 * What must stay true:
 * - An answer that names addresses leaves only when every grant that the client's policy gives for
 *   them is in force (`admit`); there is no time after which it leaves anyway.
 * - Of a flight that ends, `context.asked` is the question: slots keep all of theirs but the group.
 * - Every query that gets through `take` ends in exactly one reply and one flow; what is no query
 *   at all (too short, a response) gets neither, only a counter: answering it would let two
 *   servers talk to each other for ever.
 */
import { DEAD } from '../cache/freshness.ts'
import {
  REASON_UPSTREAM_FAILURE,
  REASON_UPSTREAM_FULL,
  REASON_UPSTREAM_LOOP,
  REASON_UPSTREAM_TIMEOUT,
} from '../flow/reason.ts'
import type { PolicyTable } from '../policy/table.ts'
import {
  type AnswerSink,
  FLIGHT_DEADLINE_MS,
  FLIGHT_FULL,
  FLIGHT_LOOP,
  FLIGHT_TIMEOUT,
  type FlightFailure,
} from '../upstream/transport.ts'
import { type Answer, KIND_ERROR } from '../wire/answer.ts'
import { TYPE_ANY } from '../wire/header.ts'
import { QUERY_OPCODE } from '../wire/query.ts'
import { answerAny, answerFromUpstream } from './answer.ts'
import type { Arrival } from './arrival.ts'
import { answerFromCache, answerInstead } from './cached.ts'
import { Context, type PipelineOptions, type PipelineParts } from './context.ts'
import { counterIndex } from './counters.ts'
import { decide, isServed } from './decide.ts'
import { forward } from './forward.ts'
import { identify } from './identify.ts'
import { describe, learn, learnFailure } from './learn.ts'
import { limit } from './limit.ts'
import { refuse, refuseUnreadable } from './refuse.ts'
import { relay, relayed, relayFailed } from './relay.ts'
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

  /** Whether answers that are learned are wanted by somebody beside our clients. */
  set hasPeer(hasPeer: boolean) {
    this.#context.hasPeer = hasPeer
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
    if (parsed < 0) {
      if (parsed !== QUERY_OPCODE) return refuseUnreadable(context, parsed, nowMs)
      relay(context, nowMs)
      return true
    }
    identify(context, nowMs)
    if (!limit(context, nowMs)) {
      refuse(context, nowMs)
      return true
    }
    const isAllowed = decide(context)
    if (arrival.isAudited) context.parts.counters.add(DENIED_AUDIT, 1)
    if (!isAllowed || !isServed(context)) refuse(context, nowMs)
    else if (arrival.query.type === TYPE_ANY) answerAny(context, nowMs)
    else if (answerSpecial(context, nowMs)) return true
    else if (!route(context, nowMs)) refuse(context, nowMs)
    else if (!answerFromCache(context, nowMs)) forward(context, nowMs)
    return true
  }

  /** An upstream answered: everyone who waits for it gets it. */
  arrived(flight: number, bytes: Uint8Array, at: number, answer: Answer, nowMs: number): void {
    const context = this.#context
    const { meta } = context
    const length = learn(context, flight, bytes, at, answer, nowMs)
    const isFailure = answer.kind === KIND_ERROR
    let slot = context.flights.end(flight)
    while (slot !== NO_SLOT) {
      const next = this.#load(slot)
      // The policy may have changed while the upstream was asked.
      identify(context, nowMs)
      if (!decide(context)) refuse(context, nowMs)
      else if (!isFailure) {
        answerFromUpstream(context, bytes, at, length, meta.ttlSeconds, nowMs)
      } else if (!answerInstead(context, nowMs)) {
        describe(meta, answer)
        answerFromUpstream(context, bytes, at, length, 0, nowMs)
      }
      context.slots.free(slot)
      slot = next
    }
  }

  /** No upstream answered: everyone who waits gets what the cache still has, or is told so. */
  failed(flight: number, failure: FlightFailure, nowMs: number): void {
    const context = this.#context
    learnFailure(context, flight, failure, nowMs)
    let slot = context.flights.end(flight)
    while (slot !== NO_SLOT) {
      const next = this.#load(slot)
      identify(context, nowMs)
      const isAllowed = decide(context)
      if (!isAllowed || !answerInstead(context, nowMs)) {
        if (isAllowed) context.arrival.reason = reasonOf(failure)
        refuse(context, nowMs)
      }
      context.slots.free(slot)
      slot = next
    }
  }

  relayed(slot: number, bytes: Uint8Array, at: number, length: number, nowMs: number): void {
    relayed(this.#context, slot, bytes, at, length, nowMs)
  }

  relayFailed(slot: number, failure: FlightFailure, nowMs: number): void {
    relayFailed(this.#context, slot, reasonOf(failure), nowMs)
  }

  forgotten(group: number, nowMs: number): void {
    this.#context.silence.forgetGroup(group)
    this.#context.parts.cache.forgetGroup(group, nowMs)
  }

  /** Looks after those who have waited for long. To be called every 20 ms or so. */
  tick(nowMs: number): void {
    const { flights } = this.#context
    if (flights.usedCount === 0) return
    for (let flight = 0; flight < flights.count; flight++) {
      if (flights.dueMs[flight]! <= nowMs) this.#overdue(flight, nowMs)
    }
  }

  /**
   * The flight takes long. Who waits for it gets a stale answer if there is one for him, and so does
   * at once who asks from now on; the flight goes on.
   */
  #overdue(flight: number, nowMs: number): void {
    const context = this.#context
    const { flights, asked, slots } = context
    const { cache } = context.parts
    flights.dueMs[flight] = Infinity
    flights.read(flight, asked)
    context.silence.unheard(asked.group, flights.begunMs[flight]!, nowMs)
    const entry = cache.find(asked)
    if (entry < 0 || cache.isFailure(entry) || cache.freshness(entry, nowMs) === DEAD) return
    cache.postponeRefresh(entry, flights.begunMs[flight]! + FLIGHT_DEADLINE_MS)
    let slot = flights.detach(flight)
    while (slot !== NO_SLOT) {
      const next = this.#load(slot)
      identify(context, nowMs)
      const isAllowed = decide(context)
      if (!isAllowed) refuse(context, nowMs)
      if (!isAllowed || answerInstead(context, nowMs)) slots.free(slot)
      else {
        slots.next[slot] = NO_SLOT
        flights.join(flight, slot, slots.next)
      }
      slot = next
    }
  }

  /** Makes the slot's query the one to work on; returns the slot that waits behind it. */
  #load(slot: number): number {
    const { slots, arrival, asked } = this.#context
    slots.load(slot, arrival)
    arrival.question.group = asked.group
    return slots.next[slot]!
  }
}

function reasonOf(failure: FlightFailure): number {
  if (failure === FLIGHT_TIMEOUT) return REASON_UPSTREAM_TIMEOUT
  if (failure === FLIGHT_LOOP) return REASON_UPSTREAM_LOOP
  return failure === FLIGHT_FULL ? REASON_UPSTREAM_FULL : REASON_UPSTREAM_FAILURE
}
