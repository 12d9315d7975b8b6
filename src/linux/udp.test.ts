import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { SOL_SOCKET, SO_RCVBUF } from './constants.ts'
import { EAGAIN, ECONNREFUSED, EINVAL, EMSGSIZE, ENETUNREACH } from './errno.ts'
import { Region } from './region.ts'
import { SocketError, close, getOption, localPort, receive, send } from './socket.ts'
import { type UdpOptions, connectUdp, openUdp } from './udp.ts'
import { ReceiveBatch, SendBatch } from './udp-batch.ts'

const LOCALHOST = new Uint8Array([127, 0, 0, 1])
const ANY = new Uint8Array(4)
const LOCALHOST6 = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
const ANY6 = new Uint8Array(16)

function open(family: 4 | 6, address: Uint8Array, more: Partial<UdpOptions> = {}): number {
  return openUdp({ family, address, port: 0, isTransparent: false, ...more })
}

/** The address at `at`, as its bytes. */
function bytesAt(u8: Uint8Array, at: number, family: number): number[] {
  return [...u8.subarray(at, at + (family === 4 ? 4 : 16))]
}

/** What an asker gets back, without waiting longer than loopback takes: nothing is queued there. */
function take(fd: number): string | number {
  const region = Region.create(4096)
  const bytes = receive(fd, region.address, 4096)
  return bytes < 0 ? bytes : Buffer.from(region.u8.subarray(0, bytes)).toString()
}

function ask(fd: number, text: string): void {
  const region = Region.create(8192)
  const bytes = Buffer.from(text)
  region.u8.set(bytes)
  assert.equal(send(fd, region.address, bytes.length), bytes.length)
}

for (const family of [4, 6] as const) {
  const [any, localhost] = family === 4 ? [ANY, LOCALHOST] : [ANY6, LOCALHOST6]

  test(`IPv${family}: a batch is received with its addresses, and its answers reach who asked`, () => {
    const server = open(family, any)
    const port = localPort(server)
    const askers = [1, 2, 3].map(() => connectUdp(family, localhost, 0, port, 0))
    askers.forEach((asker, index) => ask(asker, `query ${index}`))
    const received = new ReceiveBatch()
    const sent = new SendBatch()
    assert.equal(received.receive(server, 64), 3)
    for (let index = 0; index < 3; index++) {
      assert.equal(received.family(index), family)
      assert.equal(received.packetBytes(index), 7)
      assert.equal(received.isTruncated(index), false)
      assert.equal(received.sourcePort(index), localPort(askers[index]!))
      const { u8 } = received
      assert.deepEqual(bytesAt(u8, received.sourceAt(index), family), [...localhost])
      assert.deepEqual(bytesAt(u8, received.destinationAt(index), family), [...localhost])
      assert.equal(received.destinationPort(index), 0, 'only a transparent socket tells it')
      assert.equal(received.interfaceIndex(index), 1, 'lo is the first interface everywhere')
      const at = received.packetAt(index)
      sent.u8.set(u8.subarray(at, at + 7), sent.packetAt(index))
      sent.u8[sent.packetAt(index)] = 0x51
      const [to, from] = [received.sourceAt(index), received.destinationAt(index)]
      sent.set(index, family, u8, to, received.sourcePort(index), u8, from, 7, 1)
    }
    assert.equal(sent.send(server, 0, 3), 3)
    assert.deepEqual(askers.map(take), ['Query 0', 'Query 1', 'Query 2'])
    assert.equal(received.receive(server, 64), -EAGAIN)
    for (const fd of [server, ...askers]) close(fd)
  })
}

test('a reply leaves from the address that was asked, and a connected asker takes no other', () => {
  const server = open(4, ANY)
  const asked = new Uint8Array([127, 0, 0, 2])
  const asker = connectUdp(4, asked, 0, localPort(server), 0)
  ask(asker, 'query')
  const received = new ReceiveBatch()
  assert.equal(received.receive(server, 1), 1)
  const { u8 } = received
  assert.deepEqual(bytesAt(u8, received.destinationAt(0), 4), [127, 0, 0, 2])
  const sent = new SendBatch()
  sent.u8.set(Buffer.from('answer'), sent.packetAt(0))
  const [to, port] = [received.sourceAt(0), received.sourcePort(0)]
  sent.set(0, 4, u8, to, port, new Uint8Array([127, 0, 0, 3]), 0, 6, 0)
  assert.equal(sent.send(server, 0, 1), 1)
  assert.equal(take(asker), -EAGAIN)
  sent.set(0, 4, u8, to, port, u8, received.destinationAt(0), 6, 0)
  assert.equal(sent.send(server, 0, 1), 1)
  assert.equal(take(asker), 'answer')
  close(server)
  close(asker)
})

