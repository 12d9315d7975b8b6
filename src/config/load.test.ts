import assert from 'node:assert/strict'
import { mkdtempDisposableSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { TEST_CERTIFICATE } from '../daemon/tls-fixture.ts'
import { ConfigError, loadConfig, type MachineFacts, readConfig, readRun } from './load.ts'

const MACHINE: MachineFacts = {
  hostName: 'worker-1',
  userId: 1000,
  homeDirectory: '/home/user',
  stateHome: '',
  runtimeDirectory: '/run/user/1000',
}
const ROOT: MachineFacts = { ...MACHINE, userId: 0 }

const MINIMAL = `
listen: {addresses: [127.0.0.1], port: 5353}
upstreams:
  - zones: ["."]
    servers: [192.0.2.53]
`

function read(text: string, machine = MACHINE) {
  return readConfig(text, '/etc/namegate/namegate.yaml', machine)
}

/** The lines of the error that `text` ends in, without the file's name. */
function faults(text: string): string[] {
  try {
    readConfig(text, 'n.yaml', MACHINE)
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    return error.message.split('\n').map((line) => line.replace(/^n\.yaml:/, ''))
  }
  return []
}

/** Faults of the minimal file with some lines more; line 1 is the first of them. */
function faultsOf(lines: string): string[] {
  return faults(`${lines}${MINIMAL}`)
}

test('two keys are enough for a cache without root: everything else has a default', () => {
  assert.deepEqual(read(MINIMAL), {
    file: '/etc/namegate/namegate.yaml',
    node: 'worker-1',
    state: '/home/user/.local/state/namegate',
    run: '/run/user/1000/namegate',
    listen: { addresses: ['127.0.0.1'], port: 5353 },
    intercept: null,
    upstreams: [
      {
        zones: ['.'],
        servers: [{ kind: 'address', address: '192.0.2.53', port: 53 }],
        transport: 'udp',
        identity: null,
      },
    ],
    cache: {
      sizeBytes: 33554432,
      maxTtlSeconds: 3600,
      minTtlSeconds: 0,
      maxNegativeTtlSeconds: 30,
      serveStaleSeconds: 0,
      prefetch: false,
      nothingBelowNxdomain: false,
      rotate: true,
    },
    limits: { queriesPerSecond: 10_000, grants: 8192 },
    policy: null,
    clients: { file: null, unknown: 'open' },
  })
})

test('every key of the reference is read, with its unit', () => {
  const config = read(
    `
node: 10
state: state
run: /run/here
listen:
  addresses: [169.254.20.10, "2001:DB8:0:0::1"]
intercept:
  interfaces: ["veth*", cali*, eth0]
  mark: 0x00f00000/0x00f00000
  routingTable: 300
  rulePriority: 7
  node: false
  servers: [10.96.0.10]
upstreams:
  - zones: [Cluster.Local., in-addr.arpa]
    servers: [10.96.0.10, 192.0.2.1:5300, "[2001:db8::53]:54", 2001:db8::54]
    transport: tcp
  - {zones: ["."], servers: [/etc/resolv.conf, ./resolv.conf]}
cache: {size: 64MiB, maxTtl: 1d, minTtl: 5s, maxNegativeTtl: 2m, serveStale: 1h, prefetch: true, nothingBelowNxdomain: true, rotate: false}
limits: {queriesPerSecond: 250, grants: 500}
policy: {directory: ../policies, denyResponse: nodata, mode: audit}
clients: {file: clients.yaml, unknown: closed}
`,
    ROOT,
  )
  assert.equal(config.node, '10')
  assert.equal(config.state, '/etc/namegate/state')
  assert.equal(config.run, '/run/here')
  assert.deepEqual(config.listen, { addresses: ['169.254.20.10', '2001:db8::1'], port: 53 })
  assert.deepEqual(config.intercept, {
    interfaces: ['veth*', 'cali*', 'eth0'],
    mark: { value: 0xf00000, mask: 0xf00000 },
    routingTable: 300,
    rulePriority: 7,
    node: false,
    servers: ['10.96.0.10'],
  })
  assert.deepEqual(config.upstreams, [
    {
      zones: ['cluster.local', 'in-addr.arpa'],
      servers: [
        { kind: 'address', address: '10.96.0.10', port: 53 },
        { kind: 'address', address: '192.0.2.1', port: 5300 },
        { kind: 'address', address: '2001:db8::53', port: 54 },
        { kind: 'address', address: '2001:db8::54', port: 53 },
      ],
      transport: 'tcp',
      identity: null,
    },
    {
      zones: ['.'],
      servers: [
        { kind: 'file', path: '/etc/resolv.conf' },
        { kind: 'file', path: '/etc/namegate/resolv.conf' },
      ],
      transport: 'udp',
      identity: null,
    },
  ])
  assert.deepEqual(config.cache, {
    sizeBytes: 1 << 26,
    maxTtlSeconds: 86400,
    minTtlSeconds: 5,
    maxNegativeTtlSeconds: 120,
    serveStaleSeconds: 3600,
    prefetch: true,
    nothingBelowNxdomain: true,
    rotate: false,
  })
  assert.deepEqual(config.limits, { queriesPerSecond: 250, grants: 500 })
  assert.deepEqual(config.policy, {
    directory: '/etc/policies',
    denyResponse: 'nodata',
    mode: 'audit',
  })
  assert.deepEqual(config.clients, { file: '/etc/namegate/clients.yaml', unknown: 'closed' })
})

test('state and run are where root or XDG has them', () => {
  assert.equal(read(MINIMAL, ROOT).state, '/var/lib/namegate')
  assert.equal(read(MINIMAL, ROOT).run, '/run/namegate')
  assert.equal(read(MINIMAL, { ...MACHINE, stateHome: '/s' }).state, '/s/namegate')
  assert.equal(read(MINIMAL, { ...MACHINE, runtimeDirectory: '' }).run, '/tmp/namegate-1000')
})

test('a mask alone turns interception on, with the defaults of the reference', () => {
  const config = read(`intercept: {interfaces: ["veth*"]}\n${MINIMAL}`)
  assert.deepEqual(config.intercept, {
    interfaces: ['veth*'],
    mark: { value: 0x4e470000, mask: 0xffff0000 },
    routingTable: 20551,
    rulePriority: 100,
    node: true,
    servers: [],
  })
})

test('a configuration cannot be changed by who receives it', () => {
  const config = read(MINIMAL)
  assert.throws(() => {
    ;(config.upstreams[0]!.servers[0] as { address: string }).address = '192.0.2.54'
  }, TypeError)
})

test('an unknown key is named with its place and the nearest known one', () => {
  assert.deepEqual(faultsOf('cahce: {size: 1MiB}'), [
    "1:1: cahce: unknown key; did you mean 'cache'?",
  ])
  assert.deepEqual(faultsOf('cache:\n  maxTTL: 1h\n'), [
    "2:3: cache.maxTTL: unknown key; did you mean 'maxTtl'?",
  ])
  assert.deepEqual(faultsOf('denyResponse: refused'), [
    '1:1: denyResponse: unknown key here; it is known as policy.denyResponse',
  ])
  assert.deepEqual(faultsOf('clients: {zebra: 1}'), [
    '1:11: clients.zebra: unknown key; known here are file, kubernetes, unknown',
  ])
  assert.deepEqual(faultsOf('__proto__: {}'), [
    '1:1: __proto__: unknown key; known here are node, state, run, listen, intercept, upstreams, cache, limits, policy, clients, observe',
  ])
})

test('all faults of a file are told at once, in its order', () => {
  assert.deepEqual(
    faults(`
listen:
  addresses: [127.0.0.1, localhost, 0.0.0.0]
  prot: 53
upstreams:
  - zones: ["."]
    server: [192.0.2.53]
  - zones: [ex ample.com]
    servers: [192.0.2.53:99999, 2001:db8::1%eth0, "[192.0.2.1"]
    transport: quic
cache:
  size: 32MB
  maxTtl: 2d
  maxNegativeTtl: 30
`),
    [
      "3:26: listen.addresses[1]: 'localhost' is no IP address",
      "4:3: listen.prot: unknown key; did you mean 'port'?",
      '6:5: upstreams[0].servers: is missing, and has no default',
      "7:5: upstreams[0].server: unknown key; did you mean 'servers'?",
      "8:13: upstreams[1].zones[0]: 'ex ample.com' is no zone name; write one such as cluster.local",
      "9:15: upstreams[1].servers[0]: '99999' is no whole number from 1 to 65535",
      "9:33: upstreams[1].servers[1]: '2001:db8::1%eth0' is no server; write address, address:port, [address]:port, or the path of a file (with a /)",
      "9:51: upstreams[1].servers[2]: '[192.0.2.1' is no server; write address, address:port, [address]:port, or the path of a file (with a /)",
      "10:16: upstreams[1].transport: 'quic' is none of udp, tcp, tls",
      "12:9: cache.size: '32MB' is no size; write a whole number and KiB, MiB or GiB: 32MiB",
      '13:11: cache.maxTtl: 2d is too much: at most 1d',
      "14:19: cache.maxNegativeTtl: '30' is no duration; write a whole number and s, m, h or d: 30s",
    ],
  )
})

test('a key whose feature is not built yet is refused, not half obeyed', () => {
  assert.deepEqual(
    faults(`
listen: {addresses: [127.0.0.1]}
upstreams:
  - zones: ["."]
    servers: [192.0.2.53]
    transport: tcp
clients: {kubernetes: true}
observe:
  hubble: {agent: unix:agent.sock}
  metrics: {agent: "127.0.0.1:9253"}
`),
    [
      '7:11: clients.kubernetes: reading the Kubernetes API is not built yet; give clients.file instead',
      "9:3: observe.hubble: the Hubble server is not built yet; 'namegate observe' shows the flows",
      "10:3: observe.metrics: metrics are not built yet; 'namegate status -o json' has the counters",
    ],
  )
  assert.deepEqual(faultsOf('clients: {kubernetes: false}'), [])
})

test('what is wrong only together is a fault too', () => {
  assert.deepEqual(
    faults(`
listen: {addresses: [192.0.2.1, "::", 192.0.2.1]}
upstreams:
  - {zones: [example.com], servers: [192.0.2.1]}
  - {zones: [Example.COM.], servers: ["192.0.2.1:5353"]}
cache: {minTtl: 50m, maxTtl: 5m}
`),
    [
      '2:33: listen.addresses[1]: a wildcard would serve DNS to everybody who reaches this node; name the addresses',
      '2:39: listen.addresses[2]: is listed twice',
      '4:38: upstreams[0].servers[0]: is our own listen address: questions would go round in a circle',
      "5:14: upstreams[1].zones[0]: 'example.com' stands already at upstreams[0].zones[0]",
      '6:17: cache.minTtl: is more than cache.maxTtl',
    ],
  )
})

test('a mark has its value inside a mask that is wide enough', () => {
  const marks: [string, string][] = [
    ['0x4e470000', 'is no mark; write value/mask: 0x4e470000/0xffff0000'],
    ['0x4e478000/0xffff0000', 'has bits of the value outside the mask'],
    ['0/0xffff0000', 'marks nothing: its value is 0'],
    ['0x10000/0x70000', 'has too small a mask: at least 4 bits'],
    ['9999999999/9999999999', 'has more than 32 bits'],
  ]
  for (const [mark, message] of marks) {
    assert.deepEqual(faultsOf(`intercept: {interfaces: [eth0], mark: ${mark}}`), [
      `1:39: intercept.mark: '${mark}' ${message}`,
    ])
  }
})

test('a value of the wrong shape is named, whatever stands there', () => {
  assert.deepEqual(faultsOf('cache: 32MiB'), [
    '1:8: cache: must be a mapping of size, maxTtl, minTtl, maxNegativeTtl, serveStale, prefetch, nothingBelowNxdomain, rotate',
  ])
  assert.deepEqual(faultsOf('policy:'), ['1:1: policy: has no value; write one or remove the line'])
  assert.deepEqual(faultsOf('node: [a]'), ['1:7: node: must be a single value'])
  assert.deepEqual(faultsOf('intercept: {interfaces: eth0}'), [
    '1:25: intercept.interfaces: must be a list; write [ ] around it',
  ])
  assert.deepEqual(faultsOf('intercept: {interfaces: []}'), [
    '1:25: intercept.interfaces: needs at least 1',
  ])
  assert.deepEqual(faultsOf('intercept: {interfaces: [v*th, aaaaaaaaaaaaaaaa]}'), [
    "1:26: intercept.interfaces[0]: 'v*th' is no interface name; a * may only stand at its end: veth*",
    "1:32: intercept.interfaces[1]: 'aaaaaaaaaaaaaaaa' is longer than an interface name: 15",
  ])
  assert.deepEqual(faultsOf('policy: {mode: audit}'), [
    '1:9: policy.directory: is missing, and has no default',
  ])
})

test('an empty file says what is missing', () => {
  assert.deepEqual(faults(''), [
    '1:1: listen.addresses: is missing, and has no default',
    '1:1: upstreams: is missing; write a list of mappings of zones, servers, transport, serverName, caFile, pins',
  ])
  assert.deepEqual(faults('[]'), [
    '1:1: must be a mapping of node, state, run, listen, intercept, upstreams, cache, limits, policy, clients, observe',
  ])
})

test('what is not YAML is a fault with its place: twice the same key, tabs, foreign tags', () => {
  assert.deepEqual(faultsOf('node: a\nnode: b'), ['2:1: not YAML: Map keys must be unique'])
  assert.deepEqual(faultsOf('node: !secret a'), ['1:7: not YAML: Unresolved tag: !secret'])
  assert.match(faultsOf('listen:\n\tport: 1')[0]!, /^2:1: not YAML: Tabs are not allowed/)
  assert.deepEqual(faultsOf('node: *a'), ['1:7: no anchor &a before this alias'])
})

test('anchors work, and their nesting cannot grow a small file into a large one', () => {
  const config = read(`
listen: {addresses: [127.0.0.1]}
upstreams:
  - {zones: [example.com], servers: &servers [192.0.2.53]}
  - {zones: ["."], servers: *servers}
`)
  assert.deepEqual(config.upstreams[1]!.servers, config.upstreams[0]!.servers)
  const bomb = ['a: &a [x, x]', 'b: &b [*a, *a]', 'c: &c [*b, *b]'].join('\n')
  assert.equal(faultsOf(bomb).length, 3)
})

test('a file that cannot be read says so and how to give another', () => {
  assert.throws(() => loadConfig('/nonexistent/namegate.yaml', MACHINE), {
    name: 'ConfigError',
    message:
      "/nonexistent/namegate.yaml:1:1: cannot be read: ENOENT: no such file or directory, open '/nonexistent/namegate.yaml'; give the path with -c FILE",
  })
})

test('no text makes the reader fail otherwise than by faults', () => {
  const words = fc.constantFrom(
    'cache',
    'listen',
    'upstreams',
    'zones',
    '{',
    '}',
    '[',
    ']',
    ': ',
    '\n',
    '  ',
    '- ',
    '&a ',
    '*a',
    '!x ',
    '32MiB',
    '"',
    "'",
    '0',
    '#',
    '? ',
    '| ',
    ',',
  )
  fc.assert(
    fc.property(fc.array(words, { maxLength: 40 }), (parts) => {
      assert.ok(Array.isArray(faults(parts.join(''))))
    }),
    { numRuns: 300 },
  )
})

test('a file that is being repaired still says where the daemons are', () => {
  assert.equal(
    readRun('run: here\nlisten: [', '/etc/namegate/n.yaml', MACHINE),
    '/etc/namegate/here',
  )
  assert.equal(readRun('cahce: 1', '/etc/namegate/n.yaml', ROOT), '/run/namegate')
  assert.equal(readRun('', '/etc/namegate/n.yaml', ROOT), '/run/namegate')
})

test('with tls it is said whom to trust, and the port is 853', () => {
  const pin = `${'A'.repeat(43)}=`
  const { upstreams } = read(`
listen: {addresses: [127.0.0.1]}
upstreams:
  - zones: ["."]
    servers: [192.0.2.53, 192.0.2.54:8853]
    transport: tls
    serverName: dns.example.net
    pins: ["${pin}"]
`)
  assert.deepEqual(upstreams[0], {
    zones: ['.'],
    servers: [
      { kind: 'address', address: '192.0.2.53', port: 853 },
      { kind: 'address', address: '192.0.2.54', port: 8853 },
    ],
    transport: 'tls',
    identity: { serverName: 'dns.example.net', pins: [pin], authorities: null },
  })
})

test('tls without a name or pin, a bad one, and either without tls are faults', () => {
  assert.deepEqual(
    faults(`
listen: {addresses: [127.0.0.1]}
upstreams:
  - {zones: [example.com], servers: [192.0.2.53], transport: tls}
  - {zones: [example.net], servers: [192.0.2.53], serverName: dns.example.net}
  - {zones: ["."], servers: [192.0.2.53], transport: tls, serverName: "a b", pins: [abc]}
`),
    [
      '4:62: upstreams[0].transport: needs serverName, pins or both: without, whoever answers would be trusted',
      '5:63: upstreams[1].serverName: means nothing without transport: tls',
      "6:71: upstreams[2].serverName: 'a b' is no host name and no address",
      '6:85: upstreams[2].pins[0]: is no pin; write SHA-256 of the public key in base64, 44 characters',
    ],
  )
})

test('a caFile is read with the configuration, and what can’t be used is a fault in its line', () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), 'ngt-files-'))
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory.path, name), text)
    return join(directory.path, name)
  }
  const upstream = (caFile: string): string => `
listen: {addresses: [127.0.0.1]}
upstreams:
  - {zones: ["."], servers: [192.0.2.53], transport: tls, serverName: dns.example.net, caFile: ${caFile}}
`
  const good = file('ca.pem', `# ours\n${TEST_CERTIFICATE}\n# and again\n${TEST_CERTIFICATE}\n`)
  const { identity } = read(upstream(good)).upstreams[0]!
  assert.equal(identity!.authorities, `${TEST_CERTIFICATE}\n${TEST_CERTIFICATE}`)
  const fault = (path: string): string => faults(upstream(path)).join()
  const start = '4:96: upstreams[0].caFile: cannot be used'
  const missing = join(directory.path, 'none.pem')
  assert(fault(missing).startsWith(`${start}: ${missing}: ENOENT`))
  const empty = file('empty.pem', 'nothing')
  assert.equal(fault(empty), `${start}: ${empty}: it has no certificate in PEM`)
  const broken = file('broken.pem', TEST_CERTIFICATE.replace('MII', 'AAA'))
  assert(fault(broken).startsWith(`${start}: ${broken}: certificate 1: `))
  assert.match(fault(file('huge.pem', 'x'.repeat(2 << 20))), /more than certificates have/)
  const pinned = upstream(good).replace(
    'serverName: dns.example.net',
    `pins: ["${'A'.repeat(43)}="]`,
  )
  const [stray] = faults(pinned)
  assert.match(
    stray!,
    /upstreams\[0\]\.caFile: means nothing without transport: tls and serverName/,
  )
})
