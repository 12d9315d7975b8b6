/**
 * A parser with a fault: it believes lengths. A fuzzer that does not find that within a smoke run
 * finds nothing, so the smoke run demands that this target fails.
 */
import assert from 'node:assert/strict'
import type { FuzzTarget } from './target.ts'

export const canary: FuzzTarget = {
  corpus: 'wire',
  run(input) {
    let at = 12
    for (let label = input[at] ?? 0; label !== 0 && label < 0xc0; label = input[at] ?? 0) {
      at += 1 + label
    }
    assert.ok(at <= Math.max(input.length, 12), 'a label is read behind the end')
  },
}
