import { test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { parseAddress } from '../identity/address.ts'
import { parseResolvConf } from './resolv-conf.ts'
import { SERVERS_MAX } from './routes.ts'

function serversOf(text: string): string[] {
  return parseResolvConf(text).servers.map(({ address }) => address)
}

function faultsOf(text: string): string[] {
  return parseResolvConf(text).faults.map(({ line, message }) => `${line}: ${message}`)
}

test("a pod's resolv.conf is read whole", () => {
  const text = `search team-a.svc.cluster.local svc.cluster.local cluster.local example.com
nameserver 10.96.0.10
options ndots:5
`
  assert.deepEqual(parseResolvConf(text), {
    servers: [{ address: '10.96.0.10', port: 53, isLoopback: false }],
    search: ['team-a.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'example.com'],
    ndots: 5,
    timeoutSeconds: 5,
    attempts: 2,
    isRotating: false,
    faults: [],
  })
})

test('comments, blank lines, tabs, CRLF and a missing last newline are fine', () => {
  const text =
    '# made by a tool\r\n; another\r\n\r\n\tnameserver\t192.0.2.1 # first\r\nnameserver 2001:DB8:0::1'
  assert.deepEqual(serversOf(text), ['192.0.2.1', '2001:db8::1'])
  assert.deepEqual(faultsOf(text), [])
})

test('all servers count, not only the first three', () => {
  const lines = [1, 2, 3, 4, 5].map((host) => `nameserver 192.0.2.${host}`)
  assert.equal(serversOf(lines.join('\n')).length, 5)
})

test('of several search and domain lines the last counts', () => {
  assert.deepEqual(parseResolvConf('search a.example b.example\nsearch c.example').search, [
    'c.example',
  ])
  assert.deepEqual(parseResolvConf('search a.example\ndomain d.example e.example').search, [
    'd.example',
  ])
})

test('options are capped as the C library caps them', () => {
  const { ndots, timeoutSeconds, attempts, isRotating } = parseResolvConf(
    'options ndots:99 timeout:99\noptions attempts:99 rotate edns0 trust-ad',
  )
  assert.deepEqual([ndots, timeoutSeconds, attempts, isRotating], [15, 30, 5, true])
})

test('a server on this machine is marked: it may be asking us', () => {
  const { servers } = parseResolvConf('nameserver 127.0.0.53\nnameserver ::1\nnameserver 1.1.1.1')
  assert.deepEqual(
    servers.map(({ isLoopback }) => isLoopback),
    [true, true, false],
  )
})

test('a file without a server has none, not 127.0.0.1, and says so', () => {
  assert.deepEqual(serversOf(''), [])
  assert.deepEqual(faultsOf('search example.com\n'), ['1: no usable nameserver line'])
})

test('each fault is reported with its line, and the other lines count', () => {
  const text = `nameserver
nameserver dns.example.com
nameserver 192.0.2.1 192.0.2.2
nameserver 192.0.2.1
nameserver fe80::1%eth0
nameserver ::ffff:192.0.2.9
nameserver 192.0.2.010
namserver 192.0.2.3
options ndots:many colour:red
search`
  assert.deepEqual(serversOf(text), ['192.0.2.1'])
  assert.deepEqual(faultsOf(text), [
    '1: nameserver without an address',
    '2: "dns.example.com" is no IP address',
    '3: one address a line: "192.0.2.2" is not read',
    '4: 192.0.2.1 is named twice',
    `5: "fe80::1%eth0": a link-local address with its zone can't be used; name another`,
    '6: "::ffff:192.0.2.9" is an IPv4 address in IPv6 form; write it as IPv4',
    '7: "192.0.2.010" is no IP address',
    '8: unknown keyword "namserver"',
    '9: ndots needs a number: "ndots:many"',
    '9: unknown option "colour:red"',
    '10: search without a domain',
  ])
})

test('two spellings of one IPv6 address are one server', () => {
  const text = 'nameserver 2001:db8::1\nnameserver 2001:DB8:0:0:0:0:0:1'
  assert.deepEqual(serversOf(text), ['2001:db8::1'])
})

test('a file of any size or content is bounded in servers, faults and time', () => {
  const many = Array.from(
    { length: 2000 },
    (_, index) => `nameserver 10.0.${index >> 8}.${index & 255}`,
  )
  const { servers, faults } = parseResolvConf(many.join('\n'))
  assert.equal(servers.length, SERVERS_MAX)
  assert.ok(faults.length <= 20)
  const huge = parseResolvConf(`${'\t'.repeat(1 << 20)}\nnameserver 192.0.2.1`)
  assert.match(huge.faults[0]!.message, /longer than 65536/)
})

test('any text gives a result whose addresses can be parsed, and faults without control bytes', () => {
  const word = fc.oneof(
    fc.constantFrom('nameserver', 'search', 'options', 'ndots:', '\n', ' ', '#', '127.0.0.53', '%'),
    fc.ipV4(),
    fc.ipV6(),
    fc.string({ unit: 'binary', maxLength: 8 }),
  )
  fc.assert(
    fc.property(fc.array(word, { maxLength: 15 }), (words) => {
      const { servers, faults } = parseResolvConf(words.join(' '))
      for (const { address } of servers) assert.ok(parseAddress(address) !== null, address)
      for (const { message } of faults) assert.doesNotMatch(message, /\p{Cc}/u)
    }),
    { numRuns: 200 },
  )
})
