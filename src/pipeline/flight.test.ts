import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
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

function partsOf(key: Key) {
  const name = parseName(key.name)
  const { hash, type, class: qclass, keyFlags, group } = key
  return [name, name.length, hash, type, qclass, keyFlags, group] as const
}

function begin(flights: FlightTable, key: Key): number {
  return flights.begin(...partsOf(key))
}

function find(flights: FlightTable, key: Key): number {
  return flights.find(...partsOf(key))
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
  const [name, ...rest] = partsOf(KEY)
  const flight = flights.begin(name, ...rest)
  name.fill(0xee)
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

test('the table finds what has begun and not ended, whatever shares a bucket', () => {
  const keys = fc.record({
    name: fc.constantFrom('example.com', 'example.net'),
    // Few hashes: every bucket has several flights.
    hash: fc.constantFrom(0, 1, 8, 9, 0xfffffff8),
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
  const [name, nameBytes] = partsOf(KEY)
  return (call) => {
    const flight = flights.begin(name, nameBytes, call, 1, 1, 0, 0)
    flights.join(flight, 3, next)
    const found = flights.find(name, nameBytes, call, 1, 1, 0, 0)
    flights.end(found)
    return found
  }
})
