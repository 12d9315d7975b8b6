import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nearestWord } from './nearest.ts'

test('the nearest word is the one that a slip of the pen makes of it', () => {
  const known = ['cache', 'clients', 'listen', 'node', 'run', 'upstreams']
  const cases: [string, string | null][] = [
    ['cahce', 'cache'],
    ['Listen', 'listen'],
    ['upstream', 'upstreams'],
    ['ndoe', 'node'],
    ['rnu', 'run'],
    ['xyz', null],
    ['zebra', null],
    ['', null],
  ]
  for (const [word, expected] of cases) assert.equal(nearestWord(word, known), expected, word)
})
