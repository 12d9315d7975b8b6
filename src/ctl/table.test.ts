import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ageText, countOf, sizeText, tableLines } from './table.ts'

test('columns are as wide as their widest cell, and numbers stand under each other', () => {
  const columns = [
    { title: 'NAME', cell: (row: [string, number]) => row[0] },
    { title: 'N', align: 'right', cell: (row: [string, number]) => row[1] },
  ] as const
  assert.deepEqual(
    tableLines(columns, [
      ['a', 1000],
      ['long name', 2],
    ]),
    ['NAME          N', 'a          1000', 'long name     2'],
  )
  assert.deepEqual(tableLines(columns, []), ['NAME  N'])
})

test('a cell cannot move the cursor or break its line', () => {
  assert.deepEqual(tableLines([{ title: 'X', cell: (row: string) => row }], ['a\u001b[2J\nb']), [
    'X',
    'a^[[2J\\nb',
  ])
})

test('ages show their two largest units, sizes one decimal', () => {
  assert.deepEqual([0, 59, 60, 65, 3600, 7500, 90061].map(ageText), [
    '0s',
    '59s',
    '1m',
    '1m5s',
    '1h',
    '2h5m',
    '1d1h',
  ])
  assert.deepEqual([0, 1023, 1536, 33554432, 2 ** 31].map(sizeText), [
    '0B',
    '1023B',
    '1.5KiB',
    '32.0MiB',
    '2.0GiB',
  ])
  assert.deepEqual([countOf(1, 'flow'), countOf(2500, 'flow')], ['1 flow', '2,500 flows'])
})
