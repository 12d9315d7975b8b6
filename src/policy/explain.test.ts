import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileSnapshot } from './compile.ts'
import { explain, parseTarget } from './explain.ts'
import type { Snapshot } from './snapshot.ts'
import { readClients } from './sources/clients.ts'
import { readPolicies } from './sources/policies.ts'
import { NO_STAND_INS } from './stand-ins.ts'

const STAND_INS = { listen: ['169.254.20.10'], listenPort: 53, servers: ['10.96.0.10'] }

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow, namespace: team-a}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
    - toCIDR: [10.96.0.10/32]
      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "**.example.com"}]}}]
    - toFQDNs: [{matchPattern: "*.example.com"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}]}]
    - toCIDR: [192.0.2.0/24]
      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
  egressDeny:
    - toCIDR: [192.0.2.128/25]
`

function snapshotOf(policy: string, mode: Snapshot['mode'] = 'enforce'): Snapshot {
  const { inventory } = readClients(
    '- {name: web, namespace: team-a, labels: {app: web}, addresses: [10.0.0.7]}\n- {name: other, addresses: [10.0.0.8]}\n',
    'clients.yaml',
    null,
  )
  return compileSnapshot({
    inventory,
    policies: readPolicies([{ file: 'p.yaml', text: policy }], []),
    nodeAddresses: [],
    formerPortSets: [],
    revision: 1,
    mode,
    denyResponse: 'refused',
    unknown: 'closed',
  })
}

/** The answer as people read it. */
function told(client: string, target: string, snapshot = snapshotOf(POLICY)): string[] {
  const parsed = parseTarget(target)
  assert.ok(parsed !== null)
  const { isAllowed, causes } = explain(snapshot, client, parsed, STAND_INS)
  return [isAllowed ? 'allowed' : 'denied', ...causes.map(({ code, text }) => `${code}: ${text}`)]
}

const GOVERNED = 'client-governed: team-a/web is governed by team-a/allow'

test('a name that may be asked and opens something is allowed, with the rules that say so', () => {
  assert.deepEqual(told('team-a/web', 'www.example.com:443'), [
    'allowed',
    GOVERNED,
    'question-allowed: team-a/allow, matchPattern **.example.com: 10.96.0.10 port 53 may be asked for www.example.com',
    'question-allowed: team-a/allow, matchPattern **.example.com: 169.254.20.10 port 53 may be asked for www.example.com',
    'name-opens: team-a/allow, matchPattern *.example.com: opens the addresses of www.example.com on 443/tcp',
  ])
  assert.equal(told('10.0.0.7', 'www.example.com')[0], 'allowed')
})

test('a name is denied for its port, for opening nothing, or because it may not be asked', () => {
  assert.equal(
    told('team-a/web', 'www.example.com:80').at(-1),
    'port-not-open: team-a/allow, matchPattern *.example.com: opens 443/tcp, not port 80',
  )
  assert.deepEqual(told('team-a/web', 'a.b.example.com').slice(-1), [
    'name-opens-nothing: no toFQDNs rule matches a.b.example.com',
  ])
  assert.deepEqual(told('team-a/web', 'example.org'), [
    'denied',
    GOVERNED,
    'question-denied-name: the rules about 10.96.0.10 port 53 do not allow example.org',
    'question-denied-name: the rules about 169.254.20.10 port 53 do not allow example.org',
    'name-opens-nothing: no toFQDNs rule matches example.org',
  ])
  const unasked = snapshotOf(POLICY.replace('10.96.0.10', '198.51.100.53'))
  assert.deepEqual(told('team-a/web', 'www.example.com', unasked).slice(0, 3), [
    'denied',
    GOVERNED,
    'question-denied-server: no rule lets it ask 10.96.0.10 port 53',
  ])
  const anywhere = explain(unasked, 'team-a/web', parseTarget('www.example.com')!, NO_STAND_INS)
  assert.equal(anywhere.isAllowed, true)
})

test('an address is allowed by a rule, denied by one, or opened by none', () => {
  assert.deepEqual(told('team-a/web', '192.0.2.1:5432'), [
    'allowed',
    GOVERNED,
    'address-allowed: team-a/allow: 192.0.2.1 is open on 5432/tcp',
  ])
  assert.deepEqual(told('team-a/web', '192.0.2.129:5432'), [
    'denied',
    GOVERNED,
    'address-denied: team-a/allow denies 192.0.2.129',
  ])
  assert.deepEqual(told('team-a/web', '192.0.2.1:80'), [
    'denied',
    GOVERNED,
    'address-not-open: no rule about addresses opens 192.0.2.1; a name that one of the toFQDNs rules allows may open it',
  ])
})

test('who is ungoverned or unknown is told so', () => {
  assert.deepEqual(told('default/other', 'example.com'), [
    'allowed',
    'client-ungoverned: no policy selects default/other',
  ])
  assert.deepEqual(told('10.0.0.99', 'example.com'), [
    'denied',
    'client-unknown-closed: 10.0.0.99 is no known client, and clients.unknown is closed',
  ])
})

test('a fault in a policy and audit mode are causes', () => {
  const faulty = told(
    'team-a/web',
    '192.0.2.1:5432',
    snapshotOf(POLICY.replace('192.0.2.128/25', '192.0.2.128'), 'audit'),
  )
  assert.deepEqual(faulty, [
    'denied',
    GOVERNED,
    "policy-faulty: team-a/allow has a fault, so no connection opens: p.yaml:14:16: '192.0.2.128' is no prefix; write 192.0.2.128/32 for the one address",
    'address-not-open: no rule about addresses opens 192.0.2.1',
    'audit: the mode is audit: this is recorded, and let through',
  ])
})

test('a target is a name or an address, with or without a port', () => {
  assert.deepEqual(parseTarget('Example.COM.:443'), {
    address: null,
    name: 'example.com',
    port: 443,
  })
  assert.deepEqual(parseTarget('[2001:DB8::1]:443'), {
    address: '2001:db8::1',
    name: null,
    port: 443,
  })
  assert.deepEqual(parseTarget('2001:db8::1'), { address: '2001:db8::1', name: null, port: null })
  assert.deepEqual(parseTarget('192.0.2.1:80'), { address: '192.0.2.1', name: null, port: 80 })
  assert.deepEqual(parseTarget('.'), { address: null, name: '.', port: null })
  for (const text of [
    '',
    'a b',
    'example.com:0',
    'example.com:65536',
    'example.com:',
    '*.example.com',
    '[example.com]:80',
    '::ffff:192.0.2.1',
  ]) {
    assert.equal(parseTarget(text), null, text)
  }
})
