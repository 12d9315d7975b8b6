import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { policyTable } from '../../test/support/policy-table.ts'
import { parseAddress } from '../identity/address.ts'
import type { PolicyTable } from '../policy/table.ts'
import { clientsFile } from '../../test/support/scenario/policy-text.ts'
import { Arrival } from './arrival.ts'
import { NO_SHARE, ShareTable } from './share.ts'

const SEED = 0x5eed
const ROOM = 64
const NOW_MS = 1000

function makeShares(queriesPerSecond = 0, grantsMax = 1): ShareTable {
  return new ShareTable({ seed: SEED, queriesPerSecond, grantsMax })
}

/** A table that knows these clients, each with its addresses. */
function policyOf(...clients: string[][]): PolicyTable {
  const text = clientsFile(
    clients.map((addresses) => ({ addresses, labels: {} })),
    () => 'veth0',
  )
  return policyTable(text)
}

function arrive(policy: PolicyTable, source: string, link = 0): Arrival {
  const arrival = new Arrival(SEED)
  const bytes = parseAddress(source)!
  arrival.addresses = Uint8Array.from([9, ...bytes, 9])
  arrival.sourceAt = 1
  arrival.family = bytes.length === 4 ? 4 : 6
  arrival.interfaceIndex = link
  arrival.client = policy.findClient(arrival.family, arrival.addresses, 1)
  return arrival
}

/** Under which rows a query from there counts. */
function sharesOf(shares: ShareTable, policy: PolicyTable, source: string, link = 0) {
  const arrival = arrive(policy, source, link)
  shares.find(arrival, policy, NOW_MS)
  return { share: arrival.share, link: arrival.link }
}

/** Takes as many as there are to be had; returns how many that was. */
function takeAll(shares: ShareTable, to: { share: number; link: number }, room: number): number {
  let count = 0
  while (room - count > 0 && shares.take(to.share, to.link, room - count)) count++
  return count
}

test('a client alone gets half, and each that comes after it half of what is left', () => {
  const shares = makeShares()
  const policy = policyOf(['10.0.0.1'], ['10.0.0.2'], ['10.0.0.3'])
  let room = ROOM
  for (const [source, expected] of [
    ['10.0.0.1', 32],
    ['10.0.0.2', 16],
    ['10.0.0.3', 8],
  ] as const) {
    const got = takeAll(shares, sharesOf(shares, policy, source), room)
    assert.equal(got, expected)
    room -= got
  }
})

test('whatever others do, who holds nothing gets one of what is free, up to the last', () => {
  const sources = Array.from({ length: 12 }, (_, index) => `10.0.0.${index + 1}`)
  const policy = policyOf(...sources.map((source) => [source]))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 11 }), fc.boolean()), { maxLength: 300 }),
      (acts) => {
        const shares = makeShares()
        const rows = sources.map((source) => sharesOf(shares, policy, source))
        const held = sources.map(() => 0)
        let room = ROOM
        for (const [who, isGivingBack] of acts) {
          const { share, link } = rows[who]!
          if (isGivingBack && held[who]! > 0) {
            shares.giveBack(share, link)
            held[who]!--
            room++
            continue
          }
          const isTaken = room > 0 && shares.take(share, link, room)
          assert.equal(isTaken, held[who]! < room)
          if (!isTaken) continue
          held[who]!++
          room--
        }
      },
    ),
  )
})

test('a client has one share for all its addresses, also in the next policy table', () => {
  const shares = makeShares()
  const before = policyOf(['10.0.0.7', '2001:db8::7'], ['10.0.0.9'])
  const { share, link } = sharesOf(shares, before, '10.0.0.7')
  assert(shares.take(share, link, ROOM))
  const after = policyOf(['10.0.0.1'], ['10.0.0.7', '2001:db8::7'], ['10.0.0.9'])
  assert.deepEqual(sharesOf(shares, before, '2001:db8::7'), { share, link })
  assert.deepEqual(sharesOf(shares, after, '2001:db8::7'), { share, link })
  assert.notEqual(sharesOf(shares, after, '10.0.0.9').share, share)
  assert.equal(link, NO_SHARE)
})

test('an unknown source has a share for each interface that it comes by', () => {
  const shares = makeShares()
  const policy = policyOf()
  const first = sharesOf(shares, policy, '192.0.2.1', 3)
  assert(shares.take(first.share, first.link, ROOM))
  assert.deepEqual(sharesOf(shares, policy, '192.0.2.1', 3), first)
  assert.notEqual(sharesOf(shares, policy, '192.0.2.1', 4).share, first.share)
  assert.equal(sharesOf(shares, policy, '192.0.2.2', 3).link, first.link)
})

