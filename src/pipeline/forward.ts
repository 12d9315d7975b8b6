/**
 * Forward: keeps a query that the cache can't answer, and has its question asked, once.
 */
import { KEY_CD } from '../cache/cache.ts'
import { REASON_CLIENT_LIMIT, REASON_SLOTS_FULL } from '../flow/reason.ts'
import type { FlightQuestion } from '../upstream/transport.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'
import { NO_FLIGHT } from './flight.ts'
import { keyFlagsOf } from './key.ts'
import { refuse } from './refuse.ts'
import { NO_SLOT } from './slot.ts'

const SLOTS_FULL = counterIndex('slotsFull')
const CLIENT_LIMIT = counterIndex('clientLimit')
const FLIGHTS_SHARED = counterIndex('flightsShared')

export function forward(context: Context, nowMs: number): void {
  const arrival = context.arrival
  const flights = context.flights
  const query = arrival.query
  const keyFlags = keyFlagsOf(query)
  let flight = flights.find(
    arrival.name,
    query.nameBytes,
    query.nameHash,
    query.type,
    query.class,
    keyFlags,
    arrival.group,
  )
  const isShared = flight !== NO_FLIGHT
  const slots = context.slots
  const slot = slots.keep(arrival, isShared ? slots.count : flights.freeCount)
  if (slot < 0) {
    const isFull = slot === NO_SLOT
    context.parts.counters.add(isFull ? SLOTS_FULL : CLIENT_LIMIT, 1)
    arrival.reason = isFull ? REASON_SLOTS_FULL : REASON_CLIENT_LIMIT
    refuse(context, nowMs)
    return
  }
  if (isShared) {
    context.parts.counters.add(FLIGHTS_SHARED, 1)
    flights.join(flight, slot, context.slots.next)
    return
  }
  flight = flights.begin(
    arrival.name,
    query.nameBytes,
    query.nameHash,
    query.type,
    query.class,
    keyFlags,
    arrival.group,
  )
  flights.join(flight, slot, context.slots.next)
  question.name = arrival.name
  question.nameBytes = query.nameBytes
  question.type = query.type
  question.class = query.class
  question.isDnssecOk = query.isDnssecOk
  question.isCheckingDisabled = (keyFlags & KEY_CD) !== 0
  context.parts.transport.ask(flight, arrival.group, question, nowMs)
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
