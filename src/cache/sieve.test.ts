/**
 * The eviction order, on SieveQueue alone, and through the cache where the two meet.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { STATE_VISITED, ENTRY_STATE } from './entry.ts'
import { SieveQueue } from './sieve.ts'

class Story {
  readonly words = new Int32Array(64 * 16)
  readonly queue = new SieveQueue(this.words)

  push(...letters: string[]): void {
    for (const letter of letters) this.queue.push(numberOf(letter))
  }

  visit(...letters: string[]): void {
    for (const letter of letters) this.words[numberOf(letter) * 16 + ENTRY_STATE]! |= STATE_VISITED
  }

  remove(letter: string): void {
    this.queue.unlink(numberOf(letter))
  }

  /** Evicts one, as cache.ts does. */
  evict(): string {
    for (let step = 0; step < 200; step++) {
      const entry = this.queue.atHand()
      if (entry === 0) return ''
      if (!this.queue.isVisited(entry)) {
        this.queue.unlink(entry)
        return letterOf(entry)
      }
      this.queue.pass()
    }
    throw new Error('the hand goes round and finds nobody')
  }
}

function numberOf(letter: string): number {
  return letter.charCodeAt(0) - 64
}

function letterOf(entry: number): string {
  return String.fromCharCode(entry + 64)
}

test('visited entries stay behind while the hand takes the others, one for each new entry', () => {
  const story = new Story()
  story.push('A', 'B', 'C', 'D', 'E', 'F', 'G')
  story.visit('A', 'B', 'G')
  assert.equal(story.evict(), 'C')
  story.push('H')
  story.visit('A')
  assert.equal(story.evict(), 'D')
  story.push('I')
  story.visit('B', 'E')
  assert.equal(story.evict(), 'F')
})

test('without visits the oldest leaves first', () => {
  const story = new Story()
  story.push('A', 'B', 'C')
  assert.deepEqual(
    [story.evict(), story.evict(), story.evict(), story.evict()],
    ['A', 'B', 'C', ''],
  )
})

test('a visited entry stays where it is and loses its bit: the second time round it leaves', () => {
  const story = new Story()
  story.push('A', 'B', 'C')
  story.visit('A', 'B', 'C')
  assert.equal(story.evict(), 'A')
  assert.equal(story.evict(), 'B')
})

test('a new entry is not visited, and those that were there before are met first', () => {
  const story = new Story()
  story.push('A', 'B', 'C')
  assert.equal(story.evict(), 'A')
  story.visit('D')
  story.push('D', 'E')
  const order = [story.evict(), story.evict(), story.evict(), story.evict()]
  assert.deepEqual(order, ['B', 'C', 'D', 'E'])
})

test('the hand begins again at the oldest when it has passed the newest', () => {
  const story = new Story()
  story.push('A', 'B', 'C')
  story.visit('A', 'B')
  assert.equal(story.evict(), 'C')
  story.push('D')
  assert.equal(story.evict(), 'A')
  assert.equal(story.evict(), 'B')
  assert.equal(story.evict(), 'D')
})

test('the hand goes one further when the entry that it stands at is removed', () => {
  const story = new Story()
  story.push('A', 'B', 'C', 'D')
  story.visit('A')
  assert.equal(story.evict(), 'B')
  story.remove('C')
  story.visit('A')
  assert.equal(story.evict(), 'D')
})

test('removing the oldest, the newest and the only entry leaves a queue that works', () => {
  const story = new Story()
  story.push('A', 'B', 'C')
  story.remove('A')
  story.remove('C')
  assert.equal(story.evict(), 'B')
  story.push('D')
  story.remove('D')
  assert.equal(story.evict(), '')
  story.push('E', 'F')
  assert.equal(story.evict(), 'E')
})
