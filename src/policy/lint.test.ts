import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintPolicy } from './lint.ts'
import { readCiliumPolicies } from './sources/cilium.ts'

/** Warnings about a policy with these egress rules, without their places. */
function warningsOf(egress: string): string[] {
  const text = `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\nspec:\n  endpointSelector: {}\n  egress:\n${egress}`
  const documents = readCiliumPolicies(text, 'a.yaml')
  assert.deepEqual(
    documents.flatMap(({ faults }) => faults),
    [],
  )
  return documents
    .flatMap(lintPolicy)
    .map(({ line, column, message }) => `${line}:${column} ${message}`)
}

const ASK_ALL =
  '    - toCIDR: [192.0.2.53/32]\n      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]\n'
const opening = (pattern: string) =>
  warningsOf(`${ASK_ALL}    - toFQDNs: [{matchPattern: "${pattern}"}]\n`)

test('an ordinary policy has no warning', () => {
  assert.deepEqual(opening('*.example.com'), [])
  assert.deepEqual(opening('**.example.com'), [])
  assert.deepEqual(opening('*-api.example.com'), [])
  assert.deepEqual(warningsOf('    - {}\n'), [])
})

test('names that nobody may ask for open nothing', () => {
  assert.deepEqual(warningsOf('    - toFQDNs: [{matchName: a.example.com}]\n'), [
    '7:7 no rule here lets the clients ask a DNS server (toEndpoints or toCIDR with rules.dns); unless another policy does, these names open nothing',
  ])
  assert.deepEqual(
    warningsOf(
      `${ASK_ALL.replace('"*"', '"*.example.org"')}    - toFQDNs: [{matchName: a.example.com}, {matchName: a.example.org}]\n`,
    ),
    ['9:29 a.example.com may not be asked: no rules.dns of this policy matches it'],
  )
  assert.deepEqual(
    warningsOf('    - toCIDR: [192.0.2.53/32]\n    - toFQDNs: [{matchName: a.example.com}]\n'),
    [],
  )
})

const PATTERNS: readonly (readonly [string, string])[] = [
  ['*.com', "'*.com' covers every domain directly under com, whoever owns it"],
  ['**.com', "'**.com' covers every domain directly under com, whoever owns it"],
  [
    '*example.com',
    "'*example.com' matches evilexample.com too, and not www.example.com; write '*.example.com' and 'example.com'",
  ],
  [
    'a.**.example.com',
    "'**' means several labels only as the whole first label; here it is the same as '*'",
  ],
  [
    'www.example.com.',
    "the final dot of 'www.example.com.' changes nothing; Cilium counts it as another selector",
  ],
  ['*', "'*' opens every address that the client can make a DNS server answer"],
  ['192.0.2.1', 'an address is no name; use toCIDR'],
  [
    '*.default.svc.cluster.local',
    "'*.default.svc.cluster.local' names Services or pods: their connections are judged after translation; use toEndpoints",
  ],
  ['a'.repeat(64), 'no name can match: a label has at most 63 characters and a name 253'],
]

for (const [pattern, warning] of PATTERNS) {
  test(`${pattern.slice(0, 40)}: is warned of`, () => {
    const messages = opening(pattern).map((text) => text.replace(/^\S+ /, ''))
    assert.ok(messages.includes(warning), messages.join('\n'))
  })
}

test('port 53 of names, other ports of questions, and empty lists are warned of', () => {
  assert.deepEqual(
    warningsOf(
      `${ASK_ALL}    - toFQDNs: [{matchName: a.example.com}]\n      toPorts: [{ports: [{port: "53"}]}]\n`,
    ),
    [
      '10:17 port 53 under toFQDNs opens nothing: questions are judged by rules.dns of the rules about servers',
    ],
  )
  assert.deepEqual(warningsOf(ASK_ALL.replace('"53"', '"5353"')), [
    '8:56 only questions to port 53 are taken; another port counts where a Service leads from 53 to it',
  ])
  assert.deepEqual(warningsOf('    - toCIDR: []\n    - toEndpoints: []\n'), [
    '7:7 the list of destinations is empty, so this rule is about nothing',
    '8:7 the list of destinations is empty, so this rule is about nothing',
  ])
})
