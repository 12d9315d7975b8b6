import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClientEntry, Snapshot, Subject } from '../policy/snapshot.ts'
import { NO_STAND_INS } from '../policy/stand-ins.ts'
import { PolicyTable } from '../policy/table.ts'
import { encodeTable } from '../policy/table-encode.ts'
import { judgeRevocation } from './revocation.ts'

const WEB_ID = 'aaaaaaaa'
const DB_ID = 'bbbbbbbb'
const ADDRESS = '192.0.2.1'

/** Rules 'www.example.com 1': this name opens port set 1. */
function subject(id: string, ...rules: readonly string[]): Subject {
  const names = rules.map((rule) => {
    const [text = '', portSet] = rule.split(' ')
    const pattern = { kind: 'name', text } as const
    return { policy: 'team-a/web', pattern, portSet: Number(portSet) }
  })
  const policies = ['team-a/web']
  return { id, policies, isFaulty: false, questions: [], names, destinations: [] }
}

function client(name: string, address: string, index: number): ClientEntry {
  const addresses = [address]
  return { namespace: 'team-a', name, labels: {}, addresses, interface: null, subject: index }
}

function snapshotOf(clients: readonly ClientEntry[], subjects: readonly Subject[]): Snapshot {
  return {
    layout: 1,
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
    clients,
    places: [],
    subjects,
    portSets: [
      { number: 1, id: WEB_ID, ports: [{ protocol: 'tcp', first: 443, last: 443 }] },
      { number: 2, id: DB_ID, ports: [{ protocol: 'tcp', first: 5432, last: 5432 }] },
    ],
    policies: [],
  }
}

/** Whether a grant of 10.0.0.7 is taken back; the client that has it now was answered `names`. */
function isTaken(
  former: Snapshot,
  present: Snapshot,
  names: readonly string[],
  portSet: string = WEB_ID,
): boolean {
  const table = new PolicyTable()
  table.open(encodeTable(present, { standIns: NO_STAND_INS, interfaceIndexes: new Map() }))
  const namesOf = (from: string, to: string) => {
    assert.deepEqual([from, to], ['10.0.0.7', ADDRESS])
    return names
  }
  const judge = judgeRevocation(former, present, table, namesOf)
  return judge({ client: '10.0.0.7', address: ADDRESS, portSet })
}

const OLD = subject('000000000001', 'www.example.com 1', 'api.example.com 1', 'api.example.com 2')
const WEB = client('web', '10.0.0.7', 0)
const FORMER = snapshotOf([WEB], [OLD])

test('a grant stays while the policy of its client is the same, also when no name is known', () => {
  assert.equal(isTaken(FORMER, FORMER, []), false)
})

test('after a change a grant stays if one of its names still opens these ports', () => {
  const present = snapshotOf([WEB], [subject('000000000002', 'api.example.com 1')])
  assert.equal(isTaken(FORMER, present, ['www.example.com', 'api.example.com']), false)
  assert.equal(isTaken(FORMER, present, ['www.example.com']), true)
  assert.equal(isTaken(FORMER, present, []), true)
  assert.equal(isTaken(FORMER, present, ['api.example.com'], DB_ID), true)
  assert.equal(isTaken(FORMER, present, ['api.example.com'], 'cccccccc'), true)
})

test('grants of the ungoverned, and of addresses that nobody has, are left to run out', () => {
  assert.equal(isTaken(FORMER, snapshotOf([{ ...WEB, subject: -1 }], [OLD]), []), false)
  assert.equal(isTaken(FORMER, snapshotOf([], [OLD]), []), false)
})

// Pods web and job are under the same policy and swap addresses in one compilation: their subject
// is the same before and after, and each found the other's addresses open.
test('a client that gets the address of another inherits no grant, not under the same policy', () => {
  const swapped = [client('job', '10.0.0.7', 0), client('web', '10.0.0.8', 0)]
  const former = snapshotOf([client('job', '10.0.0.8', 0), WEB], [OLD])
  assert.equal(isTaken(former, snapshotOf(swapped, [OLD]), []), true)
  const elsewhere = { ...WEB, namespace: 'team-b' }
  assert.equal(isTaken(former, snapshotOf([elsewhere], [OLD]), []), true)
})

// The new pod's first questions are answered as soon as both processes know it, and its grants are
// among those that are judged: an answered address is open.
test('what a new client was answered itself stays open', () => {
  const present = snapshotOf([client('next', '10.0.0.7', 0)], [OLD])
  assert.equal(isTaken(snapshotOf([], [OLD]), present, ['www.example.com']), false)
  assert.equal(isTaken(FORMER, present, ['www.example.com']), false)
  assert.equal(isTaken(FORMER, present, ['www.example.org']), true)
})
