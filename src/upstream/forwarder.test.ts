/** Servers that are ill in one way or another, over real sockets. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { localPort } from '../linux/socket.ts'
import { ReceiveBatch, SendBatch } from '../linux/udp-batch.ts'
import { openUdp } from '../linux/udp.ts'
import {
  FLAG_QR,
  FLAG_RA,
  RCODE_FORMERR,
  RCODE_NOERROR,
  RCODE_REFUSED,
  RCODE_SERVFAIL,
} from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'
import { parseName } from '../wire/text.ts'
import {
  Asker,
  answers,
  answerTo,
  HotAsker,
  type Reaction,
  TestServer,
} from './forwarder-fixture.ts'
import { FLIGHT_FULL, FLIGHT_LOOP, FLIGHT_TIMEOUT, FLIGHT_UNREACHABLE } from './transport.ts'

const silent: Reaction = () => {}

/** Lets time pass in steps of `stepMs`, each with a few turns. */
async function pass(asker: Asker, ms: number, stepMs = 100): Promise<void> {
  for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
    asker.skippedMs += stepMs
    for (let turn = 0; turn < 3; turn++) await asker.turn()
  }
}

test('servers that refuse at once are asked twice each, and no more', async () => {
  using one = await TestServer.start(answers)
  using two = await TestServer.start(answers)
  one.close()
  two.close()
  using asker = new Asker([one.as('udp'), two.as('udp')])
  const { failure, afterMs } = await asker.ask('api.example.com.')
  assert.equal(failure, FLIGHT_UNREACHABLE)
  assert(afterMs < 500)
  assert.equal(asker.forwarder.queries, 4)
  using overTcp = new Asker([one.as('tcp'), two.as('tcp')])
  assert.equal((await overTcp.ask('api.example.com.')).failure, FLIGHT_UNREACHABLE)
  assert.equal(overTcp.forwarder.queries, 4)
})

test('a question in clear text is not padded: it would hide nothing', async () => {
  const lengths: number[] = []
  using server = await TestServer.start((asked) => {
    lengths.push(asked.bytes.length)
    answers(asked)
  })
  for (const transport of ['udp', 'tcp'] as const) {
    using asker = new Asker([server.as(transport)])
    await asker.ask('api.example.com.')
  }
  const bytes = 12 + 'xapi.example.com.'.length + 4 + 11
  assert.deepEqual(lengths, [bytes, bytes])
})

test('a server that is dead for a minute costs one probe a second, and nothing grows', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('udp')])
  const flight = asker.begin('api.example.com.')
  await pass(asker, 6000)
  assert.equal((await asker.end(flight))[0]!.failure, FLIGHT_TIMEOUT)
  const before = asker.forwarder.probes
  await pass(asker, 60_000)
  const probes = asker.forwarder.probes - before
  assert(probes >= 50 && probes <= 61, `${probes} probes`)
  assert.equal(asker.health(0).inFlight, 1, 'the probe under way')
  assert.equal(asker.forwarder.queries, 2)
})

test('a server that returns is found by a probe within a second, though nobody asks', async () => {
  using ill = await TestServer.start(silent)
  using other = await TestServer.start(answers)
  using asker = new Asker([ill.as('udp'), other.as('udp')])
  const flight = asker.begin('api.example.com.')
  await pass(asker, 1200)
  assert.equal((await asker.end(flight))[0]!.rcode, RCODE_NOERROR)
  assert(asker.health(0).isPaused)
  ill.react = answers
  await pass(asker, 1100)
  assert(!asker.health(0).isPaused)
  const { length } = ill.probed
  await pass(asker, 3000)
  assert.equal(ill.probed.length, length, 'a server that is well is not probed')
  assert.equal(other.probed.length, 0)
})

test('no two probes ask for the same name, and each asks below the zone', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('tcp')], 'example.net.')
  asker.begin('api.example.net.')
  await pass(asker, 6000)
  const probes = server.probed
  assert(probes.length >= 4)
  assert.equal(new Set(probes).size, probes.length)
  for (const name of probes) assert.match(name, /^[0-9a-f]{32}\.example\.net\.$/)
})

test('a server that hands our questions back is left out until it answers by itself', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('udp')])
  const { forwarder } = asker
  let isLoop = true
  // It forwards to us: what is no probe waits there for its own answer, as it does here.
  server.react = (asked) => {
    const name = parseName(asked.name)
    if (!isLoop) answers(asked)
    else if (forwarder.isReturned(name, 0, name.length)) {
      asked.say(answerTo(asked, { rcode: RCODE_SERVFAIL, answers: [] }))
    }
  }
  const flight = asker.begin('api.example.com.')
  await pass(asker, 1200)
  assert.equal((await asker.end(flight))[0]!.failure, FLIGHT_LOOP)
  assert(asker.health(0).isLoop)
  const asked = server.asked.length
  const again = await asker.ask('other.example.com.')
  assert.deepEqual([again.failure, again.afterMs < 100], [FLIGHT_LOOP, true])
  assert.equal(server.asked.length, asked, 'not asked at all')
  await pass(asker, 2000)
  assert(asker.health(0).isLoop, 'an answer that came from us proves nothing')
  isLoop = false
  await pass(asker, 2100)
  assert(!asker.health(0).isLoop)
  assert.equal((await asker.ask('third.example.com.')).rcode, RCODE_NOERROR)
})

