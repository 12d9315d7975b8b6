import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as module from './reason.ts'
import { REASONS, reasonOfCode, reasonOfId } from './reason.ts'

test('numbers and ids of reasons are what earlier releases wrote', () => {
  // Add at the end; a line that changes here breaks histories, alerts and mixed releases.
  assert.deepEqual(
    REASONS.map((reason) => `${reason.code} ${reason.id}`),
    [
      '1 ANSWERED_FROM_CACHE',
      '2 ANSWERED_BY_UPSTREAM',
      '3 ANSWERED_STALE',
      '4 POLICY_DENIED_NAME',
      '5 POLICY_DENIED_SERVER',
      '6 POLICY_FAULTY',
      '7 UNKNOWN_CLIENT',
      '8 MALFORMED',
      '9 NOT_IMPLEMENTED',
      '10 UPSTREAM_TIMEOUT',
      '11 UPSTREAM_FAILURE',
      '12 NO_UPSTREAM',
      '13 SLOTS_FULL',
      '14 CLIENT_LIMIT',
      '15 GRANT_REFUSED',
      '16 WORKER_AWAY',
      '17 UPSTREAM_LOOP',
      '18 UPSTREAM_FULL',
      '19 ANSWERED_LOCALLY',
      '20 RATE_LIMIT',
      '21 GRANT_LIMIT',
      '22 RELAYED',
      '64 CONNECTION_ALLOWED',
      '65 NO_GRANT',
      '66 ADDRESS_NOT_GRANTED',
      '67 GRANT_EXPIRED',
      '68 PORT_NOT_OPEN',
      '69 POLICY_DENIED_ADDRESS',
      '70 POLICY_FAULTY_CONNECTION',
      '71 FOREIGN_SOURCE',
      '72 CLIENT_UNPLACED',
      '73 UNKNOWN_CLIENT_CONNECTION',
    ],
  )
})

test('every REASON_ constant has exactly one declared reason, whose id is its name', () => {
  const constants = Object.entries(module).filter(([key]) => key.startsWith('REASON_'))
  assert.deepEqual(
    new Map(constants.map(([key, code]) => [key, code])),
    new Map(REASONS.map((reason) => [`REASON_${reason.id}`, reason.code])),
  )
  assert.equal(constants.length, REASONS.length)
})

test('a reason fits the byte of the flow record, and connections begin at 64', () => {
  for (const reason of REASONS) {
    assert.ok(reason.code > 0 && reason.code < 256, reason.id)
    assert.equal(reason.code >= 64, reason.about === 'connection', reason.id)
    assert.match(reason.sentence, /^[A-Z].*\.$/, reason.id)
  }
})

test('a number of a later release is no reason, and no error', () => {
  assert.equal(reasonOfCode(255), null)
  assert.equal(reasonOfId('toString'), null)
  assert.equal(reasonOfId('NO_GRANT')?.code, 65)
})
