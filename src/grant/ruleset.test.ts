import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ClientEntry, DestinationRule, Snapshot } from '../policy/snapshot.ts'
import { type Facts, PLACES_MAX, compileMarks, compileRuleset } from './ruleset.ts'

const FACTS: Facts = {
  interfaces: ['veth*'],
  mark: { value: 0x4e470000, mask: 0xffff0000 },
  routingTable: 20551,
  rulePriority: 100,
  listen: ['169.254.20.10'],
  servers: ['10.96.0.10', '2001:db8::0:53'],
  isNodeServed: true,
  endpoints: [],
  sockets: { v4: '127.78.71.1', v6: null },
  places: [2, 1],
  interfaceOf: { '10.0.0.7': 'veth7', '10.0.0.8': 'veth8' },
  nflogGroups: [2, 1],
  denyAction: 'drop',
  grantsMax: 100,
}

function client(
  name: string,
  addresses: string[],
  subject: number,
  device: string | null = null,
): ClientEntry {
  return { namespace: 'team-a', name, labels: {}, addresses, interface: device, subject }
}

function snapshotOf(clients: ClientEntry[], destinations: DestinationRule[] = []): Snapshot {
  const subject = (id: string) => ({
    id,
    policies: ['team-a/web'],
    isFaulty: false,
    questions: [
      {
        policy: 'team-a/web',
        servers: ['0.0.0.0/0'],
        ports: [{ protocol: 'any', first: 53, last: 53 } as const],
        names: null,
      },
    ],
    names: [
      {
        policy: 'team-a/web',
        pattern: { kind: 'name', text: 'b.example.com' } as const,
        portSet: 2,
      },
      {
        policy: 'team-a/web',
        pattern: { kind: 'name', text: 'a.example.com' } as const,
        portSet: 2,
      },
    ],
    destinations,
  })
  return {
    layout: 1,
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
    clients,
    places: [],
    subjects: [subject('aaaaaaaaaaaa'), subject('bbbbbbbbbbbb')],
    portSets: [
      { number: 1, id: '00000001', ports: [] },
      { number: 2, id: '00000002', ports: [{ protocol: 'tcp', first: 443, last: 443 }] },
    ],
    policies: [],
  }
}

test('a client is where its entry says, or else where the route says', () => {
  const ruleset = compileRuleset(
    snapshotOf([client('b', ['10.0.0.8'], -1), client('a', ['10.0.0.7'], 0, 'cali7')]),
    FACTS,
  )
  assert.deepEqual(ruleset.clients, [
    { name: 'team-a/a', address: '10.0.0.7', interface: 'cali7', subject: 'aaaaaaaaaaaa' },
    { name: 'team-a/b', address: '10.0.0.8', interface: 'veth8', subject: null },
  ])
  assert.deepEqual(
    ruleset.subjects.map(({ id }) => id),
    ['aaaaaaaaaaaa'],
    'only those in use',
  )
})

test('a governed client that the kernel cannot tell is kept closed, with the reason', () => {
  const ruleset = compileRuleset(
    snapshotOf([
      client('lost', ['10.0.0.9'], 0),
      client('twice', ['10.0.0.7'], 0),
      client('again', ['10.0.0.7'], -1),
      client('odd', ['10.0.0.8'], 1, 'veth"; drop'),
      client('stranger', ['10.0.0.10'], -1),
    ]),
    FACTS,
  )
  assert.deepEqual(ruleset.clients, [])
  assert.deepEqual(
    ruleset.unplaced.map(({ name, reason }) => [name, reason]),
    [
      ['team-a/twice', 'two clients have this address'],
      ['team-a/odd', `nft has no way to write the interface 'veth"; drop'`],
      ['team-a/lost', 'no route of this node says by which interface it is reached'],
    ],
  )
})

test('exceptions are taken out of prefixes, deny rules come first, empty rules go', () => {
  const rule = (
    verdict: 'allow' | 'deny',
    prefixes: string[],
    except: string[] = [],
  ): DestinationRule => ({
    policy: 'team-a/web',
    verdict,
    prefixes,
    except,
    ports: [],
  })
  const rules = [
    rule('allow', ['10.0.0.0/24', '2001:db8::/32'], ['10.0.0.0/25']),
    rule('allow', []),
    rule('deny', ['10.0.0.200/32']),
    rule('allow', ['10.1.0.0/24'], ['10.0.0.0/8']),
  ]
  const ruleset = compileRuleset(snapshotOf([client('a', ['10.0.0.7'], 0)], rules), FACTS)
  assert.deepEqual(
    ruleset.subjects[0]!.destinations.map(({ index, verdict, v4, v6 }) => ({
      index,
      verdict,
      v4,
      v6,
    })),
    [
      { index: 2, verdict: 'deny', v4: ['10.0.0.200/32'], v6: [] },
      { index: 0, verdict: 'allow', v4: ['10.0.0.128/25'], v6: ['2001:db8::/32'] },
    ],
  )
})

test('servers are those we listen for and those whose place we take, in one spelling', () => {
  const { servers, places, nflogGroups } = compileRuleset(snapshotOf([]), FACTS)
  assert.deepEqual(servers, ['10.96.0.10', '169.254.20.10', '2001:db8::53'])
  assert.deepEqual(
    [places, nflogGroups],
    [
      [1, 2],
      [1, 2],
    ],
  )
})

test('the same policy gives the same ruleset in whatever order its clients were read', () => {
  const clients = [client('a', ['10.0.0.7'], 0), client('b', ['10.0.0.8'], 1)]
  assert.deepEqual(
    compileRuleset(snapshotOf(clients), FACTS),
    compileRuleset(snapshotOf(clients.toReversed()), FACTS),
  )
})

test('a question rule opens nothing in the kernel', () => {
  const text = JSON.stringify(compileRuleset(snapshotOf([client('a', ['10.0.0.7'], 0)]), FACTS))
  assert.doesNotMatch(text, /"first":53/)
  assert.match(text, /"names":\["a.example.com","b.example.com"\]/)
})

test('marks of all purposes differ, lie within the mask, and are never 0', () => {
  const masks = fc.uniqueArray(fc.nat(31), { minLength: 4, maxLength: 32 })
  fc.assert(
    fc.property(masks, fc.nat({ max: 2 ** 32 - 1 }), (bits, random) => {
      const mask = bits.reduce((sum, bit) => sum + 2 ** bit, 0)
      const value = (random & mask) >>> 0
      fc.pre(value !== 0)
      const marks = compileMarks({ value, mask })
      const values = [
        marks.intercepted,
        marks.own,
        marks.write,
        marks.seen,
        ...marks.owners.slice(1),
      ]
      assert.equal(values.length, 4 + PLACES_MAX)
      assert.equal(new Set(values).size, values.length)
      for (const each of values) assert.ok(each > 0 && (each & ~mask) >>> 0 === 0)
      assert.equal(marks.intercepted, value)
    }),
  )
})

test('the default mark gives the values that the documentation shows', () => {
  assert.deepEqual(
    compileMarks({ value: 0x4e470000, mask: 0xffff0000 }).owners.slice(0, 3),
    [0, 0x4e4b0000, 0x4e4c0000],
  )
})