test('a packet longer than the room for it is flagged, and the one after it is whole', () => {
  const server = open(4, LOCALHOST)
  const asker = connectUdp(4, LOCALHOST, 0, localPort(server), 0)
  const received = new ReceiveBatch({ messages: 4, packetBytes: 512 })
  for (const length of [513, 512, 0, 1]) ask(asker, 'x'.repeat(length))
  assert.equal(received.receive(server, 4), 4)
  const seen = [0, 1, 2, 3].map((n) => [received.packetBytes(n), received.isTruncated(n)])
  assert.deepEqual(seen, [
    [512, true],
    [512, false],
    [0, false],
    [1, false],
  ])
  // The kernel wrote sizes and flags into these headers: the next call must not see them.
  ask(asker, 'y'.repeat(512))
  assert.equal(received.receive(server, 4), 1)
  assert.deepEqual([received.packetBytes(0), received.isTruncated(0)], [512, false])
  assert.deepEqual(bytesAt(received.u8, received.destinationAt(0), 4), [127, 0, 0, 1])
  close(server)
  close(asker)
})

test('a limit leaves the rest to whoever reads next', () => {
  const server = open(4, LOCALHOST)
  const asker = connectUdp(4, LOCALHOST, 0, localPort(server), 0)
  for (let n = 0; n < 5; n++) ask(asker, `query ${n}`)
  const received = new ReceiveBatch()
  assert.deepEqual(
    [1, 3, 64].map((limit) => received.receive(server, limit)),
    [1, 3, 1],
  )
  close(server)
  close(asker)
})

test('one batch of each kind serves sockets of both families in turn', () => {
  const received = new ReceiveBatch({ messages: 1 })
  const sent = new SendBatch({ messages: 1 })
  sent.u8.set(Buffer.from('answer'), sent.packetAt(0))
  for (const family of [6, 4, 6, 4] as const) {
    // 127.0.0.2 is not what the kernel would choose: the report of the other family shows.
    const [any, asked] = family === 4 ? [ANY, new Uint8Array([127, 0, 0, 2])] : [ANY6, LOCALHOST6]
    const server = open(family, any)
    const asker = connectUdp(family, asked, 0, localPort(server), 0)
    ask(asker, 'query')
    assert.equal(received.receive(server, 1), 1)
    assert.equal(received.family(0), family)
    const { u8 } = received
    const source = family === 4 ? LOCALHOST : LOCALHOST6
    assert.deepEqual(bytesAt(u8, received.sourceAt(0), family), [...source])
    assert.deepEqual(bytesAt(u8, received.destinationAt(0), family), [...asked])
    const [to, from] = [received.sourceAt(0), received.destinationAt(0)]
    sent.set(0, family, u8, to, received.sourcePort(0), u8, from, 6, received.interfaceIndex(0))
    assert.equal(sent.send(server, 0, 1), 1)
    assert.equal(take(asker), 'answer')
    close(server)
    close(asker)
  }
})

test('a socket that does not report local addresses shows the unspecified one', () => {
  const server = open(4, LOCALHOST)
  const asker = connectUdp(4, LOCALHOST, 0, localPort(server), 0)
  ask(asker, 'query')
  const received = new ReceiveBatch({ messages: 2 })
  assert.equal(received.receive(server, 2), 1)
  const [to, port] = [received.sourceAt(0), received.sourcePort(0)]
  const sent = new SendBatch({ messages: 1 })
  sent.set(0, 4, received.u8, to, port, ANY, 0, 0, 0)
  assert.equal(sent.send(server, 0, 1), 1, 'from the unspecified address: the kernel chooses')
  assert.equal(received.receive(asker, 2), 1)
  assert.deepEqual(bytesAt(received.u8, received.destinationAt(0), 6), new Array(16).fill(0))
  assert.equal(received.interfaceIndex(0), 0)
  close(server)
  close(asker)
})

test('a message that can not go out costs only itself: sending goes on behind it', () => {
  const server = open(4, ANY)
  const asker = connectUdp(4, LOCALHOST, 0, localPort(server), 0)
  const port = localPort(asker)
  const sent = new SendBatch()
  const foreign = new Uint8Array([192, 0, 2, 1]) // not ours, and the socket is not transparent
  for (let n = 0; n < 5; n++) {
    sent.u8[sent.packetAt(n)] = 0x30 + n
    sent.set(n, 4, LOCALHOST, 0, port, n === 2 ? foreign : LOCALHOST, 0, 1, 0)
  }
  assert.equal(sent.send(server, 0, 5), 2)
  // Which of the two depends on the machine's routes.
  assert.ok([-EINVAL, -ENETUNREACH].includes(sent.send(server, 2, 3)))
  assert.equal(sent.send(server, 3, 2), 2)
  assert.deepEqual(
    [1, 2, 3, 4].map(() => take(asker)),
    ['0', '1', '3', '4'],
  )
  close(server)
  close(asker)
})

