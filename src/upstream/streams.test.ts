/** Connections to upstreams that are kept and shared, over real sockets. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { Region } from '../linux/region.ts'
import { localPort, receive, send } from '../linux/socket.ts'
import { listenTcp, TcpAcceptor } from '../linux/tcp.ts'
import { RCODE_NOERROR } from '../wire/header.ts'
import { type Asked, Asker, answers, answerTo, HotAsker, TestServer } from './forwarder-fixture.ts'
import { FLIGHT_TIMEOUT, FLIGHT_UNREACHABLE } from './transport.ts'

/** Begins to ask for n0.example.com, n1 … */
function begin(asker: Asker, count: number, label = 'n'): number[] {
  return Array.from({ length: count }, (_, index) => asker.begin(`${label}${index}.example.com.`))
}

function areAnswered(outcomes: readonly { readonly rcode: number | null }[]): boolean {
  return outcomes.every(({ rcode }) => rcode === RCODE_NOERROR)
}

test('questions that are asked one after the other go over one connection', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  for (let round = 0; round < 20; round++) {
    assert.equal((await asker.ask('api.example.com.')).rcode, RCODE_NOERROR)
  }
  assert.equal(server.connections.length, 1)
})

test('many questions go over few connections, and answers in any order find theirs', async () => {
  const waiting: Asked[] = []
  using server = await TestServer.start((asked) => {
    waiting.push(asked)
    if (waiting.length < 200) return
    for (const one of waiting.splice(0).toReversed()) one.say(answerTo(one))
  })
  using asker = new Asker([server.as('tcp')])
  const outcomes = await asker.end(...begin(asker, 200))
  assert(areAnswered(outcomes))
  assert(outcomes.every(({ addressCount }) => addressCount === 1))
  assert(server.connections.length <= 4, `${server.connections.length} connections`)
  assert.equal(asker.health(0).failures, 0)
})

test('a connection that its server closed while it was idle is no failure of the server', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  await asker.ask('one.example.com.')
  // The server closes in the moment in which the next question is on its way.
  server.react = ({ connection }) => {
    connection!.destroy()
    server.react = answers
  }
  assert.equal((await asker.ask('two.example.com.')).rcode, RCODE_NOERROR)
  assert.deepEqual(server.asked.slice(1), ['two.example.com.', 'two.example.com.'])
  assert.equal(asker.health(0).failures, 0)
  assert.equal(server.connections.length, 2)
})

test('a server that closes each connection after one answer is asked each question a bounded number of times', async () => {
  using server = await TestServer.start((asked) => {
    asked.say(answerTo(asked))
    asked.connection!.end()
  })
  using asker = new Asker([server.as('tcp')])
  for (let round = 0; round < 5; round++) {
    assert.equal((await asker.ask(`r${round}.example.com.`)).rcode, RCODE_NOERROR)
  }
  assert(server.asked.length <= 10)
})

test('a server that closes at once without an answer has failed', async () => {
  using server = await TestServer.start(({ connection }) => connection!.destroy())
  using asker = new Asker([server.as('tcp')])
  const { failure } = await asker.ask('api.example.com.')
  assert.equal(failure, FLIGHT_UNREACHABLE)
  assert.equal(server.asked.length, 2)
  // Whoever has failed is probed, sometimes before the question's second try has ended.
  await asker.until(() => asker.channels.streams.count === 0)
  assert.equal(asker.health(0).failures - asker.forwarder.probes, 2)
})

test('a reply to another question ends its connection, and others on it are asked again', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  await asker.ask('first.example.com.')
  const waiting: Asked[] = []
  server.react = (asked) => {
    waiting.push(asked)
    if (waiting.length < 2) return
    server.react = answers
    asked.say(answerTo({ bytes: asked.bytes, name: 'forged.example.net.' }))
    for (const one of waiting) one.say(answerTo(one, { answers: ['forged. 300 IN A 192.0.2.66'] }))
  }
  const outcomes = await asker.end(...begin(asker, 2))
  assert(areAnswered(outcomes))
  assert(outcomes.every(({ addressCount }) => addressCount === 1))
  assert.equal(server.connections.length, 2)
  assert.equal(asker.forwarder.mismatches, 1)
})

test('a reply with an ID that was not asked on its connection ends it', async () => {
  using server = await TestServer.start((asked) => {
    const wrong = answerTo(asked)
    wrong[0]! ^= 0x55
    asked.say(wrong)
  })
  using asker = new Asker([server.as('tcp')])
  assert.equal((await asker.ask('api.example.com.')).failure, FLIGHT_UNREACHABLE)
  assert.equal(server.asked.length, 2)
  const { streams } = asker.channels
  await asker.until(() => streams.count === 0)
  assert.equal(streams.mismatches, streams.openedCount, 'one is enough, and probes get one too')
})

test('an answer that comes twice on a connection harms nobody', async () => {
  using server = await TestServer.start((asked) => {
    asked.say(answerTo(asked))
    asked.say(answerTo(asked))
  })
  using asker = new Asker([server.as('tcp')])
  for (let round = 0; round < 5; round++) {
    assert.equal((await asker.ask(`r${round}.example.com.`)).rcode, RCODE_NOERROR)
  }
  assert.equal(asker.health(0).failures, 0)
})

