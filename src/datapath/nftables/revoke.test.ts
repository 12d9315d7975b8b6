import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pairsBySet, planDelete, planRevoked } from './revoke.ts'

const SET = 'grants_00000080_15_v4'
const LASTING = '10.0.0.7 . 192.0.2.1'
const ENDING = '10.0.0.7 . 192.0.2.2'
const ENDED = '10.0.0.7 . 192.0.2.3'
const PAIRS = new Set([ENDING, ENDED, LASTING])
const HELD = new Map([
  [LASTING, 9000],
  [ENDING, 500],
])

function grant(client: string, address: string, timeoutSeconds: number) {
  return { client, address, portSet: '00000080', timeoutSeconds, remainingMs: 1000 }
}

test('of the grants to take back, those that have ended are left out, and what may end comes last', () => {
  assert.deepEqual(planDelete(SET, PAIRS, HELD, false), [
    `delete element inet namegate ${SET} { ${LASTING} }`,
    `add element inet namegate ${SET} { ${ENDING} }`,
    `delete element inet namegate ${SET} { ${ENDING} }`,
  ])
})

test('the last attempt takes back only what cannot fail it', () => {
  assert.deepEqual(planDelete(SET, PAIRS, HELD, true), [
    `delete element inet namegate ${SET} { ${LASTING} }`,
  ])
})

test('a grant is looked for in the one set that its port set, class and family name', () => {
  const sets = pairsBySet([
    grant('10.0.0.7', '192.0.2.1', 15),
    grant('10.0.0.7', '192.0.2.1', 15),
    grant('10.0.0.7', '192.0.2.1', 305),
    grant('2001:db8:1::7', '2001:db8:2::1', 15),
  ])
  assert.deepEqual(
    [...sets].map(([set, pairs]) => [set, [...pairs]]),
    [
      ['grants_00000080_15_v4', ['10.0.0.7 . 192.0.2.1']],
      ['grants_00000080_305_v4', ['10.0.0.7 . 192.0.2.1']],
      ['grants_00000080_15_v6', ['2001:db8:1::7 . 2001:db8:2::1']],
    ],
  )
})

test('a pair loses its shortcut once, whatever number of grants it had', () => {
  const lines = planRevoked([
    grant('10.0.0.7', '192.0.2.1', 15),
    grant('10.0.0.7', '192.0.2.1', 305),
    grant('2001:db8:1::7', '2001:db8:2::1', 15),
  ])
  assert.deepEqual(lines, [
    'add element inet namegate revoked_v4 { 10.0.0.7 . 192.0.2.1 }',
    'add element inet namegate revoked_v6 { 2001:db8:1::7 . 2001:db8:2::1 }',
  ])
})
