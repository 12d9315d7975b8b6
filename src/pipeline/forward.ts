/**
 * Forward: keeps a query that the cache can't answer, and has its question asked, once.
 */
import { KEY_CD, KEY_DO, type Question } from '../cache/question.ts'
import { REASON_CLIENT_LIMIT, REASON_SLOTS_FULL, REASON_UPSTREAM_LOOP } from '../flow/reason.ts'
import type { FlightQuestion } from '../upstream/transport.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { NO_FLIGHT } from './flight.ts'
import { refuse } from './refuse.ts'
import { NO_SLOT } from './slot.ts'

const SLOTS_FULL = counterIndex('slotsFull')
const REFRESHES = counterIndex('refreshes')
const CLIENT_LIMIT = counterIndex('clientLimit')
const FLIGHTS_SHARED = counterIndex('flightsShared')

export function forward(context: Context, nowMs: number): void {
  const arrival = context.arrival
  const flights = context.flights
  const { question: asked } = arrival
  if (context.parts.transport.isReturned(asked.name, asked.nameAt, asked.nameBytes)) {
    arrival.reason = REASON_UPSTREAM_LOOP
    refuse(context, nowMs)
    return
  }
  let flight = flights.find(asked)
  const isShared = flight !== NO_FLIGHT
  const slot = keepOrRefuse(context, isShared ? context.slots.count : flights.freeCount, nowMs)
  if (slot < 0) return
  if (isShared) {
    context.parts.counters.add(FLIGHTS_SHARED, 1)
    flights.join(flight, slot, context.slots.next)
    return
  }
  flight = flights.begin(arrival.question, false, nowMs)
  flights.join(flight, slot, context.slots.next)
  ask(context, arrival.question, flight, nowMs)
}

/**
 * Keeps a query; where there is no room for it, it ends here.
 * @returns its slot, or below 0
 */
export function keepOrRefuse(context: Context, roomElsewhere: number, nowMs: number): number {
  const { arrival } = context
  const slot = context.slots.keep(arrival, roomElsewhere)
  if (slot >= 0) return slot
  const isFull = slot === NO_SLOT
  context.parts.counters.add(isFull ? SLOTS_FULL : CLIENT_LIMIT, 1)
  arrival.reason = isFull ? REASON_SLOTS_FULL : REASON_CLIENT_LIMIT
  refuse(context, nowMs)
  return slot
}

/**
 * Has the question that was just answered asked again, though nobody waits for it, unless that is
 * under way. What comes replaces the answer; where there is no room for it, nothing happens.
 */
export function refresh(context: Context, nowMs: number): void {
  const { arrival, flights } = context
  if (!flights.hasBackgroundRoom || flights.find(arrival.question) !== NO_FLIGHT) return
  context.parts.counters.add(REFRESHES, 1)
  ask(context, arrival.question, flights.begin(arrival.question, true, nowMs), nowMs)
}

function ask(context: Context, asked: Question, flight: number, nowMs: number): void {
  question.name = asked.name
  question.nameAt = asked.nameAt
  question.nameBytes = asked.nameBytes
  question.type = asked.type
  question.class = asked.class
  question.isDnssecOk = (asked.keyFlags & KEY_DO) !== 0
  question.isCheckingDisabled = (asked.keyFlags & KEY_CD) !== 0
  context.parts.transport.ask(flight, asked.group, question, nowMs)
}

/** One object, reused: what `ask` reads and does not keep. */
const question: { -readonly [Key in keyof FlightQuestion]: FlightQuestion[Key] } = {
  name: new Uint8Array(0),
  nameAt: 0,
  nameBytes: 0,
  type: 0,
  class: 0,
  isDnssecOk: false,
  isCheckingDisabled: false,
}
