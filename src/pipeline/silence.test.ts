import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { Silence } from './silence.ts'

test('a group from which nothing came since the question went out is silent until it is heard', () => {
  const silence = new Silence()
  silence.heard(3, 500)
  silence.unheard(3, 1000, 2800)
  assert.equal(silence.isSilent(3), true)
  assert.equal(silence.isSilent(4), false)
  silence.heard(3, 9000)
  assert.equal(silence.isSilent(3), false)
})

test('one name without an answer does not make a group silent that answers others', () => {
  const silence = new Silence()
  silence.heard(3, 1500)
  silence.unheard(3, 1000, 2800)
  assert.equal(silence.isSilent(3), false)
})

test('a silent group is asked once a second, whoever wants to', () => {
  const silence = new Silence()
  silence.unheard(3, 1000, 2800)
  assert.equal(silence.mayProbe(3, 3799), false)
  assert.equal(silence.mayProbe(3, 3800), true)
  assert.equal(silence.mayProbe(3, 3801), false)
  silence.unheard(3, 2800, 4600) // known already: the next question is not put off by it
  assert.equal(silence.mayProbe(3, 4800), true)
})

test('what failed while a group was silent is told from what failed since it is back', () => {
  const silence = new Silence()
  silence.heard(3, 500)
  assert.equal(silence.isBackSince(3, 0), false)
  silence.unheard(3, 1000, 2800)
  silence.heard(3, 9000)
  silence.heard(3, 10_000)
  assert.equal(silence.isBackSince(3, 8999), true)
  assert.equal(silence.isBackSince(3, 9000), false)
})

allocatesNothing('noting and asking allocate nothing', () => {
  const silence = new Silence()
  return (call) => {
    silence.heard(call & 7, call)
    silence.unheard(call & 3, call + 1, call + 2)
    return silence.mayProbe(call & 7, call) && silence.isSilent(1)
  }
})

test('a group whose number becomes another’s was never silent, nor heard', () => {
  const silence = new Silence()
  silence.unheard(3, 1000, 2800)
  silence.forgetGroup(3)
  assert.equal(silence.isSilent(3), false)
  silence.heard(3, 3000)
  assert.equal(silence.isBackSince(3, 2900), false)
})