test('a packet past what UDP can carry is refused by its errno', () => {
  const server = open(4, ANY)
  const sent = new SendBatch({ messages: 1, packetBytes: 65_536 })
  sent.set(0, 4, LOCALHOST, 0, 9, LOCALHOST, 0, 65_508, 0)
  assert.equal(sent.send(server, 0, 1), -EMSGSIZE)
  assert.throws(() => sent.set(0, 4, LOCALHOST, 0, 9, LOCALHOST, 0, 65_537, 0), /fits its batch/)
  close(server)
})

test('a server that is not there refuses, and the next call says so', () => {
  const server = open(4, LOCALHOST)
  const asker = connectUdp(4, LOCALHOST, 0, localPort(server), 0)
  close(server)
  ask(asker, 'query')
  assert.equal(take(asker), -ECONNREFUSED)
  assert.equal(take(asker), -EAGAIN)
  close(asker)
})

test('each asker has a port of its own', () => {
  const askers = Array.from({ length: 50 }, () => connectUdp(4, LOCALHOST, 0, 53, 0))
  const ports = askers.map(localPort)
  assert.equal(new Set(ports).size, 50)
  const steps = ports.slice(1).map((port, index) => Math.abs(port - ports[index]!))
  assert.ok(steps.filter((step) => step <= 2).length < 25, `not in order: ${ports.join(' ')}`)
  for (const fd of askers) close(fd)
})

test('a port that is taken is told with what to do about it', () => {
  const server = open(4, LOCALHOST)
  const port = localPort(server)
  const again = (): number => open(4, LOCALHOST, { port })
  assert.throws(again, (error) => {
    assert.ok(error instanceof SocketError)
    assert.equal(error.code, 'EADDRINUSE')
    const start = `open UDP 127.0.0.1:${port}: bind: EADDRINUSE (address already in use); `
    assert.ok(error.message.startsWith(start), error.message)
    return true
  })
  close(server)
})

test('an address that the machine lacks is an error, unless it may be missing', () => {
  const address = new Uint8Array([192, 0, 2, 53])
  assert.throws(() => open(4, address), { code: 'EADDRNOTAVAIL' })
  close(open(4, address, { mayBeMissing: true }))
  const address6 = new Uint8Array([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53])
  const text = /: open UDP \[2001:db8:0:0:0:0:0:53\]:0: bind: EADDRNOTAVAIL /
  assert.throws(() => open(6, address6), text)
  close(open(6, address6, { mayBeMissing: true }))
})

test('a failed opening leaks no descriptor', () => {
  const before = open(4, LOCALHOST)
  for (let n = 0; n < 5; n++) {
    assert.throws(() => open(4, new Uint8Array([192, 0, 2, 53])), SocketError)
  }
  const after = open(4, LOCALHOST)
  assert.equal(after, before + 1)
  close(before)
  close(after)
})

test('the same port for both families, and for two sockets that share it', () => {
  const shared = { isShared: true }
  const one = open(4, ANY, shared)
  const port = localPort(one)
  const other = open(4, ANY, { ...shared, port })
  const six = open(6, ANY6, { port })
  for (const fd of [one, other, six]) close(fd)
})

test('a receive buffer is as large as asked for, or as the machine allows', () => {
  const usual = open(4, LOCALHOST)
  const large = open(4, LOCALHOST, { receiveBufferBytes: 4 * 1024 * 1024 })
  const grown = getOption(large, SOL_SOCKET, SO_RCVBUF)
  assert.ok(grown >= getOption(usual, SOL_SOCKET, SO_RCVBUF))
  if (process.getuid?.() === 0) assert.ok(grown >= 4 * 1024 * 1024, `${grown}`)
  close(usual)
  close(large)
})

for (const family of [4, 6] as const) {
  const localhost = family === 4 ? LOCALHOST : LOCALHOST6
  allocatesNothing(`IPv${family}: a datagram in and its answer out allocate nothing`, () => {
    const server = open(family, family === 4 ? ANY : ANY6)
    const asker = connectUdp(family, localhost, 0, localPort(server), 0)
    const received = new ReceiveBatch()
    const sent = new SendBatch()
    const region = Region.create(512)
    const query = region.pointer(0)
    return () => {
      send(asker, query, 40)
      const count = received.receive(server, 64)
      for (let index = 0; index < count; index++) {
        const [to, from] = [received.sourceAt(index), received.destinationAt(index)]
        const port = received.sourcePort(index) + received.destinationPort(index)
        const bytes = received.isTruncated(index) ? 0 : received.packetBytes(index)
        const at = received.packetAt(index)
        for (let n = 0; n < bytes; n++) sent.u8[sent.packetAt(index) + n] = received.u8[at + n]!
        const link = received.interfaceIndex(index)
        const { u8 } = received
        sent.set(index, received.family(index), u8, to, port, u8, from, bytes, link)
      }
      sent.send(server, 0, count)
      return receive(asker, query, 512)
    }
  })
}

allocatesNothing('a read of an empty socket allocates nothing', () => {
  const server = open(4, LOCALHOST)
  const received = new ReceiveBatch()
  return () => received.receive(server, 64)
})
