import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseAddress } from '../identity/address.ts'
import { parseName } from '../wire/text.ts'
import { type Endpoint, Routes, type Server } from './routes.ts'
import { NO_GROUP } from './transport.ts'

const CLUSTER_DNS = '10.96.0.10'

function endpoint(text: string, port = 53): Endpoint {
  const address = parseAddress(text)!
  return { family: address.length === 4 ? 4 : 6, address, port }
}

function servers(...texts: string[]): Server[] {
  return texts.map((text) => ({ ...endpoint(text), transport: 'udp' }))
}

/** Groups 0, 1, … in the order given, each with its zones. */
function makeRoutes(...groups: { servers: Server[]; zones: string[] }[]): Routes {
  const routes = new Routes()
  configure(routes, ...groups)
  return routes
}

/** The clock of these tests. */
let nowMs = 1000

function configure(routes: Routes, ...groups: { servers: Server[]; zones: string[] }[]): void {
  routes.configure(
    groups.map((group) => group.servers),
    groups.flatMap(({ zones }, group) => zones.map((zone) => ({ name: parseName(zone), group }))),
    [endpoint(CLUSTER_DNS), endpoint('2001:db8:96::a')],
    nowMs,
  )
}

/** The group of a question sent to ourselves, or to `server`. */
function route(routes: Routes, name: string, server?: string, port = 53, client = 1): number {
  const wire = parseName(name)
  if (server === undefined) return routes.route(wire, 0, wire.length, 0, wire, 0, 0, client, nowMs)
  const { family, address } = endpoint(server)
  return routes.route(wire, 0, wire.length, family, address, 0, port, client, nowMs)
}

test('the longest zone that holds the name wins, in whatever order they are written', () => {
  const routes = makeRoutes(
    { servers: servers('192.0.2.1'), zones: ['.'] },
    { servers: servers('192.0.2.2'), zones: ['corp.example.net', 'example.org'] },
    { servers: servers('192.0.2.3'), zones: ['example.net'] },
  )
  assert.equal(route(routes, 'api.corp.example.net'), 1)
  assert.equal(route(routes, 'corp.example.net'), 1)
  assert.equal(route(routes, 'api.example.net'), 2)
  assert.equal(route(routes, 'www.example.org'), 1)
  assert.equal(route(routes, 'example.com'), 0)
  assert.equal(route(routes, '.'), 0)
})

test('a zone holds whole labels only, also where bytes of a label look like another', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['example.net'] })
  assert.equal(route(routes, 'notexample.net'), NO_GROUP)
  assert.equal(route(routes, 'net'), NO_GROUP)
  // The label ends in the bytes of the zone's wire form, length bytes included.
  assert.equal(route(routes, 'x\\007example\\003net\\000'), NO_GROUP)
  assert.equal(route(routes, 'x\\007example.net'), NO_GROUP)
})

test('a name in no zone has no group', () => {
  assert.equal(route(makeRoutes(), 'example.com'), NO_GROUP)
})

test('where we stand in for a server the zone decides; any other server is asked itself', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  assert.equal(route(routes, 'example.com', CLUSTER_DNS), 0)
  assert.equal(route(routes, 'example.com', '2001:db8:96::a'), 0)
  const chosen = route(routes, 'example.com', '192.0.2.99')
  assert.notEqual(chosen, 0)
  assert.deepEqual(routes.servers(chosen), servers('192.0.2.99'))
  assert.equal(route(routes, 'other.example.com', '192.0.2.99'), chosen)
})

test('another port, family or address of a chosen server is another group', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  const groups = [
    route(routes, 'example.com', '192.0.2.99'),
    route(routes, 'example.com', '192.0.2.99', 5353),
    route(routes, 'example.com', '192.0.2.98'),
    route(routes, 'example.com', '2001:db8::99'),
    // Our configured upstream, asked by a client: its answers are that client's choice too.
    route(routes, 'example.com', '192.0.2.1'),
    route(routes, 'example.com', CLUSTER_DNS, 5353),
  ]
  assert.equal(new Set([0, ...groups]).size, 7)
})

/** Asks as many servers, each a millisecond after the other; how many places that gave. */
function scan(routes: Routes, client: number, address: string, count: number): number {
  const groups = new Set<number>()
  for (let port = 1; port <= count; port++) {
    nowMs++
    const group = route(routes, 'example.com', address, port, client)
    if (group !== NO_GROUP) groups.add(group)
  }
  return groups.size
}

/** What was given back, in the order in which it was. */
function listForgotten(routes: Routes): number[] {
  const forgotten: number[] = []
  routes.onForget = (group) => forgotten.push(group)
  return forgotten
}

test('a client that walks through servers uses its own places again, and no more than are left to others', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  assert.equal(scan(routes, 1, '192.0.2.91', 1000), 128)
  assert.equal(scan(routes, 2, '192.0.2.92', 1000), 64)
  assert.equal(scan(routes, 3, '192.0.2.93', 1), 1)
  assert.equal(routes.gaveWayCount, 1000 - 128 + 1000 - 64)
  assert.equal(routes.refusedCount, 0)
  // What is known already may be asked by all.
  const known = route(routes, 'example.com', '192.0.2.92', 1000, 2)
  assert.equal(route(routes, 'example.com', '192.0.2.92', 1000, 1), known)
})

