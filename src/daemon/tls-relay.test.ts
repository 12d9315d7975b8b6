/** DNS over TLS to upstreams: the worker's streams, the relay, and a real TLS server. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { StreamPair } from '../linux/stream-pair.ts'
import type { Log } from '../log.ts'
import { Asker, type Outcome } from '../upstream/forwarder-fixture.ts'
import type { TlsIdentity } from '../upstream/routes.ts'
import { FLIGHT_UNREACHABLE } from '../upstream/transport.ts'
import { RCODE_NOERROR } from '../wire/header.ts'
import { TEST_CERTIFICATE, TEST_PIN, TlsServer } from './tls-fixture.ts'
import { TlsRelay } from './tls-relay.ts'

const OTHER_PIN = createHash('sha256').update('another key').digest('base64')

/** What is said of upstreams, a line each. */
class Lines {
  readonly lines: string[] = []
  readonly log = {
    info: (_fields: unknown, message: string): void => void this.lines.push(message),
    warn: ({ error }: { error: string }): void => void this.lines.push(error),
  } as unknown as Log
}

function askerOf(port: number, identity: TlsIdentity, said = new Lines()): Asker {
  const address = Uint8Array.of(127, 0, 0, 1)
  const relay = new TlsRelay(said.log)
  const pair = new StreamPair()
  return new Asker([{ family: 4, address, port, transport: 'tls', identity }], '.', (server) => {
    assert.equal(pair.open(), 0)
    relay.connect(pair.far, server)
    return pair.near
  })
}

async function ask(asker: Asker, count: number): Promise<Outcome[]> {
  const flights = Array.from({ length: count }, (_, n) => asker.begin(`n${n}.example.com.`))
  return await asker.end(...flights)
}

test('many questions go over few TLS connections to a server whose key is pinned', async () => {
  using server = await TlsServer.start()
  using asker = askerOf(server.port, { serverName: null, pins: [OTHER_PIN, TEST_PIN] })
  for (let round = 0; round < 3; round++) {
    const outcomes = await ask(asker, 50)
    assert(
      outcomes.every(({ rcode, addressCount }) => rcode === RCODE_NOERROR && addressCount === 1),
    )
  }
  assert(server.connectionCount <= 4, `${server.connectionCount}`)
  assert.equal(server.protocol, 'dot')
})

test('a server with another key gets no question, and it is said once', async () => {
  using server = await TlsServer.start()
  const said = new Lines()
  using asker = askerOf(server.port, { serverName: null, pins: [OTHER_PIN] }, said)
  const [outcome] = await ask(asker, 1)
  assert.equal(outcome!.failure, FLIGHT_UNREACHABLE)
  assert.equal(server.questionCount, 0)
  assert.deepEqual(said.lines, [`the key of the server is ${TEST_PIN}, which is not among pins`])
})

test('a certificate of an authority that nobody trusts gets no question, whatever name it has', async () => {
  using server = await TlsServer.start()
  using asker = askerOf(server.port, { serverName: 'dns.example.net', pins: [] })
  assert.equal((await ask(asker, 1))[0]!.failure, FLIGHT_UNREACHABLE)
  using pinned = askerOf(server.port, { serverName: 'dns.example.net', pins: [TEST_PIN] })
  assert.equal((await ask(pinned, 1))[0]!.failure, FLIGHT_UNREACHABLE)
  assert.equal(server.questionCount, 0)
})

test('of a trusted authority, the certificate must be for the name, or the address, that was given', async () => {
  using server = await TlsServer.start()
  const former = getCACertificates('default')
  setDefaultCACertificates([...former, TEST_CERTIFICATE])
  try {
    for (const serverName of ['dns.example.net', '127.0.0.1']) {
      using asker = askerOf(server.port, { serverName, pins: [] })
      assert.equal((await ask(asker, 1))[0]!.rcode, RCODE_NOERROR, serverName)
    }
    const before = server.questionCount
    for (const serverName of ['other.example.net', '127.0.0.2']) {
      using asker = askerOf(server.port, { serverName, pins: [] })
      assert.equal((await ask(asker, 1))[0]!.failure, FLIGHT_UNREACHABLE, serverName)
    }
    using asker = askerOf(server.port, { serverName: 'dns.example.net', pins: [OTHER_PIN] })
    assert.equal((await ask(asker, 1))[0]!.failure, FLIGHT_UNREACHABLE)
    assert.equal(server.questionCount, before)
  } finally {
    setDefaultCACertificates(former)
  }
})

test('a port where nobody listens is a failure like any other', async () => {
  const server = await TlsServer.start()
  const { port } = server
  server[Symbol.dispose]()
  using asker = askerOf(port, { serverName: null, pins: [TEST_PIN] })
  const [outcome] = await ask(asker, 1)
  assert.equal(outcome!.failure, FLIGHT_UNREACHABLE)
  assert.equal(asker.forwarder.queries, 2)
})
