import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FairPlaces, NO_PLACE } from './fair-places.ts'

const A = 1
const B = 2
const C = 3
const ALWAYS = (_place: number): boolean => true
const NEVER = (_place: number): boolean => false

/** Gives the owner one more place; what was there leaves. */
function add(places: FairPlaces, owner: number, at: number, isIdle = ALWAYS): number {
  const place = places.find(owner, isIdle)
  if (place === NO_PLACE) return place
  if (places.isTaken(place)) places.leave(place)
  places.take(place, owner, at)
  return place
}

test('an owner alone gets half of the places, and from then on its own', () => {
  const places = new FairPlaces(8)
  const own = [1, 2, 3, 4].map((at) => add(places, A, at))
  assert.equal(new Set(own).size, 4)
  assert.equal(add(places, A, 5), own[0], 'its longest unused')
  places.use(own[1]!, 6)
  assert.equal(add(places, A, 7), own[2])
  assert.equal(places.takenCount, 4)
})

test('what is in use is not taken, not even for its owner', () => {
  const places = new FairPlaces(4)
  add(places, A, 1)
  const idle = add(places, A, 2)
  assert.equal(add(places, A, 3, NEVER), NO_PLACE)
  assert.equal(
    add(places, A, 4, (place) => place === idle),
    idle,
  )
})

test('who has none gets one although all are taken, if one of them is unused', () => {
  const places = new FairPlaces(2)
  const first = add(places, A, 1)
  const second = add(places, B, 2)
  assert.equal(places.takenCount, 2)
  assert.equal(add(places, C, 3, NEVER), NO_PLACE)
  assert.equal(add(places, C, 3), first)
  assert.equal(add(places, B, 4), second, 'who has one gives its own')
})

test('a place that was left is free', () => {
  const places = new FairPlaces(2)
  const place = add(places, A, 1)
  places.leave(place)
  assert.deepEqual([places.takenCount, places.isTaken(place)], [0, false])
  assert.equal(add(places, B, 2), place)
})
