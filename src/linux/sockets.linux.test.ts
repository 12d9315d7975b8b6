/**
 * Sockets as root: behind TPROXY, over link-local addresses, and without their capabilities.
 *
 * The server runs in a namespace `node`, its clients in a namespace `pod`, as processes: a Node
 * process can't change its own namespace.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { Namespace, connect, missingForNamespaces } from '../../test/support/netns.ts'
import { until } from '../../test/support/process.ts'

const skip = missingForNamespaces()

const MODULES = {
  ...{ batch: 'udp-batch', constants: 'constants', epoll: 'epoll', memory: 'region' },
  ...{ socket: 'socket', system: 'process', tcp: 'tcp', udp: 'udp' },
}

/** For scripts that run as processes of their own: `import * as batch from '…/udp-batch.ts'` … */
const IMPORTS = Object.entries(MODULES)
  .map(([name, file]) => `import * as ${name} from '${import.meta.resolve(`./${file}.ts`)}'`)
  .join('\n')

/** Answers each query and connection with the address and port that the client meant. */
const SERVER = `${IMPORTS}
const options = (family, address) => ({ family, address, port: 53, isTransparent: true, mark: 7 })
const v4 = new Uint8Array([127, 0, 0, 53])
const v6 = new Uint8Array([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53])
const datagrams = [udp.openUdp(options(4, v4)), udp.openUdp(options(6, v6))]
const streams = [tcp.listenTcp(options(4, v4)), tcp.listenTcp(options(6, v6))]
const waiting = new epoll.Epoll()
for (const fd of [...datagrams, ...streams]) waiting.add(fd, constants.EPOLLIN, fd)
const received = new batch.ReceiveBatch()
const sent = new batch.SendBatch()
const acceptor = new tcp.TcpAcceptor()
const region = memory.Region.create(256)
const text = (u8, at, family, port) => {
  return Buffer.from(u8.subarray(at, at + (family === 4 ? 4 : 16))).toString('hex') + ' ' + port
}
console.log('ready')
for (;;) {
  const count = waiting.wait(1000)
  for (let n = 0; n < count; n++) {
    const fd = waiting.token(n)
    if (streams.includes(fd)) {
      const accepted = acceptor.accept(fd)
      const answer = text(acceptor.u8, acceptor.localAt, acceptor.family, acceptor.localPort)
      region.u8.set(Buffer.from(answer))
      socket.send(accepted, region.address, answer.length)
      socket.close(accepted)
    } else {
      received.receive(fd, 64)
      const [family, at] = [received.family(0), received.destinationAt(0)]
      const answer = text(received.u8, at, family, received.destinationPort(0))
      sent.u8.set(Buffer.from(answer), sent.packetAt(0))
      sent.set(0, family, received.u8, received.sourceAt(0), received.sourcePort(0), received.u8,
        at, answer.length, received.interfaceIndex(0))
      const result = sent.send(fd, 0, 1)
      if (result !== 1) console.log('send: ' + result)
    }
  }
}`

/** Connects to a server, sends a byte, prints the answer. A connected socket takes no other's. */
const CLIENT = `${IMPORTS}
const [kind, hex, port, link] = process.argv.slice(1)
const address = Uint8Array.from(Buffer.from(hex, 'hex'))
const family = address.length === 4 ? 4 : 6
const index = link === undefined ? 0 : system.interfaceIndex(link)
const open = kind === 'udp' ? udp.connectUdp : tcp.connectTcp
const fd = open(family, address, 0, Number(port), 0, index)
if (fd < 0) console.log('connect: ' + fd)
const waiting = new epoll.Epoll()
waiting.add(fd, constants.EPOLLOUT, 0)
waiting.wait(3000)
const region = memory.Region.create(256)
if (kind === 'udp') socket.send(fd, region.address, 1)
waiting.modify(fd, constants.EPOLLIN, 0)
waiting.wait(3000)
const bytes = socket.receive(fd, region.address, 256)
console.log(bytes < 0 ? bytes : Buffer.from(region.u8.subarray(0, bytes)).toString())
`

const RULES = `
table inet intercept {
  chain prerouting {
    type filter hook prerouting priority raw + 10
    meta nfproto ipv4 meta l4proto { tcp, udp } th dport { 53, 5353 } tproxy ip to 127.0.0.53:53 meta mark set 1
    meta nfproto ipv6 meta l4proto { tcp, udp } th dport { 53, 5353 } tproxy ip6 to [fd00::53]:53 meta mark set 1
  }
}`

const NODE_ARGUMENTS = ['--input-type=module', '-e']

interface World extends Disposable {
  readonly node: Namespace
  readonly pod: Namespace
}

/** The kernel finishes a new link behind our back: its fe80::/64 comes up to a second late. */
function linkIsReady(namespace: Namespace, device: string): Promise<void> {
  return until(`${device} has a link-local route`, () =>
    namespace.ip('-6', 'route', 'show', 'dev', device).includes('fe80::/64'),
  )
}