test('a late answer is dropped, and its connection goes on', async () => {
  const late: Asked[] = []
  using server = await TestServer.start((asked) => {
    if (asked.name.startsWith('slow') && late.push(asked) === 1) return
    asked.say(answerTo(asked))
  })
  using asker = new Asker([server.as('tcp')])
  const slow = asker.begin('slow.example.com.')
  await asker.until(() => late.length === 1)
  asker.skippedMs += 500
  await asker.ask('quick.example.com.')
  asker.skippedMs += 600
  assert(areAnswered(await asker.end(slow)))
  late[0]!.say(answerTo(late[0]!))
  assert.equal((await asker.ask('other.example.com.')).rcode, RCODE_NOERROR)
  assert.equal(server.connections.length, 1)
  assert.equal(asker.channels.streams.mismatches, 0)
})

test('a connection that says nothing for a second gets no further question', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  await asker.ask('one.example.com.')
  const silent = server.connections[0]!
  server.react = (asked) => {
    if (asked.connection !== silent) answers(asked)
  }
  const flight = asker.begin('two.example.com.')
  await asker.until(() => server.asked.length === 2)
  asker.skippedMs += 1000
  assert(areAnswered(await asker.end(flight)))
  assert.equal(server.connections.length, 2)
  assert.equal(asker.channels.streams.count, 1)
})

test('a connection that is idle is closed, and so is an old one, as soon as nobody waits on it', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  await asker.ask('one.example.com.')
  asker.skippedMs += 5100
  await asker.until(() => asker.channels.streams.count === 0)
  // 96 s, and the one that is used lives for 30 to 63 of them.
  for (let round = 0; round < 24; round++) {
    await asker.ask(`r${round}.example.com.`)
    asker.skippedMs += 4000
  }
  assert(server.connections.length >= 3, 'old ones gave way to new ones')
  assert(server.connections.length <= 5)
})

test('an answer of 64 KiB in pieces arrives whole, between small ones', async () => {
  using server = await TestServer.start((asked) => {
    if (!asked.name.startsWith('n3.')) {
      answers(asked)
      return
    }
    const many = Array.from(
      { length: 3900 },
      (_, index) => `n3.example.com. 300 IN A 192.0.${2 + (index >> 8)}.${index & 0xff}`,
    )
    asked.say(answerTo(asked, { answers: many }))
  })
  using asker = new Asker([server.as('tcp')])
  assert(areAnswered(await asker.end(...begin(asker, 8))))
  assert.equal(asker.health(0).failures, 0)
})

test('a server that takes connections and is silent costs 5 s, and leaves no connection', async () => {
  using server = await TestServer.start(() => {})
  using asker = new Asker([server.as('tcp')])
  const flights = begin(asker, 50)
  await asker.until(() => server.asked.length === 50)
  for (let step = 0; step < 5; step++) {
    asker.skippedMs += 1000
    await asker.turn()
    await asker.turn()
  }
  const outcomes = await asker.end(...flights)
  assert(outcomes.every(({ failure }) => failure === FLIGHT_TIMEOUT))
  assert.equal(server.asked.length, 100)
  assert(asker.channels.streams.count <= 1, 'that of a probe')
})

test('a server that truncates is asked again over TCP, where one connection serves many', async () => {
  using server = await TestServer.start((asked) => {
    if (asked.connection !== null) answers(asked)
    else asked.say(answerTo(asked, { flags: 0x8380, answers: [] }))
  })
  using asker = new Asker([server.as('udp')])
  for (let round = 0; round < 10; round++) {
    assert.equal((await asker.ask(`r${round}.example.com.`)).rcode, RCODE_NOERROR)
  }
  assert.equal(server.connections.length, 1)
  assert.equal(server.asked.length, 20)
})

test('the number of connections is bounded over all servers, and a question goes where room is', async () => {
  using server = await TestServer.start(answers)
  const servers = Array.from({ length: 31 }, () => server.as('tcp'))
  using asker = new Asker(servers)
  for (let round = 0; round < 3; round++) {
    assert(areAnswered(await asker.end(...begin(asker, 300, `r${round}-`))))
  }
  assert(asker.channels.streams.count <= 64)
})

allocatesNothing('a question and its answer on a kept connection allocate nothing', () => {
  const address = Uint8Array.of(127, 0, 0, 1)
  const listener = listenTcp({ family: 4, address, port: 0, isTransparent: false })
  const asker = new HotAsker(localPort(listener), 'tcp')
  const memory = Region.create(512)
  const start = memory.pointer(0)
  const acceptor = new TcpAcceptor()
  let accepted = -1
  const serve = (): void => {
    if (accepted < 0) accepted = acceptor.accept(listener)
    const bytes = receive(accepted, start, memory.bytes)
    if (bytes <= 0) return
    memory.u8[4]! |= 0x80 // the question itself, said to be a response
    send(accepted, start, bytes)
  }
  return () => asker.ask(serve)
})