test('the place that was used least recently is given up, whoever used it', () => {
  const routes = makeRoutes()
  const forgotten = listForgotten(routes)
  scan(routes, 1, '192.0.2.91', 128)
  const [first, second] = [1, 2].map((port) => route(routes, 'x.example', '192.0.2.91', port, 2))
  nowMs++
  const third = route(routes, 'example.com', '192.0.2.91', 3, 1)
  const oldest = third + 1 // numbers count up at first
  route(routes, 'example.com', '192.0.2.94', 53, 1)
  assert.deepEqual(forgotten, [oldest])
  assert(![first, second, third].includes(oldest))
})

test('whoever has no server yet gets one, although all places are taken', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  const forgotten = listForgotten(routes)
  const groups: number[] = []
  for (let client = 1; client <= 256; client++) {
    nowMs++
    groups.push(route(routes, 'example.com', '192.0.2.99', client, client))
  }
  assert.equal(new Set(groups).size, 256)
  route(routes, 'example.com', '192.0.2.99', 1, 1)
  assert.equal(route(routes, 'example.com', '192.0.2.99', 257, 257), groups[1])
  assert.deepEqual(forgotten, [groups[1]])
})

test('a place is never taken from a server that is being asked, or was in this very millisecond', () => {
  const routes = makeRoutes()
  const forgotten = listForgotten(routes)
  scan(routes, 1, '192.0.2.91', 128)
  for (const group of routes.numbers()) routes.health(group).inFlight++
  nowMs++
  assert.equal(route(routes, 'example.com', '192.0.2.94', 53, 1), NO_GROUP)
  assert.equal(routes.refusedCount, 1)
  for (const group of routes.numbers()) {
    routes.health(group).inFlight--
    routes.health(group).usedMs = nowMs
  }
  assert.equal(route(routes, 'example.com', '192.0.2.94', 53, 1), NO_GROUP)
  nowMs++
  assert.notEqual(route(routes, 'example.com', '192.0.2.94', 53, 1), NO_GROUP)
  assert.equal(forgotten.length, 1)
})

test('a server that nobody asks for five minutes gives its place back, with what was known of it', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  const forgotten = listForgotten(routes)
  const chosen = route(routes, 'example.com', '192.0.2.99')
  routes.health(chosen).servers[0]!.failed()
  nowMs += 299_000
  for (let step = 0; step < 4; step++) routes.sweep(nowMs)
  assert.equal(route(routes, 'example.com', '192.0.2.99'), chosen)
  nowMs += 301_000
  for (let step = 0; step < 4; step++) routes.sweep(nowMs)
  assert.deepEqual(forgotten, [chosen])
  assert.deepEqual(routes.numbers(), [0])
  assert.equal(routes.groupId(chosen), 0)
  const next = route(routes, 'example.com', '192.0.2.98')
  assert.equal(next, chosen)
  assert.equal(routes.health(next).servers[0]!.failures, 0)
})

test('servers that a reload took away keep their number for five minutes of no use', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  const forgotten = listForgotten(routes)
  nowMs += 400_000
  configure(routes, { servers: servers('192.0.2.7'), zones: ['.'] })
  for (let step = 0; step < 4; step++) routes.sweep(nowMs)
  assert.deepEqual(forgotten, [])
  nowMs += 301_000
  for (let step = 0; step < 4; step++) routes.sweep(nowMs)
  assert.deepEqual(forgotten, [0])
  configure(routes, { servers: servers('192.0.2.8'), zones: ['.'] })
  assert.equal(route(routes, 'example.com'), 0)
})

test('the address of a chosen server is copied out of the packet', () => {
  const routes = makeRoutes()
  const packet = parseAddress('192.0.2.99')!
  const name = parseName('example.com')
  const group = routes.route(name, 0, name.length, 4, packet, 0, 53, 1, nowMs)
  packet.fill(0xee)
  assert.deepEqual(routes.servers(group), servers('192.0.2.99'))
})

test('a group id means the same servers in every process, and a chosen server has none', () => {
  const one = makeRoutes(
    { servers: servers('192.0.2.1', '192.0.2.2'), zones: ['.'] },
    { servers: servers('192.0.2.3'), zones: ['example.net'] },
  )
  const other = makeRoutes(
    { servers: servers('192.0.2.3'), zones: ['example.net'] },
    { servers: servers('192.0.2.1', '192.0.2.2'), zones: ['.'] },
  )
  assert.equal(other.groupOfId(one.groupId(0)), 1)
  assert.equal(other.groupOfId(one.groupId(1)), 0)
  // In another order they are asked in another order: not the same.
  const swapped = makeRoutes({ servers: servers('192.0.2.2', '192.0.2.1'), zones: ['.'] })
  assert.equal(swapped.groupOfId(one.groupId(0)), NO_GROUP)
  const chosen = route(one, 'example.com', '192.0.2.99')
  assert.equal(one.groupId(chosen), 0)
  assert.equal(one.groupOfId(0), NO_GROUP)
})

test('after a reload the same servers keep their number, and new ones get a new one', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  configure(routes, { servers: servers('192.0.2.7'), zones: ['.'] })
  const second = route(routes, 'example.com')
  assert.notEqual(second, 0)
  configure(routes, { servers: servers('192.0.2.1'), zones: ['.'] })
  assert.equal(route(routes, 'example.com'), 0)
  assert.deepEqual(routes.servers(second), servers('192.0.2.7'))
})
