import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../../test/support/clock.ts'
import type { Facts } from '../../grant/ruleset.ts'
import {
  ALICE,
  BOB,
  BYSTANDER,
  SERVERS,
  type World,
  datapathConformance,
  push,
  rulesetOf,
} from '../conformance.ts'
import { MemoryDatapath } from './memory.ts'

const FACTS: Facts = {
  interfaces: ['veth*'],
  mark: { value: 0x4e470000, mask: 0xffff0000 },
  routingTable: 20551,
  rulePriority: 100,
  listen: ['169.254.20.10'],
  servers: ['10.96.0.10'],
  isNodeServed: true,
  endpoints: [],
  sockets: { v4: '127.78.71.1', v6: null },
  places: [1, 2],
  interfaceOf: Object.fromEntries(
    [ALICE, BOB, BYSTANDER].flatMap(({ v4, v6 }, n) => [
      [v4, `veth${n}`],
      [v6, `veth${n}`],
    ]),
  ),
  nflogGroups: [],
  denyAction: 'drop',
  grantsMax: 1000,
}

interface MemoryWorld extends World {
  readonly driver: MemoryDatapath
  readonly clock: VirtualClock
}

function makeWorld(): MemoryWorld {
  const clock = new VirtualClock()
  const driver = new MemoryDatapath(clock)
  return {
    driver,
    clock,
    facts: FACTS,
    writer: (place) => driver.writer(place),
    isOpen: (client, address, port) => Promise.resolve(driver.isOpen(client, address, 'tcp', port)),
    pass: async (ms) => void clock.advance(ms),
    flushByOther: async () => driver.vanish(),
    [Symbol.asyncDispose]: async () => {},
  }
}

datapathConformance('memory', async () => makeWorld())

test('a grant closes when its class is over', async () => {
  const { driver, clock, facts } = makeWorld()
  await driver.apply(rulesetOf({ facts }))
  const writer = driver.writer(1)
  writer.refreshAlive()
  push(writer, ALICE.v4, SERVERS.v4[0], 1, 0)
  assert.equal(writer.flush(), 0)
  clock.advance('14s')
  assert.equal(driver.isOpen(ALICE.v4, SERVERS.v4[0], 'tcp', 80), true)
  clock.advance('1s')
  assert.equal(driver.isOpen(ALICE.v4, SERVERS.v4[0], 'tcp', 80), false)
})

test('a full or failing kernel refuses grants, and the writer hears of each', async () => {
  const { driver, facts } = makeWorld()
  await driver.apply(rulesetOf({ facts }))
  const writer = driver.writer(1)
  writer.refreshAlive()
  push(writer, ALICE.v4, SERVERS.v4[0], 1, 0)
  assert.equal(writer.flush(), 0)
  driver.fault = 'full'
  const present = push(writer, ALICE.v4, SERVERS.v4[0], 1, 0)
  const fresh = push(writer, ALICE.v4, SERVERS.v4[1], 1, 0)
  assert.equal(writer.flush(), 1)
  assert.deepEqual([writer.isInForce(present), writer.isInForce(fresh)], [true, false])
  driver.fault = 'failing'
  push(writer, ALICE.v4, SERVERS.v4[0], 1, 0)
  assert.equal(writer.flush(), 1)
})

test('DNS of a governed client comes to us or nowhere, of others only while anybody lives', async () => {
  const { driver, clock, facts } = makeWorld()
  await driver.apply(rulesetOf({ facts }))
  const writer = driver.writer(1)
  assert.equal(driver.wayOfDns(ALICE.v4, '192.0.2.53'), 'us')
  assert.equal(driver.wayOfDns(ALICE.v6, '2001:db8::53'), 'nowhere', 'there is no IPv6 socket')
  assert.equal(driver.wayOfDns(BYSTANDER.v4, '10.96.0.10'), 'server')
  writer.refreshAlive()
  assert.equal(driver.wayOfDns(BYSTANDER.v4, '10.96.0.10'), 'us')
  assert.equal(driver.wayOfDns(BYSTANDER.v4, '192.0.2.53'), 'server', 'we do not stand in for it')
  clock.advance(100)
  writer.refreshAlive(true)
  assert.equal(driver.wayOfDns(BYSTANDER.v4, '10.96.0.10'), 'us')
  clock.advance(51)
  assert.equal(driver.wayOfDns(BYSTANDER.v4, '10.96.0.10'), 'server', 'who leaves wants no more')
  driver.vanish()
  assert.equal(driver.wayOfDns(ALICE.v4, '192.0.2.53'), 'nowhere')
})
