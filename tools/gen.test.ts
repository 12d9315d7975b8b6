import { test } from 'node:test'
import assert from 'node:assert/strict'
import { outOfStep } from './gen.ts'

test('generated files are what `npm run gen` would write', () => {
  assert.deepEqual(outOfStep(), [])
})
