import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { attribute, concatBytes } from './netlink.ts'
import { parseLogged } from './nflog.ts'

const TIMESTAMP = 3
const INDEV = 4
const PAYLOAD = 9
const PREFIX = 10

function logged(packet: Uint8Array): ReturnType<typeof parseLogged> {
  const message = concatBytes(
    attribute(INDEV, Uint8Array.of(0, 0, 1, 2)),
    attribute(PREFIX, new TextEncoder().encode('namegate denied source\0')),
    attribute(PAYLOAD, packet),
  )
  return parseLogged(message, 0, message.length)
}

function v4(protocol: number, options: number, ...transport: number[]): Uint8Array {
  const header = new Uint8Array(20 + options)
  header[0] = 0x40 | ((20 + options) >> 2)
  header[9] = protocol
  header.set([10, 0, 0, 7, 192, 0, 2, 1], 12)
  return concatBytes(header, Uint8Array.from(transport))
}

function v6(next: number, ...rest: number[]): Uint8Array {
  const header = new Uint8Array(40)
  header[0] = 0x60
  header[6] = next
  header[23] = 7
  header[39] = 1
  return concatBytes(header, Uint8Array.from(rest))
}

const TCP_SYN = [0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2]

test('prefix, interface, addresses, ports and flags of a TCP packet are read', () => {
  assert.deepEqual(logged(v4(6, 0, ...TCP_SYN)), {
    prefix: 'namegate denied source',
    timeMs: null,
    interfaceIndex: 258,
    family: 4,
    source: Uint8Array.of(10, 0, 0, 7),
    destination: Uint8Array.of(192, 0, 2, 1),
    protocol: 6,
    sourcePort: 40000,
    destinationPort: 80,
    tcpFlags: 2,
  })
})

test('a packet says when it came in, however late it is read', () => {
  const seconds = [0, 0, 0, 0, 0x6a, 0xff, 0, 1]
  const microseconds = [0, 0, 0, 0, 0, 7, 0xa1, 0x20] // 500,000
  const message = concatBytes(
    attribute(TIMESTAMP, Uint8Array.from([...seconds, ...microseconds])),
    attribute(PREFIX, new TextEncoder().encode('namegate denied source\0')),
    attribute(PAYLOAD, v4(6, 0, ...TCP_SYN)),
  )
  assert.equal(parseLogged(message, 0, message.length)?.timeMs, 0x6aff0001 * 1000 + 500)
})

test('IPv4 options and IPv6 extension headers are stepped over', () => {
  assert.equal(logged(v4(6, 8, ...TCP_SYN))?.destinationPort, 80)
  const destinationOptions = [6, 0, 1, 4, 0, 0, 0, 0]
  const packet = logged(v6(60, ...destinationOptions, ...TCP_SYN))
  assert.deepEqual([packet?.protocol, packet?.destinationPort, packet?.tcpFlags], [6, 80, 2])
})

test('a packet that was cut, or has no ports, has none', () => {
  assert.equal(logged(v4(6, 0, 0x9c, 0x40))?.destinationPort, 0)
  assert.equal(logged(v4(6, 0, 0x9c, 0x40, 0, 80))?.tcpFlags, 0)
  assert.equal(logged(v4(1, 0, 8, 0, 0, 0))?.sourcePort, 0)
  assert.equal(logged(Uint8Array.of(0x45, 0, 0)), null)
  assert.equal(logged(Uint8Array.of()), null)
  assert.equal(logged(Uint8Array.from({ length: 40 }, () => 0x95)), null)
})

test('random packets are read or refused, never beyond their end', () => {
  const packets = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.uint8Array({ maxLength: 120 }).map((rest) => v6(0, ...rest)),
  )
  fc.assert(
    fc.property(packets, (packet) => {
      const read = logged(packet)
      if (read !== null) assert.ok(read.source.length === (read.family === 4 ? 4 : 16))
    }),
  )
})
