import { test } from 'node:test'
import assert from 'node:assert/strict'
import { FlowHistory } from '../observe/history.ts'
import { appendAnswer } from '../observe/history-fixture.ts'
import type { KnownPlace, Snapshot } from '../policy/snapshot.ts'
import { NodeDirectory } from './directory.ts'

/** Clients of team-a, each with its addresses, and places. */
function snapshotOf(
  clients: Readonly<Record<string, readonly string[]>>,
  places: readonly KnownPlace[] = [],
): Snapshot {
  return {
    layout: 1,
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
    clients: Object.entries(clients).map(([name, addresses]) => ({
      namespace: 'team-a',
      name,
      labels: {},
      addresses,
      interface: null,
      subject: -1,
    })),
    places,
    subjects: [],
    portSets: [],
    policies: [],
  }
}

const CLIENTS = { job: ['10.0.0.8'], web: ['10.0.0.7', '2001:db8::7'] }
const WWW = '2001:db8:2::10'

/** Clients web (10.0.0.7, 2001:db8::7) and job (10.0.0.8); web's question for www is on record. */
function makeDirectory(): NodeDirectory {
  const history = new FlowHistory()
  const directory = new NodeDirectory(history)
  directory.use(snapshotOf(CLIENTS))
  appendAnswer(history, '10.0.0.7', 'www.example.com.', [WWW])
  return directory
}

test("an address is known by each of its client's addresses", () => {
  const directory = makeDirectory()
  const known = directory.endpoint('10.0.0.7')
  assert.deepEqual([known?.namespace, known?.name], ['team-a', 'web'])
  assert.deepEqual(directory.endpoint('2001:db8::7'), known)
  assert.equal(directory.endpoint('192.0.2.1'), null)
})

test('Services and other pods have names too, and a client stays what it is', () => {
  const directory = new NodeDirectory(new FlowHistory())
  const dns = { namespace: 'kube-system', name: 'kube-dns', addresses: ['10.96.0.10'] }
  const claim = { namespace: 'team-b', name: 'claim', addresses: ['10.0.0.8'] }
  directory.use(snapshotOf(CLIENTS, [dns, claim]))
  const known = directory.endpoint('10.96.0.10')!
  assert.deepEqual([known.namespace, known.name], ['kube-system', 'kube-dns'])
  assert.ok(known.identity >= 256, 'no reserved identity')
  assert.equal(directory.endpoint('10.0.0.8')?.name, 'job')
})

// A pod asks its resolver by IPv4 for the AAAA record and connects by IPv6: the name must be found
// though the connection comes from another address than the question.
test("a client's name for an address is found whichever of its addresses asked", async () => {
  const names = await makeDirectory().names()
  assert.deepEqual(names('10.0.0.7', WWW), ['www.example.com'])
  assert.deepEqual(names('2001:db8::7', WWW), ['www.example.com'])
})

test('what another client was answered says nothing', async () => {
  const names = await makeDirectory().names()
  assert.deepEqual(names('10.0.0.8', WWW), [])
  assert.deepEqual(names('2001:db8::8', WWW), [])
  // An IPv6 address that begins with the bytes of 10.0.0.7.
  assert.deepEqual(names('a00:7::', WWW), [])
})

// Two pods under one policy swap their addresses while both run: neither may be taken for the one
// that was answered.
test('what was answered before an address changed hands is not that of the new client', async () => {
  const history = new FlowHistory()
  const directory = new NodeDirectory(history)
  directory.use(snapshotOf(CLIENTS), 1000)
  appendAnswer(history, '10.0.0.7', 'old.example.com.', ['192.0.2.1'], { timeMs: 2000 })
  directory.use(snapshotOf({ job: ['10.0.0.7'], web: ['10.0.0.8', '2001:db8::7'] }), 3000)
  // Asked by web, answered when the address was job's already.
  const late = { timeMs: 3100, durationUs: 200_000 }
  appendAnswer(history, '10.0.0.7', 'late.example.com.', ['192.0.2.1'], late)
  appendAnswer(history, '10.0.0.7', 'new.example.com.', ['192.0.2.1'], { timeMs: 3500 })
  assert.deepEqual((await directory.names())('10.0.0.7', '192.0.2.1'), ['new.example.com'])
  assert.deepEqual((await directory.names())('10.0.0.8', '192.0.2.1'), [])
  // The next policy change moves nothing.
  directory.use(snapshotOf({ job: ['10.0.0.7'], web: ['10.0.0.8', '2001:db8::7'] }), 4000)
  assert.deepEqual((await directory.names())('10.0.0.7', '192.0.2.1'), ['new.example.com'])
})

test('an address that nobody had for a while is not taken for that of its last client', async () => {
  const history = new FlowHistory()
  const directory = new NodeDirectory(history)
  directory.use(snapshotOf(CLIENTS), 1000)
  appendAnswer(history, '10.0.0.8', 'old.example.com.', ['192.0.2.1'], { timeMs: 2000 })
  directory.use(snapshotOf({ web: CLIENTS.web }), 3000)
  directory.use(snapshotOf({ ...CLIENTS, job: [], next: ['10.0.0.8'] }), 4000)
  assert.deepEqual((await directory.names())('10.0.0.8', '192.0.2.1'), [])
})

// The agent was down while a pod went and another took its address: it begins with the peer's
// flows, and learns from the peer's policy that the address was somebody else's.
test('a process that begins believes its peer about clients that are the same as before', async () => {
  const history = new FlowHistory()
  const directory = new NodeDirectory(history)
  directory.use(snapshotOf(CLIENTS), 5000)
  for (const client of ['10.0.0.7', '10.0.0.8']) {
    appendAnswer(history, client, 'old.example.com.', ['192.0.2.1'], { timeMs: 2000 })
    assert.deepEqual((await directory.names())(client, '192.0.2.1'), ['old.example.com'])
  }
  directory.useFormer(snapshotOf({ ...CLIENTS, job: [], gone: ['10.0.0.8'] }))
  assert.deepEqual((await directory.names())('10.0.0.7', '192.0.2.1'), ['old.example.com'])
  assert.deepEqual((await directory.names())('10.0.0.8', '192.0.2.1'), [])
  appendAnswer(history, '10.0.0.8', 'new.example.com.', ['192.0.2.1'], { timeMs: 6000 })
  assert.deepEqual((await directory.names())('10.0.0.8', '192.0.2.1'), ['new.example.com'])
})