async function createWorld(): Promise<World> {
  const node = Namespace.create('node')
  const pod = Namespace.create('pod')
  connect(
    { namespace: node, interface: 'veth', addresses: ['10.0.0.1/24', '2001:db8::1/64'] },
    { namespace: pod, interface: 'eth0', addresses: ['10.0.0.7/24', '2001:db8::7/64'] },
  )
  pod.ip('route', 'add', 'default', 'via', '10.0.0.1')
  pod.ip('-6', 'route', 'add', 'default', 'via', '2001:db8::1')
  node.execWithInput(RULES, 'nft', '-f', '-')
  for (const family of ['-4', '-6']) {
    node.ip(family, 'rule', 'add', 'fwmark', '1', 'lookup', '100')
    node.ip(family, 'route', 'add', 'local', 'default', 'dev', 'lo', 'table', '100')
  }
  await linkIsReady(node, 'veth')
  await linkIsReady(pod, 'eth0')
  const dispose = (): void => {
    pod[Symbol.dispose]()
    node[Symbol.dispose]()
  }
  return { node, pod, [Symbol.dispose]: dispose }
}

async function ask(pod: Namespace, ...clientArguments: string[]): Promise<string> {
  const line = [...NODE_ARGUMENTS, CLIENT, '--', ...clientArguments]
  const finished = await pod.run(process.execPath, line)
  assert.equal(finished.code, 0, finished.stderr)
  return finished.stdout.trim()
}

test('a transparent socket takes queries for any server, and its answers come from that server', {
  skip,
}, async () => {
  using world = await createWorld()
  const { node, pod } = world
  await using server = await node.start(process.execPath, [...NODE_ARGUMENTS, SERVER], {
    ready: 'ready',
  })
  const v4 = 'c0000235' // 192.0.2.53, which nobody has
  const v6 = '20010db8000100000000000000000053'
  for (const kind of ['udp', 'tcp']) {
    assert.equal(await ask(pod, kind, v4, '53'), `${v4} 53`, server.story())
    assert.equal(await ask(pod, kind, v6, '53'), `${v6} 53`, server.story())
  }
  // Only a stream keeps the port: a datagram's reply leaves from the socket's own.
  assert.equal(await ask(pod, 'tcp', v4, '5353'), `${v4} 5353`, server.story())
})

test('a link-local client gets its answer back over its own link', { skip }, async () => {
  using world = await createWorld()
  const { node, pod } = world
  // A second link with the same fe80::/64: without the interface the kernel could not choose.
  connect(
    { namespace: node, interface: 'other', addresses: ['10.0.1.1/24'] },
    { namespace: pod, interface: 'eth1', addresses: ['10.0.1.7/24'] },
  )
  await using server = await node.start(process.execPath, [...NODE_ARGUMENTS, SERVER], {
    ready: 'ready',
  })
  await linkIsReady(node, 'other')
  await linkIsReady(pod, 'eth1')
  const links = JSON.parse(node.ip('-6', '-j', 'address', 'show', 'scope', 'link')) as {
    ifname: string
    addr_info: { local?: string }[]
  }[]
  for (const [far, near] of [
    ['veth', 'eth0'],
    ['other', 'eth1'],
  ] as const) {
    const addresses = links.find((link) => link.ifname === far)!.addr_info
    const address = addresses.find(({ local }) => local?.startsWith('fe80::'))?.local
    assert.ok(address !== undefined, `${far} has a link-local address`)
    const groups = address.slice('fe80::'.length).split(':')
    const hex = `fe80000000000000${groups.map((group) => group.padStart(4, '0')).join('')}`
    assert.equal(await ask(pod, 'udp', hex, '53', near), `${hex} 53`, server.story())
  }
})

/** Runs code as user nobody without any capability; what it printed. */
function runUnprivileged(code: string): string {
  const drop = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all']
  const line = [...drop, '--bounding-set=-all', process.execPath, ...NODE_ARGUMENTS, code]
  const { stdout, stderr } = spawnSync('setpriv', line, { encoding: 'utf8', cwd: '/' })
  assert.equal(stderr, '')
  return stdout.trim()
}

test('without capabilities each opening says which one it lacks', { skip }, () => {
  const printed = runUnprivileged(`${IMPORTS}
    const address = new Uint8Array([127, 0, 0, 1])
    const plain = { family: 4, address, port: 0, isTransparent: false }
    for (const options of [{ ...plain, isTransparent: true }, { ...plain, mark: 7 }]) {
      for (const open of [udp.openUdp, tcp.listenTcp]) {
        try { open(options) } catch (error) { console.log(error.code + ' ' + error.message) }
      }
    }
    const low = { ...plain, port: 53 }
    // Machines may let everybody have low ports (net.ipv4.ip_unprivileged_port_start).
    try { udp.openUdp(low); console.log('EACCES CAP_NET_BIND_SERVICE') }
    catch (error) { console.log(error.code + ' ' + error.message) }
    console.log(udp.connectUdp(4, address, 0, 53, 7))
    console.log(socket.getOption(udp.openUdp({ ...plain, receiveBufferBytes: 1 << 28 }), 1, 8) > 4096)
  `).split('\n')
  assert.equal(printed.length, 7, printed.join('\n'))
  for (const line of printed.slice(0, 4)) assert.match(line, /^EPERM .*: EPERM .* CAP_NET_ADMIN/)
  assert.match(printed[4]!, /^EACCES .*CAP_NET_BIND_SERVICE/)
  assert.deepEqual(printed.slice(5), ['-1', 'true'])
})
