import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { parseAddress } from '../identity/address.ts'
import { GrantTable } from './table.ts'

interface Grant {
  readonly client: string
  readonly address: string
  readonly portSet: number
}

const GRANT: Grant = { client: '10.0.0.7', address: '192.0.2.10', portSet: 1 }
const GRANT_V6: Grant = { client: '2001:db8:1::7', address: '2001:db8:2::10', portSet: 1 }

function note(table: GrantTable, grant: Grant, endMs: number): void {
  table.note(...partsOf(grant), endMs)
}

function isInForce(table: GrantTable, grant: Grant, untilMs: number): boolean {
  return table.isInForce(...partsOf(grant), untilMs)
}

/** The addresses stand somewhere in larger buffers. */
function partsOf({ client, address, portSet }: Grant) {
  const source = parseAddress(client)!
  const target = parseAddress(address)!
  const clients = Uint8Array.from([1, 2, 3, ...source, 4, 5])
  const addresses = Uint8Array.from([9, ...target, 8])
  return [source.length === 4 ? 4 : 6, clients, 3, addresses, 1, portSet] as const
}

test('a grant is in force until its end and not a millisecond longer', () => {
  const table = new GrantTable(64)
  assert.equal(isInForce(table, GRANT, 1), false)
  note(table, GRANT, 15_000)
  assert.equal(isInForce(table, GRANT, 15_000), true)
  assert.equal(isInForce(table, GRANT, 15_001), false)
})

test('a grant is its client, its address and its port set, and none other', () => {
  const table = new GrantTable(64)
  note(table, GRANT, 15_000)
  note(table, GRANT_V6, 15_000)
  for (const grant of [GRANT, GRANT_V6]) {
    const isV6 = grant === GRANT_V6
    const others: Grant[] = [
      { ...grant, client: isV6 ? '2001:db8:1::8' : '10.0.0.8' },
      { ...grant, address: isV6 ? '2001:db8:2::11' : '192.0.2.11' },
      { ...grant, portSet: 2 },
    ]
    assert.equal(isInForce(table, grant, 15_000), true)
    for (const other of others) assert.equal(isInForce(table, other, 1), false)
  }
})

test('an IPv4 pair is not the IPv6 pair that begins with the same bytes', () => {
  const table = new GrantTable(64)
  note(table, GRANT, 15_000)
  // a00:7:: and c000:20a:: begin with the bytes of 10.0.0.7 and 192.0.2.10.
  assert.equal(isInForce(table, { ...GRANT, client: 'a00:7::', address: 'c000:20a::' }, 1), false)
})

test('a later end extends a grant, and an earlier one does not shorten it', () => {
  const table = new GrantTable(64)
  note(table, GRANT, 15_000)
  note(table, GRANT, 35_000)
  note(table, GRANT, 20_000)
  assert.equal(isInForce(table, GRANT, 35_000), true)
})

test('of three that want two places, the one that ends first is forgotten', () => {
  const table = new GrantTable(2)
  const [first, second, third] = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map(
    (address): Grant => ({ ...GRANT, address }),
  ) as [Grant, Grant, Grant]
  note(table, first, 20_000)
  note(table, second, 10_000)
  note(table, third, 5000)
  assert.equal(isInForce(table, first, 20_000), true)
  assert.equal(isInForce(table, second, 1), false)
  assert.equal(isInForce(table, third, 5000), true)
})

test('after clear nothing is in force', () => {
  const table = new GrantTable(64)
  note(table, GRANT, 15_000)
  table.clear()
  assert.equal(isInForce(table, GRANT, 1), false)
})

test('what was given is known when it is over and when it may be gone, and nothing else is', () => {
  const table = new GrantTable(64)
  note(table, GRANT, 15_000)
  for (let times = 0; times < 3; times++) {
    assert.equal(table.wasGiven(...partsOf(GRANT), 15_000), true)
    assert.equal(table.wasGiven(...partsOf(GRANT), 15_001), false)
    const other = { ...GRANT, client: '10.0.0.8' }
    assert.equal(table.wasGiven(...partsOf(other), -1_000_000), false)
    table.clear() // as often as one likes
  }
  assert.equal(table.wasGiven(...partsOf({ ...GRANT, client: '0.0.0.0' }), 0), false)
  note(table, GRANT, 5000)
  assert.equal(isInForce(table, GRANT, 5000), true)
})

test('an admitted answer is its client, its entry and its serial, until it is cleared', () => {
  const table = new GrantTable(64)
  table.noteAdmitted(7, 3, 11)
  assert.equal(table.isAdmitted(7, 3, 11), true)
  assert.equal(table.isAdmitted(8, 3, 11), false, "another client's")
  assert.equal(table.isAdmitted(7, 3, 12), false, 'another answer in the same place')
  assert.equal(table.isAdmitted(7, 4, 11), false, 'another place')
  assert.equal(table.isAdmitted(0, 1, 0), false, 'memory that nobody has written')
  table.clear()
  assert.equal(table.isAdmitted(7, 3, 11), false)
})

test('of two admitted answers that want one row the later stays', () => {
  const table = new GrantTable(2)
  for (let entry = 1; entry < 100; entry++) table.noteAdmitted(1, entry, entry)
  const known = Array.from({ length: 99 }, (_, n) => n + 1).filter((entry) =>
    table.isAdmitted(1, entry, entry),
  )
  assert.ok(known.includes(99) && known.length <= 2)
})

test('a process may live for longer than 2³¹ milliseconds', () => {
  const table = new GrantTable(64)
  const endMs = 2 ** 31 + 15_000
  note(table, GRANT, endMs)
  assert.equal(isInForce(table, GRANT, endMs), true)
  assert.equal(isInForce(table, GRANT, endMs + 1), false)
})

test('the table never says in force for longer than was noted', () => {
  const grants = fc.record({
    client: fc.constantFrom('10.0.0.7', '10.0.0.8', '10.0.0.9'),
    address: fc.integer({ min: 1, max: 40 }).map((host) => `192.0.2.${host}`),
    portSet: fc.constantFrom(1, 2, 4095),
  })
  const operations = fc.array(fc.tuple(grants, fc.integer({ min: 1, max: 100 })), {
    maxLength: 200,
  })
  fc.assert(
    fc.property(operations, (notes) => {
      const table = new GrantTable(32)
      const ends = new Map<string, number>()
      for (const [grant, endMs] of notes) {
        const key = JSON.stringify(grant)
        note(table, grant, endMs)
        ends.set(key, Math.max(ends.get(key) ?? 0, endMs))
        assert(isInForce(table, grant, endMs), 'what was just noted is known')
      }
      for (const [grant] of notes) {
        const endMs = ends.get(JSON.stringify(grant))!
        assert.equal(isInForce(table, grant, endMs + 1), false)
      }
    }),
  )
})

allocatesNothing('asking and noting allocate nothing', () => {
  const table = new GrantTable(1024)
  const [family, clients, clientAt, addresses, addressAt, portSet] = partsOf(GRANT)
  return (call) => {
    const nowMs = call & 0xffff
    if (call % 1000 === 0) table.clear()
    if (!table.isAdmitted(3, 5, call)) table.noteAdmitted(3, 5, call)
    table.wasGiven(family, clients, clientAt, addresses, addressAt, portSet, nowMs)
    if (!table.isInForce(family, clients, clientAt, addresses, addressAt, portSet, nowMs)) {
      table.note(family, clients, clientAt, addresses, addressAt, portSet, nowMs + 15)
    }
  }
})
