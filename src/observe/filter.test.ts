import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { accepts, type FlowFilter, filterFault, isMatch, NO_FILTER } from './filter.ts'
import type { FlowRow } from './flow-row.ts'

const ROW: FlowRow = {
  time: '',
  node: 'worker-1',
  flow: {
    type: 'question',
    timeMs: 0,
    verdict: 'DROPPED',
    reason: 'POLICY_DENIED_NAME',
    protocol: 'udp',
    source: { address: '10.0.0.7', port: 1 },
    destination: { address: '10.96.0.10', port: 53 },
    interfaceIndex: 0,
    name: 'api.example.com.',
    qtype: 'A',
    qclass: 1,
    opcode: 'QUERY',
    durationUs: 0,
    isCached: false,
    isStale: false,
    isShared: false,
    answer: null,
  },
  source: { namespace: 'team-a', name: 'web-1', identity: 300, names: [] },
  destination: { namespace: '', name: '', identity: 2, names: ['dns.example.net'] },
}

function isAccepted(filter: Partial<FlowFilter>): boolean {
  return accepts({ ...NO_FILTER, ...filter }, ROW)
}

test('* stands for any run of characters, dots too, and a pattern is the whole name', () => {
  const cases: [string, string, boolean][] = [
    ['api.example.com', 'api.example.com', true],
    ['example.com', 'api.example.com', false],
    ['*.example.com', 'api.example.com', true],
    ['*.example.com', 'a.b.example.com', true],
    ['*.example.com', 'example.com', false],
    ['*', '', true],
    ['a*b*c', 'aXbYbZc', true],
    ['a*b*c', 'aXbYbZ', false],
    ['', '', true],
    ['', 'a', false],
  ]
  for (const [pattern, name, expected] of cases) {
    assert.equal(isMatch(pattern, name), expected, `${pattern} on ${name}`)
  }
})

test('matching agrees with a regular expression on every short pattern and name', () => {
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 })
  fc.assert(
    fc.property(pattern, name, (wanted, text) => {
      const expected = new RegExp(`^${wanted.replaceAll('*', '.*')}$`).test(text)
      assert.equal(isMatch(wanted, text), expected)
    }),
  )
})

test('inside a filter any value matches, between filters all must', () => {
  assert.equal(isAccepted({}), true)
  assert.equal(isAccepted({ verdicts: ['ERROR', 'DROPPED'] }), true)
  assert.equal(isAccepted({ verdicts: ['ERROR'] }), false)
  assert.equal(isAccepted({ names: ['API.Example.com.'] }), true)
  assert.equal(isAccepted({ names: ['*.example.net'] }), true)
  assert.equal(isAccepted({ names: ['*.example.org'] }), false)
  assert.equal(isAccepted({ verdicts: ['DROPPED'], names: ['*.example.org'] }), false)
})

test('a pod is namespace and the beginning of a name, on either side', () => {
  for (const pod of ['team-a/web-1', 'team-a/web', 'team-a/', '/web']) {
    assert.equal(isAccepted({ pods: [pod] }), true, pod)
  }
  for (const pod of ['web', 'team-b/', 'team-a/db', '/x']) {
    assert.equal(isAccepted({ pods: [pod] }), false, pod)
  }
})

test('a filter that can match nothing by mistake is refused with what to write', () => {
  assert.equal(filterFault(NO_FILTER), null)
  assert.match(
    filterFault({ ...NO_FILTER, verdicts: ['denied'] })!,
    /'denied' is no verdict; write/,
  )
  assert.match(filterFault({ ...NO_FILTER, names: ['a b'] })!, /'a b' is no name pattern/)
  assert.match(filterFault({ ...NO_FILTER, pods: ['a/b/c'] })!, /'a\/b\/c' is no pod/)
})
