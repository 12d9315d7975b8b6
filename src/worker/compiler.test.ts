import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { COMPILER_FLAGS } from './compiler.ts'

test('the Node that we run on knows each flag that we set', () => {
  const known = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })
  for (const flag of COMPILER_FLAGS) {
    assert.match(known, new RegExp(`^  ${flag.split('=')[0]} `, 'm'), flag)
  }
})
