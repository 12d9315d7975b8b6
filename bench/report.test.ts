import { test } from 'node:test'
import assert from 'node:assert/strict'
import { fixed, markdownTable, median, targetLine, textTable } from './report.ts'

test('the median is the middle, or the mean of the two in the middle', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 3, 2]), 2.5)
})

test('what was not measured is a dash, not a number', () => {
  assert.equal(median([]), Number.NaN)
  assert.equal(fixed(median([]), 2), '–')
})

test('numbers of a table end where their column ends, words begin where it begins', () => {
  const table = {
    title: '100 clients',
    columns: ['', 'CPU', ''],
    rows: [
      ['floor', '5.40', ''],
      ['namegate-both', '12.30', 'the generator is the limit'],
    ],
  }
  assert.deepEqual(textTable(table), [
    '100 clients',
    '                   CPU',
    '  floor           5.40',
    '  namegate-both  12.30  the generator is the limit',
  ])
  assert.deepEqual(markdownTable(table).slice(0, 5), [
    '### 100 clients',
    '',
    '|  | CPU |  |',
    '| --- | --- | --- |',
    '| floor | 5.40 |  |',
  ])
})

test('a target is met at its limit, and missed above it', () => {
  const target = { what: 'CPU × floor', limit: 1.25 }
  assert.equal(targetLine({ ...target, measured: 1.25 }), 'met: CPU × floor: 1.25, at most 1.25')
  assert.match(targetLine({ ...target, measured: 1.26 }), /^MISSED/)
})
