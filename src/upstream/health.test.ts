import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseServer, noteChoice, ServerHealth } from './health.ts'

function makeServers(count: number): ServerHealth[] {
  return Array.from({ length: count }, () => new ServerHealth())
}

/** How often each is chosen, when each answers after its round trip, one question at a time. */
function share(
  servers: ServerHealth[],
  roundTrips: readonly number[],
  questions: number,
): number[] {
  const counts = servers.map(() => 0)
  for (let question = 0; question < questions; question++) {
    const chosen = chooseServer(servers, 0)
    noteChoice(servers, chosen)
    servers[chosen]!.succeeded(roundTrips[chosen]!, question)
    counts[chosen]!++
  }
  return counts
}

test('servers that nothing is known of are asked in their order, each once in a round', () => {
  const servers = makeServers(3)
  assert.equal(chooseServer(servers, 0b000), 0)
  assert.equal(chooseServer(servers, 0b001), 1)
  assert.equal(chooseServer(servers, 0b011), 2)
  assert.equal(chooseServer(servers, 0b111), -1)
})

test('the nearest server is asked, and the far one often enough to see it come nearer', () => {
  const servers = makeServers(2)
  const [near, far] = share(servers, [2, 60], 1000)
  assert(near! > 950 && far! >= 25, `${near} and ${far}`)
  // Now it is the other way round.
  const [farNow, nearNow] = share(servers, [60, 2], 1000)
  assert(nearNow! > 700, `${farNow} and ${nearNow}`)
})

test('under load servers that are near share it, and a slow one gets little', () => {
  const servers = makeServers(3)
  for (const [index, server] of servers.entries()) server.succeeded([2, 3, 200][index]!, 0)
  const counts = [0, 0, 0]
  for (let question = 0; question < 100; question++) {
    const chosen = chooseServer(servers, 0)
    servers[chosen]!.inFlight++
    counts[chosen]!++
  }
  assert(counts[0]! > counts[1]! && counts[1]! > 35 && counts[2]! <= 2, `${counts}`)
})

test('a server that declines quickly is not taken for the fastest', () => {
  const servers = makeServers(2)
  servers[0]!.declined(1, 0)
  servers[1]!.succeeded(30, 0)
  assert.equal(chooseServer(servers, 0), 1)
})

test('a server that failed is passed over until it has answered', () => {
  const servers = makeServers(2)
  servers[1]!.succeeded(5, 0)
  servers[0]!.failed()
  assert(servers[0]!.isPaused)
  assert.equal(chooseServer(servers, 0), 1)
  assert.equal(chooseServer(servers, 0b10), 0)
  servers[0]!.succeeded(1, 0)
  assert.equal(chooseServer(servers, 0), 0)
})

test('when all are ill, the one that was asked longest ago goes first', () => {
  const servers = makeServers(3)
  for (const [index, server] of servers.entries()) {
    server.failed()
    server.askedMs = [300, 100, 200][index]!
  }
  assert.equal(chooseServer(servers, 0b000), 1)
  assert.equal(chooseServer(servers, 0b010), 2)
  assert.equal(chooseServer(servers, 0b110), 0)
})

test('a server that hands our questions back is not asked at all', () => {
  const servers = makeServers(2)
  servers[0]!.isLoop = true
  assert.equal(chooseServer(servers, 0), 1)
  assert.equal(chooseServer(servers, 0b10), -1)
})

test('a name that is slow does not make its server ill, silence does', () => {
  const server = new ServerHealth()
  server.succeeded(5, 1500)
  server.timedOut(1000)
  assert(!server.isPaused)
  server.timedOut(1600)
  assert(server.isPaused)
  assert.equal(server.failures, 2)
})

test('the smoothed round trip follows slowly, and begins anew after an illness', () => {
  const server = new ServerHealth()
  server.succeeded(80, 0)
  assert.equal(server.smoothedMs, 80)
  server.succeeded(160, 0)
  assert.equal(server.smoothedMs, 90)
  server.failed()
  server.succeeded(10, 0)
  assert.equal(server.smoothedMs, 10)
})

test('31 servers are told apart', () => {
  const servers = makeServers(31)
  assert.equal(chooseServer(servers, 0x3fffffff), 30)
  assert.equal(chooseServer(servers, 0x7fffffff), -1)
})
