import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Facts, compileRuleset } from '../../grant/ruleset.ts'
import type { Snapshot } from '../../policy/snapshot.ts'
import { parseGrantSetName, quoted } from './names.ts'
import { formatTable, renderTable } from './ruleset.ts'

// The example of the README: lookups of every name through the cluster's DNS, connections only to
// google.com and cilium.io; and, so that every kind of rule shows, some addresses.
const SNAPSHOT: Snapshot = {
  layout: 1,
  revision: 41,
  mode: 'enforce',
  denyResponse: 'refused',
  unknown: 'open',
  clients: [
    {
      namespace: 'default',
      name: 'bystander',
      labels: {},
      addresses: ['10.0.0.8', '2001:db8:1::8'],
      interface: 'veth-bystander',
      subject: -1,
    },
    {
      namespace: 'team-a',
      name: 'client',
      labels: { app: 'client' },
      addresses: ['10.0.0.7', '2001:db8:1::7'],
      interface: 'veth-client',
      subject: 0,
    },
    {
      namespace: 'team-a',
      name: 'unreachable',
      labels: { app: 'client' },
      addresses: ['10.0.0.9'],
      interface: null,
      subject: 0,
    },
  ],
  places: [],
  subjects: [
    {
      id: '0123456789ab',
      policies: ['team-a/allow-google'],
      isFaulty: false,
      questions: [],
      names: ['google.com', 'cilium.io', '*.cilium.io'].map((text) => ({
        policy: 'team-a/allow-google',
        pattern: { kind: text.startsWith('*') ? 'pattern' : 'name', text },
        portSet: 1,
      })),
      destinations: [
        {
          policy: 'team-a/allow-google',
          verdict: 'allow',
          prefixes: ['192.0.2.0/24', '2001:db8:2::/64'],
          except: ['192.0.2.128/25'],
          ports: [{ protocol: 'any', first: 8080, last: 8090 }],
        },
        {
          policy: 'team-a/deny-metadata',
          verdict: 'deny',
          prefixes: ['169.254.169.254/32'],
          except: [],
          ports: [],
        },
      ],
    },
  ],
  portSets: [
    {
      number: 1,
      id: '1a2b3c4d',
      ports: [
        { protocol: 'tcp', first: 80, last: 80 },
        { protocol: 'tcp', first: 443, last: 443 },
      ],
    },
  ],
  policies: [],
}

const FACTS: Facts = {
  interfaces: ['veth*'],
  mark: { value: 0x4e470000, mask: 0xffff0000 },
  routingTable: 20551,
  rulePriority: 100,
  listen: ['169.254.20.10'],
  servers: ['10.96.0.10'],
  isNodeServed: true,
  endpoints: [
    { address: '10.0.1.53', port: 53 },
    { address: '10.0.2.53', port: 53 },
  ],
  sockets: { v4: '127.78.71.1', v6: 'fd4e:4701::1' },
  places: [1, 2],
  interfaceOf: {},
  nflogGroups: [4747, 4748],
  denyAction: 'drop',
  grantsMax: 65536,
}

test('the table of the example policy is as reviewed', (t) => {
  const text = formatTable(renderTable(compileRuleset(SNAPSHOT, FACTS)))
  t.assert.fileSnapshot(text, new URL('example.nft.snapshot', import.meta.url).pathname, {
    serializers: [(value) => String(value)],
  })
})

test('audit, reject and closed strangers change verdicts, not structure of sets', () => {
  const facts: Facts = { ...FACTS, denyAction: 'reject', sockets: { v4: null, v6: 'fd4e:4701::2' } }
  const snapshot: Snapshot = { ...SNAPSHOT, unknown: 'closed' }
  const enforced = renderTable(compileRuleset(snapshot, facts))
  const audited = renderTable(compileRuleset({ ...snapshot, mode: 'audit' }, facts))
  assert.deepEqual(
    audited.sets.map(({ name }) => name),
    enforced.sets.map(({ name }) => name),
  )
  const rules = (table: typeof enforced): string[] => table.chains.flatMap((chain) => chain.rules)
  // What still ends in audit mode is no client's: our own packets, and connections without an owner.
  const ending = audited.chains.filter(({ rules: all }) =>
    all.some((rule) => /\b(drop|reject\b.*)$/.test(rule)),
  )
  assert.deepEqual(
    ending.map(({ name }) => name).filter((name) => name !== 'governed_dns'),
    ['swallow', 'own_node', 'orphans', 'write', 'refresh'],
  )
  assert.ok(!rules(audited).some((rule) => rule.endsWith(' governed_dns')), 'nobody goes there')
  assert.ok(rules(enforced).includes('counter reject with icmpx admin-prohibited'))
  assert.ok(!rules(enforced).some((rule) => rule.includes('tproxy ip to')))
})

test('a comment holds no character that ends it, and no more than nft takes', () => {
  assert.equal(quoted('a"b\\c\nd'), '"a?b?c?d"')
  assert.equal(quoted('x'.repeat(200)).length, 122)
})

test('a grant set is told by its name', () => {
  assert.deepEqual(parseGrantSetName('grants_1a2b3c4d_305_v6'), {
    portSet: '1a2b3c4d',
    seconds: 305,
    family: 6,
  })
  for (const name of ['grants_1a2b3c4d_305', 'grants_1a2b3c4_305_v4', 'revoked_v4', '']) {
    assert.equal(parseGrantSetName(name), null)
  }
})
