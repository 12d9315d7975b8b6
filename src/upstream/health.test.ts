import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseServer, ServerHealth } from './health.ts'

function makeServers(count: number): ServerHealth[] {
  return Array.from({ length: count }, () => new ServerHealth())
}

test('servers that are well are asked in their order', () => {
  const servers = makeServers(3)
  assert.equal(chooseServer(servers, 0b000, 0), 0)
  assert.equal(chooseServer(servers, 0b001, 0), 1)
  assert.equal(chooseServer(servers, 0b011, 0), 2)
  assert.equal(chooseServer(servers, 0b111, 0), -1)
})

test('a server that failed is passed over until its pause ends', () => {
  const servers = makeServers(2)
  servers[0]!.failed(1000)
  assert.equal(chooseServer(servers, 0, 1000), 1)
  assert.equal(chooseServer(servers, 0, 1499), 1)
  assert.equal(chooseServer(servers, 0, 1500), 0)
})

test('when all are ill, the one whose pause ends first is asked', () => {
  const servers = makeServers(3)
  servers[0]!.failed(1000)
  servers[0]!.failed(1000)
  servers[1]!.failed(1000)
  servers[2]!.failed(1100)
  assert.equal(chooseServer(servers, 0b000, 1200), 1)
  assert.equal(chooseServer(servers, 0b010, 1200), 2)
  assert.equal(chooseServer(servers, 0b110, 1200), 0)
})

test('the pause doubles with each failure in a row, to a bound, and one reply ends it', () => {
  const server = new ServerHealth()
  const pauses = Array.from({ length: 7 }, () => {
    server.failed(0)
    return server.pausedUntilMs
  })
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000])
  server.succeeded(20)
  assert.equal(server.pausedUntilMs, 0)
  server.failed(0)
  assert.equal(server.pausedUntilMs, 500)
  assert.equal(server.failures, 8)
})

test('the smoothed round trip starts with the first and follows slowly', () => {
  const server = new ServerHealth()
  server.succeeded(80)
  assert.equal(server.smoothedMs, 80)
  server.succeeded(160)
  assert.equal(server.smoothedMs, 90)
})

test('31 servers are told apart', () => {
  const servers = makeServers(31)
  assert.equal(chooseServer(servers, 0x3fffffff, 0), 30)
  assert.equal(chooseServer(servers, 0x7fffffff, 0), -1)
})