test('who forges its address, however often, leaves an eighth to the others', () => {
  const shares = makeShares()
  const policy = policyOf(['10.0.0.1'])
  let room = 2048
  for (let index = 0; index < 20_000; index++) {
    const source = `198.18.${index >> 8}.${index & 255}`
    const { share, link } = sharesOf(shares, policy, source, 3)
    if (shares.take(share, link, room)) room--
  }
  assert.equal(room, 256)
  assert.equal(takeAll(shares, sharesOf(shares, policy, '10.0.0.1'), room), 128)
  assert.equal(takeAll(shares, sharesOf(shares, policy, '192.0.2.1', 4), 128), 64)
})

test('250 clients have 250 shares', () => {
  const shares = makeShares()
  const sources = Array.from({ length: 250 }, (_, index) => `10.0.0.${index + 1}`)
  const policy = policyOf(...sources.map((source) => [source]))
  const rows = new Set<number>()
  for (const source of sources) {
    const { share, link } = sharesOf(shares, policy, source)
    assert(shares.take(share, link, ROOM))
    rows.add(share)
  }
  assert.equal(rows.size, 250)
})

test('giving back what was not taken is a mistake of ours', () => {
  assert.throws(() => makeShares().giveBack(0, NO_SHARE), /does not hold/)
})

/** Asks `count` questions; returns how many of them were not too many. */
function ask(shares: ShareTable, share: number, count: number, nowMs: number): number {
  let taken = 0
  for (let index = 0; index < count; index++) if (shares.pace(share, nowMs)) taken++
  return taken
}

test('a client may ask a second’s worth at once, and then as fast as its rate', () => {
  for (const rate of [1, 7, 20, 10_000]) {
    const shares = makeShares(rate)
    assert.equal(ask(shares, 3, 2 * rate, NOW_MS), rate)
    assert.equal(ask(shares, 3, 2 * rate, NOW_MS + 1000), rate)
    assert.equal(ask(shares, 3, 1, NOW_MS + 1000), 0)
    assert.equal(ask(shares, 4, 1, NOW_MS + 1000), 1)
    // What is refused is not counted: who goes on too fast is not punished beyond its rate.
    assert.equal(ask(shares, 3, 2 * rate, NOW_MS + 3000), rate)
  }
})

test('in the time that grants last a client gets so many new ones, of each class apart', () => {
  const shares = makeShares(0, 4)
  const grant = (count: number, timeout: number, nowMs: number): number => {
    let taken = 0
    for (let index = 0; index < count; index++) {
      if (shares.paceGrant(3, timeout, nowMs)) taken++
    }
    return taken
  }
  assert.equal(grant(9, 0, NOW_MS), 4)
  assert.equal(grant(9, 1, NOW_MS), 4)
  assert.equal(grant(9, 0, NOW_MS + 7500), 2)
  assert.equal(grant(9, 0, NOW_MS + 15_000), 2)
  assert.equal(grant(9, 0, NOW_MS + 60_000), 4)
  assert(shares.paceGrant(4, 0, NOW_MS))
})

test('without a bound nothing is too fast', () => {
  const shares = makeShares(0)
  assert.equal(ask(shares, 3, 100_000, NOW_MS), 100_000)
})

test('the row of a client that asks is nobody else’s until it has been silent', () => {
  const shares = makeShares(20)
  const policy = policyOf()
  const { share } = sharesOf(shares, policy, '192.0.2.1')
  assert.equal(ask(shares, share, 20, NOW_MS), 20)
  for (let host = 0; host < 60_000; host++) {
    const source = `198.18.${host >> 8}.${host & 255}`
    const other = sharesOf(shares, policy, source)
    if (other.share !== share) continue
    assert.equal(ask(shares, other.share, 1, NOW_MS), 0, 'it shares a row that is in use')
  }
  assert.equal(sharesOf(shares, policy, '192.0.2.1').share, share)
})

allocatesNothing('finding, taking and giving back allocate nothing', () => {
  const shares = makeShares(100)
  const policy = policyOf(['10.0.0.1', '2001:db8::1'])
  const arrivals = [arrive(policy, '2001:db8::1'), arrive(policy, '2001:db8::2', 4)]
  return (call) => {
    const arrival = arrivals[call & 1]!
    shares.find(arrival, policy, NOW_MS + call)
    shares.pace(arrival.share, NOW_MS + call)
    if (shares.take(arrival.share, arrival.link, ROOM)) {
      shares.giveBack(arrival.share, arrival.link)
    }
  }
})
