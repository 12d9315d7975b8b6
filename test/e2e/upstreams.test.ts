/**
 * A running proxy and upstreams that are more than a datagram there and back: TLS, and one that
 * forwards to us. Needs no root.
 */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { TEST_PIN, TlsServer } from '../../src/daemon/tls-fixture.ts'
import { answerTo } from '../../src/upstream/forwarder-fixture.ts'
import { EDE_NETWORK_ERROR, RCODE_NOERROR, RCODE_SERVFAIL } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatName } from '../../src/wire/text.ts'
import { LoneProxy, LOOPBACK } from '../support/e2e-lone.ts'

function question(id: number, name: string): Uint8Array {
  return buildMessage({ id, question: `${name} A`, edns: {} })
}

test('a proxy asks its upstream over TLS, on few connections, and shows it', async () => {
  using server = await TlsServer.start()
  await using proxy = await LoneProxy.start({
    upstream: `${LOOPBACK}:${server.port}`,
    settings: `transport: tls, pins: ["${TEST_PIN}"]`,
  })
  for (let id = 1; id <= 20; id++) {
    const reply = await proxy.ask(question(id, `n${id}.example.com.`))
    assert.equal(parseMessage(reply!)!.rcode, RCODE_NOERROR)
    // The upstream's padding was for that connection: our OPT record has no options.
    assert.deepEqual([...reply!.slice(-2)], [0, 0])
  }
  assert.deepEqual([...server.lengths], [128])
  // One; a few when the first handshake took longer than a try.
  assert(server.connectionCount <= 4, `${server.connectionCount}`)
  const { upstreams, degraded } = await proxy.status()
  assert.deepEqual(degraded, [])
  assert.deepEqual([upstreams[0]!.transport, upstreams[0]!.state], ['tls', 'well'])
})

test('what is no question goes over TLS too, byte for byte, there and back', async () => {
  using server = await TlsServer.start()
  await using proxy = await LoneProxy.start({
    upstream: `${LOOPBACK}:${server.port}`,
    settings: `transport: tls, pins: ["${TEST_PIN}"]`,
  })
  const notify = '24000001000000000000076578616d706c6503636f6d0000060001'
  const reply = await proxy.ask(Buffer.from(`1234${notify}`, 'hex'), 5000)
  assert.equal(Buffer.from(reply!).toString('hex'), `1234a4${notify.slice(2)}`)
  // A signature is over all of it: nothing may be added, not even padding.
  assert(server.lengths.has(2 + notify.length / 2), `${[...server.lengths]}`)
})

test('a proxy finds out that its upstream forwards to it, says so, and asks it again when it does not', async () => {
  // A forwarder as people run them: whatever it is asked it asks the proxy.
  let port = 0
  let isLoop = true
  const forwarder = createSocket('udp4')
  forwarder.on('message', (query, from) => {
    const say = (reply: Uint8Array): void => forwarder.send(reply, from.port, from.address)
    if (!isLoop) {
      say(answerTo({ bytes: query, name: formatName(parseMessage(query)!.question!.name) }))
      return
    }
    if (port === 0) return // the proxy is just starting
    const socket = createSocket('udp4')
    socket.on('message', (reply) => say(reply))
    socket.send(query, port, LOOPBACK)
    setTimeout(() => socket.close(), 5000).unref()
  })
  forwarder.bind(0, LOOPBACK)
  await once(forwarder, 'listening')
  try {
    await using proxy = await LoneProxy.start({
      upstream: `${LOOPBACK}:${forwarder.address().port}`,
    })
    port = proxy.port
    const reply = parseMessage((await proxy.ask(question(1, 'one.example.com.'), 3000))!)!
    assert.deepEqual([reply.rcode, reply.edns?.ede], [RCODE_SERVFAIL, EDE_NETWORK_ERROR])
    const { upstreams, degraded, counters } = await proxy.status()
    assert.equal(upstreams[0]!.state, 'loop')
    assert(degraded.some(({ code }) => code === 'upstream-loop'))
    assert(counters['queries']! < 20, 'nothing goes round and round')
    isLoop = false
    for (let id = 2; ; id++) {
      const later = parseMessage((await proxy.ask(question(id, 'two.example.com.')))!)!
      if (later.rcode === RCODE_NOERROR) break
      assert(id < 60, 'it is found out within 3 s')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  } finally {
    forwarder.close()
  }
})
