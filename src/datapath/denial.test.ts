import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Denial, formatDenial, parseDenial } from './denial.ts'

test('a denial is read back from the text that the kernel carries', () => {
  const denials: Denial[] = [
    { isAudit: false, reason: 'policy', subject: '0123456789ab', destination: -1 },
    { isAudit: true, reason: 'rule', subject: '0123456789ab', destination: 12 },
    { isAudit: false, reason: 'source', subject: '', destination: -1 },
    { isAudit: false, reason: 'unplaced', subject: '', destination: -1 },
    { isAudit: true, reason: 'unknown', subject: '', destination: -1 },
  ]
  for (const denial of denials) assert.deepEqual(parseDenial(formatDenial(denial)), denial)
})

test("somebody else's log prefix is no denial", () => {
  for (const text of [
    '',
    'namegate',
    'namegate denied',
    'DROP: ',
    'namegate denied other',
    'namegate denied policy xyz',
  ]) {
    assert.equal(parseDenial(text), null)
  }
})
