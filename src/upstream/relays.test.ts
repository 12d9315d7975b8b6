/** Messages of other opcodes on their way to servers and back, over real sockets. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  FLAG_QR,
  FLAGS_AT,
  OPCODE_MASK,
  OPCODE_SHIFT,
  RCODE_NOERROR,
  RCODE_REFUSED,
} from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'
import { putU16 } from '../wire/bytes.ts'
import {
  type Asked,
  Asker,
  answers,
  answerTo,
  type Reaction,
  TestServer,
} from './forwarder-fixture.ts'
import { RELAYS_MAX } from './relays.ts'
import { FLIGHT_TIMEOUT, FLIGHT_UNREACHABLE } from './transport.ts'

const NOTIFY = 4
const UPDATE = 5

/** Of `bytes` bytes or a few more. */
function message(opcode: number, bytes = 0): Uint8Array {
  const text = `big.example.com. 0 TXT "${'x'.repeat(200)}"`
  return buildMessage({
    id: 0x1234,
    flags: opcode << OPCODE_SHIFT,
    question: 'Example.com. SOA',
    authority: Array.from({ length: Math.ceil(bytes / 200) }, () => text),
  })
}

/** What the server was sent, with a bit that says that it is a reply. */
function echo({ bytes, say }: Asked): void {
  const reply = bytes.slice()
  reply[FLAGS_AT]! |= FLAG_QR >> 8
  say(reply)
}
const silent: Reaction = () => {}

/** Time passes, with a few turns in each second. */
async function pass(asker: Asker, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    asker.skippedMs += 1000
    for (let turn = 0; turn < 5; turn++) await asker.turn()
  }
}

test('a message and its reply pass as they are, but for the ID', async () => {
  for (const [transport, bytes] of [
    ['udp', 0],
    ['udp', 1200],
    ['tcp', 0],
    ['tcp', 60_000],
  ] as const) {
    const seen: Uint8Array[] = []
    using server = await TestServer.start((asked) => {
      seen.push(asked.bytes)
      assert.equal(asked.connection === null, transport === 'udp')
      echo(asked)
    })
    using asker = new Asker([server.as('udp')])
    const sent = message(UPDATE, bytes)
    const reply = await asker.relay(3, sent, transport === 'tcp')
    assert(reply instanceof Uint8Array)
    assert.deepEqual(seen[0]!.subarray(2), sent.subarray(2))
    assert.notDeepEqual(seen[0]!.subarray(0, 2), sent.subarray(0, 2), 'an ID that nobody can guess')
    assert.equal(reply[FLAGS_AT], sent[FLAGS_AT]! | (FLAG_QR >> 8))
    assert.deepEqual(reply.subarray(3), sent.subarray(3))
    assert.equal(asker.forwarder.queries, 0, 'it is no question')
  }
})

test('to a server that is asked over TCP alone a datagram goes by TCP', async () => {
  using server = await TestServer.start(echo)
  using asker = new Asker([server.as('tcp')])
  assert((await asker.relay(0, message(NOTIFY))) instanceof Uint8Array)
  assert.equal(server.connections.length, 1)
})

test('what is no response of the same opcode with our ID is no reply', async () => {
  using server = await TestServer.start((asked) => {
    const { bytes, say } = asked
    say(bytes)
    say(answerTo(asked))
    const otherId = bytes.slice()
    otherId[0]! ^= 1
    otherId[FLAGS_AT]! |= FLAG_QR >> 8
    say(otherId)
    say(bytes.subarray(0, 11))
    echo(asked)
  })
  using asker = new Asker([server.as('udp')])
  const reply = await asker.relay(0, message(NOTIFY))
  assert(reply instanceof Uint8Array)
  assert.equal(
    parseMessage(reply)!.flags & (FLAG_QR | OPCODE_MASK),
    FLAG_QR | (NOTIFY << OPCODE_SHIFT),
  )
  assert.equal(asker.forwarder.mismatches, 4)
})

test('after eight replies to something else somebody is guessing, and nothing is believed', async () => {
  using server = await TestServer.start((asked) => {
    for (let id = 1; id <= 8; id++) {
      const guess = asked.bytes.slice()
      guess[0]! ^= id
      asked.say(guess)
    }
    echo(asked)
  })
  using asker = new Asker([server.as('udp')])
  assert.equal(await asker.relay(0, message(UPDATE)), FLIGHT_UNREACHABLE)
})

test('over TCP a wrong reply ends it', async () => {
  using server = await TestServer.start((asked) => asked.say(answerTo(asked)))
  using asker = new Asker([server.as('udp')])
  assert.equal(await asker.relay(0, message(UPDATE), true), FLIGHT_UNREACHABLE)
  assert.equal(server.asked.length, 1)
})

