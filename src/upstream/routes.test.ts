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

function configure(routes: Routes, ...groups: { servers: Server[]; zones: string[] }[]): void {
  routes.configure(
    groups.map((group) => group.servers),
    groups.flatMap(({ zones }, group) => zones.map((zone) => ({ name: parseName(zone), group }))),
    [endpoint(CLUSTER_DNS), endpoint('2001:db8:96::a')],
  )
}

/** The group of a question sent to ourselves, or to `server`. */
function route(routes: Routes, name: string, server?: string, port = 53, client = 1): number {
  const wire = parseName(name)
  if (server === undefined) return routes.route(wire, 0, wire.length, 0, wire, 0, 0, client)
  const { family, address } = endpoint(server)
  return routes.route(wire, 0, wire.length, family, address, 0, port, client)
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

test('a client that tries servers one by one leaves others as many as it gets', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  const scan = (client: number, address: string): number => {
    let count = 0
    for (let port = 1; port <= 300; port++) {
      if (route(routes, 'example.com', address, port, client) !== NO_GROUP) count++
    }
    return count
  }
  assert.equal(scan(1, '192.0.2.91'), 128)
  assert.equal(scan(2, '192.0.2.92'), 64)
  assert.notEqual(route(routes, 'example.com', '192.0.2.93', 53, 3), NO_GROUP)
  // What is known already may be asked by all, also by those who may choose no more.
  assert.equal(scan(1, '192.0.2.92'), 64)
})

test('clients choose a bounded number of servers together', () => {
  const routes = makeRoutes({ servers: servers('192.0.2.1'), zones: ['.'] })
  for (let port = 1; port <= 256; port++) {
    assert.notEqual(route(routes, 'example.com', '192.0.2.99', port, port), NO_GROUP)
  }
  assert.equal(route(routes, 'example.com', '192.0.2.99', 257, 257), NO_GROUP)
  assert.notEqual(route(routes, 'example.com', '192.0.2.99', 256, 257), NO_GROUP)
})

test('the address of a chosen server is copied out of the packet', () => {
  const routes = makeRoutes()
  const packet = parseAddress('192.0.2.99')!
  const name = parseName('example.com')
  const group = routes.route(name, 0, name.length, 4, packet, 0, 53, 1)
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
