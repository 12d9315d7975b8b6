import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readPolicies } from './policies.ts'

function policy(name: string, egress: string): string {
  return `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ${name}}
spec: {endpointSelector: {}, egress: [${egress}]}
`
}

const GOOD = '{toCIDR: [192.0.2.0/24]}'
const BAD = '{toCIDR: [nonsense]}'
const OTHER = '{toCIDR: [198.51.100.0/24]}'

test('a policy that has become unusable keeps its last good rules, and shows its faults', () => {
  const first = readPolicies([{ file: 'a.yaml', text: policy('a', GOOD) }], [])
  const second = readPolicies([{ file: 'a.yaml', text: policy('a', BAD) }], first)
  assert.deepEqual(second[0]?.rules, first[0]?.rules)
  assert.deepEqual([second[0]?.isLastGood, second[0]?.faults.length], [true, 1])
  const third = readPolicies([{ file: 'a.yaml', text: policy('a', BAD) }], second)
  assert.deepEqual(third, second)
  const repaired = readPolicies([{ file: 'a.yaml', text: policy('a', OTHER) }], third)
  assert.deepEqual([repaired[0]?.isLastGood, repaired[0]?.faults], [false, []])
  assert.notDeepEqual(repaired[0]?.rules, first[0]?.rules)
})

test('at the first load there is no good version to keep', () => {
  const [document] = readPolicies([{ file: 'a.yaml', text: policy('a', BAD) }], [])
  assert.deepEqual([document?.isLastGood, document?.faults.length], [false, 1])
})

test('a file that cannot be read any more keeps the policies it had; one that is gone does not', () => {
  const files = [
    { file: 'a.yaml', text: policy('a', GOOD) + policy('b', GOOD) },
    { file: 'c.yaml', text: policy('c', GOOD) },
  ]
  const first = readPolicies(files, [])
  const second = readPolicies([{ file: 'a.yaml', text: '%%%\n{' }], first)
  const kept = second.filter(({ isLastGood }) => isLastGood)
  assert.deepEqual(
    kept.map(({ name }) => name),
    ['default/a', 'default/b'],
  )
  assert.ok(second.every(({ faults }) => faults.length > 0))
})

test('a policy that moved to another file is not kept twice', () => {
  const first = readPolicies([{ file: 'a.yaml', text: policy('a', GOOD) }], [])
  const second = readPolicies(
    [
      { file: 'a.yaml', text: '[' },
      { file: 'b.yaml', text: policy('a', OTHER) },
    ],
    first,
  )
  assert.deepEqual(
    second
      .filter(({ name }) => name === 'default/a')
      .map(({ file, isLastGood }) => [file, isLastGood]),
    [['b.yaml', false]],
  )
})

test('of two policies of one name neither is used', () => {
  const documents = readPolicies(
    [
      { file: 'b.yaml', text: policy('a', GOOD) },
      { file: 'a.yaml', text: policy('a', GOOD) },
    ],
    [],
  )
  assert.deepEqual(
    documents.map(({ file, faults }) => [file, faults[0]?.message]),
    [
      ['a.yaml', 'default/a is also in b.yaml:2; keep one of them'],
      ['b.yaml', 'default/a is also in a.yaml:2; keep one of them'],
    ],
  )
})
