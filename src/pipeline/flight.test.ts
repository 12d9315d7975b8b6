import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { Question } from '../cache/question.ts'
import { parseName } from '../wire/text.ts'
import { FlightTable, NO_FLIGHT } from './flight.ts'
import { NO_SLOT } from './slot.ts'

interface Key {
  readonly name: string
  readonly hash: number
  readonly type: number
  readonly class: number
  readonly keyFlags: number
  readonly group: number
}

const KEY: Key = { name: 'example.com', hash: 8, type: 1, class: 1, keyFlags: 0, group: 0 }

function questionOf(key: Key): Question {
  const { hash, type, class: qclass, keyFlags, group } = key
  const question = new Question()
  question.name = parseName(key.name)
  question.nameBytes = question.name.length
  return Object.assign(question, { hash, type, class: qclass, keyFlags, group })
}

function begin(flights: FlightTable, key: Key): number {
  return flights.begin(questionOf(key), false, 0)
}

function find(flights: FlightTable, key: Key): number {
  return flights.find(questionOf(key))
}

/** Slots that wait for a flight, in order. */
function waiting(first: number, next: Int32Array): number[] {
  const slots: number[] = []
  for (let slot = first; slot !== NO_SLOT; slot = next[slot]!) slots.push(slot)
  return slots
}

test('a flight is found by its whole key and by no other', () => {
  const flights = new FlightTable(8)
  const flight = begin(flights, KEY)
  assert.equal(find(flights, KEY), flight)
  const others: Key[] = [
    { ...KEY, name: 'example.net' },
    { ...KEY, name: 'www.example.com' },
    { ...KEY, hash: 9 },
    { ...KEY, hash: 16 },
    { ...KEY, type: 28 },
    { ...KEY, class: 3 },
    { ...KEY, keyFlags: 1 },
    { ...KEY, group: 1 },
  ]
  for (const other of others) assert.equal(find(flights, other), NO_FLIGHT)
})

test('the name is the flight’s own copy', () => {
  const flights = new FlightTable(8)
  const question = questionOf(KEY)
  const flight = flights.begin(question, false, 0)
  question.name.fill(0xee)
  assert.equal(find(flights, KEY), flight)
})

test('who waits is told in the order of arrival', () => {
  const flights = new FlightTable(8)
  const next = new Int32Array(8).fill(NO_SLOT)
  const flight = begin(flights, KEY)
  for (const slot of [5, 2, 7]) flights.join(flight, slot, next)
  assert.deepEqual(waiting(flights.end(flight), next), [5, 2, 7])
  assert.equal(find(flights, KEY), NO_FLIGHT)
})

test('a full table has no room, and room again after an end', () => {
  const flights = new FlightTable(2)
  const first = begin(flights, KEY)
  begin(flights, { ...KEY, type: 28 })
  assert.equal(flights.freeCount, 0)
  assert.equal(flights.usedCount, 2)
  flights.end(first)
  assert.equal(flights.freeCount, 1)
})

test('a quarter of the flights may be in the background, and what ends makes room', () => {
  const flights = new FlightTable(8)
  const refresh = (type: number) => flights.begin(questionOf({ ...KEY, type }), true, 0)
  const first = refresh(1)
  assert.equal(flights.hasBackgroundRoom, true)
  refresh(2)
  assert.equal(flights.hasBackgroundRoom, false)
  assert.ok(flights.freeCount > 0)
  flights.end(first)
  assert.equal(flights.hasBackgroundRoom, true)
})

test('who waited and no longer does leaves the flight under way, for others to join', () => {
  const flights = new FlightTable(8)
  const next = new Int32Array(8).fill(NO_SLOT)
  const flight = begin(flights, KEY)
  for (const slot of [5, 2]) flights.join(flight, slot, next)
  assert.deepEqual(waiting(flights.detach(flight), next), [5, 2])
  assert.equal(find(flights, KEY), flight)
  flights.join(flight, 7, next)
  assert.deepEqual(waiting(flights.end(flight), next), [7])
})

test('the table finds what has begun and not ended, whatever shares a bucket', () => {
  const keys = fc.record({
    name: fc.constantFrom('example.com', 'example.net'),
    // Few hashes: every bucket has several flights.
    hash: fc.constantFrom(0, 1, 8, 9, -8),
    type: fc.constantFrom(1, 28),
    class: fc.constant(1),
    keyFlags: fc.constantFrom(0, 3),
    group: fc.constantFrom(0, 1),
  })
  fc.assert(
    fc.property(fc.array(keys, { maxLength: 60 }), (sequence) => {
      const flights = new FlightTable(8)
      const model = new Map<string, number>()
      for (const key of sequence) {
        const text = JSON.stringify(key)
        const known = model.get(text)
        assert.equal(find(flights, key), known ?? NO_FLIGHT)
        if (known !== undefined) {
          flights.end(known)
          model.delete(text)
        } else if (flights.freeCount > 0) model.set(text, begin(flights, key))
        assert.equal(flights.usedCount, model.size)
      }
    }),
  )
})

allocatesNothing('beginning, joining, finding and ending a flight allocates nothing', () => {
  const flights = new FlightTable(16)
  const next = new Int32Array(16).fill(NO_SLOT)
  const question = questionOf(KEY)
  return (call) => {
    question.hash = call
    const flight = flights.begin(question, false, 0)
    flights.join(flight, 3, next)
    const found = flights.find(question)
    flights.end(found)
    return found
  }
})
