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

function askerOf(
  port: number,
  known: Partial<TlsIdentity>,
  said = new Lines(),
  relay = new TlsRelay(said.log),
): Asker {
  const address = Uint8Array.of(127, 0, 0, 1)
  const identity = { serverName: null, pins: [], authorities: null, ...known }
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
  using asker = askerOf(server.port, { pins: [OTHER_PIN, TEST_PIN] })
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
  using asker = askerOf(server.port, { pins: [OTHER_PIN] }, said)
  const [outcome] = await ask(asker, 1)
  assert.equal(outcome!.failure, FLIGHT_UNREACHABLE)
  assert.equal(server.questionCount, 0)
  assert.deepEqual(said.lines, [`the key of the server is ${TEST_PIN}, which is not among pins`])
})

test('a certificate of an authority that nobody trusts gets no question, whatever name it has', async () => {
  using server = await TlsServer.start()
  using asker = askerOf(server.port, { serverName: 'dns.example.net' })
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
      using asker = askerOf(server.port, { serverName })
      assert.equal((await ask(asker, 1))[0]!.rcode, RCODE_NOERROR, serverName)
    }
    const before = server.questionCount
    for (const serverName of ['other.example.net', '127.0.0.2']) {
      using asker = askerOf(server.port, { serverName })
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
  using asker = askerOf(port, { pins: [TEST_PIN] })
  const [outcome] = await ask(asker, 1)
  assert.equal(outcome!.failure, FLIGHT_UNREACHABLE)
  assert.equal(asker.forwarder.queries, 2)
})

test('with authorities of its own a server is known by these, and by no others that Node trusts', async () => {
  using server = await TlsServer.start()
  const serverName = 'dns.example.net'
  using asker = askerOf(server.port, { serverName, authorities: TEST_CERTIFICATE })
  assert.equal((await ask(asker, 1))[0]!.rcode, RCODE_NOERROR)
  const former = getCACertificates('default')
  setDefaultCACertificates([...former, TEST_CERTIFICATE])
  try {
    using other = askerOf(server.port, { serverName, authorities: former[0]! })
    assert.equal((await ask(other, 1))[0]!.failure, FLIGHT_UNREACHABLE)
    assert.equal(server.questionCount, 1)
  } finally {
    setDefaultCACertificates(former)
  }
})

test('over TLS questions are padded to a multiple of 128 bytes', async () => {
  using server = await TlsServer.start()
  using asker = askerOf(server.port, { pins: [TEST_PIN] })
  const long = Array.from({ length: 3 }, () => 'a'.repeat(60)).join('.')
  await asker.end(asker.begin('example.com.'), asker.begin(`${long}.example.com.`))
  assert.deepEqual(server.lengths, new Set([128, 256]))
})

/** One connection after the other, with a question on each. */
async function connectTo(
  port: number,
  known: Partial<TlsIdentity>,
  relay: TlsRelay,
  count = 2,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (let connection = 0; connection < count; connection++) {
    using asker = askerOf(port, known, new Lines(), relay)
    outcomes.push(...(await ask(asker, 1)))
  }
  return outcomes
}

test('a further connection to a server that was known goes on with its session', async () => {
  using server = await TlsServer.start()
  for (const known of [
    { pins: [TEST_PIN] },
    { serverName: 'dns.example.net', authorities: TEST_CERTIFICATE, pins: [TEST_PIN] },
  ]) {
    const { resumedCount } = server
    await connectTo(server.port, known, new TlsRelay(new Lines().log))
    assert.equal(server.resumedCount, resumedCount + 1)
  }
  assert.equal(server.questionCount, 4)
})

test('a session serves no other identity than the one that its server was known by', async () => {
  using server = await TlsServer.start()
  const relay = new TlsRelay(new Lines().log)
  await connectTo(server.port, { pins: [TEST_PIN] }, relay)
  const [outcome] = await connectTo(server.port, { pins: [OTHER_PIN] }, relay)
  assert.equal(outcome!.failure, FLIGHT_UNREACHABLE)
  const named = { serverName: 'other.example.net', authorities: TEST_CERTIFICATE }
  assert.equal((await connectTo(server.port, named, relay))[0]!.failure, FLIGHT_UNREACHABLE)
  assert.deepEqual([server.questionCount, server.resumedCount], [2, 1])
})

test('after an hour of sessions a server shows its certificate again', async () => {
  using server = await TlsServer.start()
  let nowMs = 0
  const relay = new TlsRelay(new Lines().log, () => nowMs)
  const known = { pins: [TEST_PIN] }
  await connectTo(server.port, known, relay)
  assert.equal(server.resumedCount, 1)
  nowMs = 3_600_000
  await connectTo(server.port, known, relay, 1)
  assert.equal(server.resumedCount, 1)
})
