import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW } from './constants.ts'
import { capability, describe, probe } from './probe.ts'

test('an effective capability is found by its bit', () => {
  const status = 'Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000003000\nCapBnd:\t0\n'
  assert.equal(capability(status, CAP_NET_ADMIN), 'yes')
  assert.equal(capability(status, CAP_NET_RAW), 'yes')
  assert.equal(capability(status, CAP_NET_BIND_SERVICE), 'no')
})

test("without the kernel's word the answer is neither yes nor no", () => {
  assert.equal(capability(undefined, CAP_NET_ADMIN), 'unknown')
  assert.equal(capability('Name:\tnode\n', CAP_NET_ADMIN), 'unknown')
})

test('the findings are one line, each by its name', () => {
  const line = describe({
    netAdmin: 'yes',
    netRaw: 'no',
    bindPort53: 'yes',
    mark: 'unknown',
    transparent4: 'yes',
    transparent6: 'no',
  })
  const words =
    'netAdmin=yes netRaw=no bindPort53=yes mark=unknown transparent4=yes transparent6=no'
  assert.match(line, new RegExp(`^linux: \\[kernel=\\S+ arch=(x64|arm64) ${words}\\]$`))
})

test('every question has an answer on this machine', () => {
  for (const [name, finding] of Object.entries(probe())) assert.notEqual(finding, 'unknown', name)
})