test('a server that says nothing to it is asked once, and is not ill for that', async () => {
  using server = await TestServer.start(silent)
  using other = await TestServer.start(silent)
  using asker = new Asker([server.as('udp'), other.as('udp')])
  for (const isTcp of [false, true]) {
    assert(asker.forwarder.relay(Number(isTcp), 0, message(UPDATE), 0, 29, isTcp, asker.nowMs))
  }
  await asker.until(() => server.asked.length === 2)
  await pass(asker, 4)
  assert.equal(asker.relayed.size, 0)
  await pass(asker, 2)
  assert.deepEqual([...asker.relayed.values()], [FLIGHT_TIMEOUT, FLIGHT_TIMEOUT])
  assert.deepEqual([server.asked.length, other.asked.length], [2, 0])
  assert(!asker.health(0).isPaused)
  assert.equal(asker.channels.streams.count, 0)
})

test('a server that nobody listens at is told apart at once', async () => {
  using server = await TestServer.start(silent)
  server.close()
  using asker = new Asker([server.as('udp')])
  for (const isTcp of [false, true]) {
    assert.equal(await asker.relay(Number(isTcp), message(UPDATE), isTcp), FLIGHT_UNREACHABLE)
  }
  assert(!asker.health(0).isPaused)
})

test('what a server says is passed on, whatever it says, and no other is asked', async () => {
  const refuses: Reaction = ({ bytes, say }) =>
    say(
      buildMessage({
        flags: FLAG_QR | (UPDATE << OPCODE_SHIFT),
        question: null,
        rcode: RCODE_REFUSED,
        id: parseMessage(bytes)!.id,
      }),
    )
  using server = await TestServer.start(refuses)
  using other = await TestServer.start(echo)
  using asker = new Asker([server.as('udp'), other.as('udp')])
  const reply = await asker.relay(0, message(UPDATE))
  assert(reply instanceof Uint8Array)
  assert.equal(parseMessage(reply)!.rcode, RCODE_REFUSED)
  assert.equal(other.asked.length, 0)
})

test('over TCP each has a connection for itself, which ends with it', async () => {
  using server = await TestServer.start(answers)
  using asker = new Asker([server.as('tcp')])
  await asker.ask('api.example.com.')
  server.react = echo
  assert((await asker.relay(0, message(UPDATE))) instanceof Uint8Array)
  assert.equal(server.connections.length, 2)
  assert.equal(asker.channels.streams.count, 1, 'the one for questions')
  // Its server closes it in the middle: it may have been done, and is not sent again.
  server.react = ({ connection }) => connection!.destroy()
  assert.equal(await asker.relay(1, message(UPDATE)), FLIGHT_UNREACHABLE)
  assert.equal(server.asked.length, 3)
  server.react = answers
  assert.equal((await asker.ask('www.example.com.')).rcode, RCODE_NOERROR)
})

test('they are bounded, and questions do not lack connections for them', async () => {
  using server = await TestServer.start(silent)
  using asker = new Asker([server.as('udp')])
  const { forwarder } = asker
  const one = message(UPDATE)
  const relay = (slot: number, isTcp: boolean): boolean =>
    forwarder.relay(slot, 0, one, 0, one.length, isTcp, asker.nowMs)
  let byTcp = 0
  while (relay(byTcp, true)) byTcp++
  assert.equal(byTcp, 16)
  for (let slot = byTcp; slot < RELAYS_MAX; slot++) assert(relay(slot, false))
  assert.equal(forwarder.relayRoom, 0)
  await asker.until(() => server.asked.length === RELAYS_MAX)
  server.react = answers
  assert.equal((await asker.ask('api.example.com.')).rcode, RCODE_NOERROR)
  await pass(asker, 6)
  assert.equal(forwarder.relayRoom, RELAYS_MAX)
  assert.equal(asker.relayed.size, RELAYS_MAX)
  server.react = echo
  asker.relayed.clear()
  assert((await asker.relay(0, one)) instanceof Uint8Array)
})

test("a reply that comes too late is nobody else's", async () => {
  const late: Asked[] = []
  using server = await TestServer.start((asked) => void late.push(asked))
  using asker = new Asker([server.as('udp')])
  const first = message(UPDATE)
  assert(asker.forwarder.relay(0, 0, first, 0, first.length, false, asker.nowMs))
  await asker.until(() => late.length === 1)
  await pass(asker, 6)
  assert.equal(asker.relayed.get(0), FLIGHT_TIMEOUT)
  server.react = (asked) => {
    echo(late[0]!)
    const other = asked.bytes.slice()
    putU16(other, FLAGS_AT, FLAG_QR | (UPDATE << OPCODE_SHIFT) | RCODE_REFUSED)
    setTimeout(() => asked.say(other), 20)
  }
  const reply = await asker.relay(1, first)
  assert(reply instanceof Uint8Array)
  assert.equal(parseMessage(reply)!.rcode, RCODE_REFUSED)
})