test('what a client can guess is not taken for a question of ours', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('udp')])
  asker.begin('api.example.com.')
  await pass(asker, 1200)
  const guesses = ['.', 'api.example.com.', `${'0'.repeat(32)}.`, `${'f'.repeat(32)}.example.com.`]
  for (const guess of guesses) {
    const name = parseName(guess)
    assert(!asker.forwarder.isReturned(name, 0, name.length), guess)
  }
  assert(!asker.health(0).isLoop)
})

test('a server that refuses quickly does not attract the questions', async () => {
  using unwilling = await TestServer.start((asked) =>
    asked.say(answerTo(asked, { rcode: RCODE_REFUSED, answers: [] })),
  )
  using other = await TestServer.start(answers)
  using asker = new Asker([unwilling.as('udp'), other.as('udp')])
  for (let round = 0; round < 50; round++) {
    assert.equal((await asker.ask(`r${round}.example.com.`)).rcode, RCODE_NOERROR)
  }
  assert(unwilling.asked.length <= 4, `${unwilling.asked.length}`)
})

test('one group never has all flights', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('udp')])
  const flights = Array.from({ length: 512 }, (_, index) => asker.begin(`n${index}.example.com.`))
  await asker.turn()
  const outcomes = await asker.end(...flights.slice(0, 128))
  assert(outcomes.every(({ failure }) => failure === FLIGHT_FULL))
  await pass(asker, 6000, 500)
  const others = await asker.end(...flights.slice(128))
  assert(others.every(({ failure }) => failure === FLIGHT_TIMEOUT))
  server.react = answers
  assert.equal((await asker.ask('api.example.com.')).rcode, RCODE_NOERROR)
})

test('the question goes out in random case, and over TCP in lower case', async () => {
  const asked: string[] = []
  using server = await TestServer.start((question) => {
    asked.push(question.name)
    answers(question)
  })
  using asker = new Asker([server.as('udp')])
  for (let round = 0; round < 10; round++) await asker.ask('a-long-name.example.com.')
  assert.equal(new Set(asked).size, 10)
  using overTcp = new Asker([server.as('tcp')])
  await overTcp.ask('a-long-name.example.com.')
  assert.equal(asked.at(-1), 'a-long-name.example.com.')
})

test('a server that does not keep the case is asked over TCP, and soon in lower case', async () => {
  using server = await TestServer.start((asked) =>
    asked.say(answerTo({ ...asked, name: asked.name.toLowerCase() })),
  )
  using asker = new Asker([server.as('udp')])
  for (let round = 0; round < 6; round++) {
    const { rcode, afterMs } = await asker.ask(`a-long-name-${round}.example.com.`)
    assert.equal(rcode, RCODE_NOERROR)
    assert(afterMs < 500, `${afterMs} ms`)
  }
  assert.equal(server.connections.length, 1)
  assert.equal(server.asked.length, 3 * 2 + 3)
  assert.equal(asker.health(0).failures, 0)
})

test('a server that does not know EDNS is asked without', async () => {
  using server = await TestServer.start((asked) => {
    const { id, edns } = parseMessage(asked.bytes)!
    const reply = { id, flags: FLAG_QR | FLAG_RA, question: `${asked.name} A` }
    const answer = `${asked.name} 300 IN A 192.0.2.10`
    const rest = edns === null ? { answers: [answer] } : { rcode: RCODE_FORMERR }
    asked.say(buildMessage({ ...reply, ...rest }))
  })
  for (const transport of ['udp', 'tcp'] as const) {
    using asker = new Asker([server.as(transport)])
    const before = server.asked.length
    for (const name of ['one.example.com.', 'two.example.com.']) {
      const { rcode, addressCount } = await asker.ask(name)
      assert.deepEqual([rcode, addressCount], [RCODE_NOERROR, 1])
    }
    assert.equal(server.asked.length - before, 3)
  }
})

allocatesNothing('a question and its answer over UDP allocate nothing', () => {
  const address = Uint8Array.of(127, 0, 0, 1)
  const socket = openUdp({ family: 4, address, port: 0, isTransparent: false })
  const asker = new HotAsker(localPort(socket), 'udp')
  const received = new ReceiveBatch()
  const sent = new SendBatch()
  const serve = (): void => {
    const count = received.receive(socket, 1)
    if (count <= 0) return
    const { u8 } = received
    const [at, bytes] = [received.packetAt(0), received.packetBytes(0)]
    for (let n = 0; n < bytes; n++) sent.u8[sent.packetAt(0) + n] = u8[at + n]!
    sent.u8[sent.packetAt(0) + 2]! |= 0x80 // the question itself, said to be a response
    const port = received.sourcePort(0)
    sent.set(0, 4, u8, received.sourceAt(0), port, u8, received.destinationAt(0), bytes, 0)
    sent.send(socket, 0, 1)
  }
  return () => asker.ask(serve)
})
