import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatName, parseNameAsWritten } from '../wire/text.ts'
import { isSameButCase, NEVER, setCase } from './letter-case.ts'

function cased(name: string, random: () => number): string {
  const bytes = Uint8Array.from(parseNameAsWritten(name))
  setCase(bytes, 0, random)
  return formatName(bytes)
}

test('each letter is upper case where its bit is set, and other bytes stay as they are', () => {
  assert.equal(
    cased('api-1.example.com.', () => 0b1010101010101010),
    'aPi-1.ExAmPlE.cOm.',
  )
  assert.equal(cased('API-1.Example.com.', NEVER), 'api-1.example.com.')
  assert.equal(
    cased('_[`{.1.2.', () => 0xffff),
    '_[`{.1.2.',
  )
  assert.equal(
    cased('.', () => 0xffff),
    '.',
  )
})

test('a long name takes more than one drawing', () => {
  let drawn = 0
  cased('abcdefghij.'.repeat(20), () => ++drawn)
  assert.equal(drawn, 13)
})

test('questions are the same but for the case of letters, and of nothing else', () => {
  const question = Uint8Array.from([3, 0x61, 0x40, 0x5b, 0, 0, 1, 0, 1])
  const isSame = (at: number, byte: number): boolean => {
    const other = question.slice()
    other[at] = byte
    return isSameButCase(other, 0, question, 0, question.length)
  }
  assert(isSame(1, 0x41))
  assert(!isSame(1, 0x62))
  assert(!isSame(2, 0x60), '@ and ` are no letters')
  assert(!isSame(3, 0x7b), '[ and { neither')
  assert(!isSame(6, 0x21), 'nor is the type')
  assert(!isSame(0, 0x23))
})
