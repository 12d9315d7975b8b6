/** What a peer of another release, a broken one, or a stranger may send. */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { sleep, until } from '../../test/support/process.ts'
import { close } from '../linux/socket.ts'
import { acceptSeqpacket, listenSeqpacket } from '../linux/unix.ts'
import { createLogTo } from '../log.ts'
import { areFrames, countFrames, endOfPiece } from './frames.ts'
import { TestPeer } from './peer-fixture.ts'
import {
  ANSWERS,
  ASK,
  BEAT,
  CHUNK_BYTES,
  DONE,
  FLOWS,
  GOODBYE,
  HELLO,
  MESSAGE_BYTES_MAX,
  POLICY,
  POLICY_BYTES_MAX,
  policyChunk,
  readAsk,
  readBeat,
  readDone,
  readGoodbye,
  readHello,
  readPolicy,
  readSockets,
  SOCKETS,
} from './protocol.ts'
import { closeAll } from './socket-assembly.ts'
import { GOOD_HELLO, RawPeer } from './raw-peer-fixture.ts'

let run = ''
let lines: string[] = []
const log = createLogTo(
  { write: (line) => void lines.push(line) },
  { level: 'info', fields: {}, isTerminal: false },
)

beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'namegate-sync-'))
  lines = []
})

afterEach(() => {
  rmSync(run, { recursive: true })
})

function openAgent(begin: ConstructorParameters<typeof TestPeer>[3] = {}): TestPeer {
  return new TestPeer(run, 'agent', log, begin)
}

/** A hand-written proxy that has come as far as being the link. */
async function linkTo(agent: TestPeer, hello: object = {}): Promise<RawPeer> {
  const peer = new RawPeer(join(run, 'agent.sync.sock'))
  peer.hello(hello)
  await peer.receiveJson(HELLO)
  assert.ok(agent.link.peer?.isLinked)
  return peer
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/** One chunk of a policy, by default all of it. */
function chunkOf(text: string, changes: Partial<Parameters<typeof policyChunk>[0]> = {}) {
  const bytes = Buffer.from(text)
  const digest = hash('sha256', text)
  return policyChunk({
    revision: 9,
    digest,
    textBytes: bytes.length,
    offset: 0,
    bytes,
    ...changes,
  })
}

/** JSON of the right shape with one value that is not. */
function withOneWrong(good: Record<string, unknown>): fc.Arbitrary<Uint8Array> {
  const wrong = fc.oneof(
    fc.constantFrom(null, -2, 1.5, 1e300, '', 'x'.repeat(65), [], {}, true, '\u0000', 'DEAD'),
    fc.jsonValue(),
  )
  return fc
    .tuple(fc.constantFrom(...Object.keys(good)), wrong)
    .map(([key, value]) => Buffer.from(JSON.stringify({ ...good, [key]: value })))
}

const HOLDING = { revision: 1, digest: 'ab'.repeat(32), generation: 2 }
const SOCKETS_PART = {
  generation: 1,
  addresses: { v4: '192.0.2.1', v6: null },
  first: 0,
  count: 1,
  sockets: [{ kind: 'udp', family: 4, port: 53, isTransparent: true }],
}

test('readers give a value or null for whatever bytes they get, and never throw', () => {
  const readers = [readHello, readBeat, readAsk, readDone, readGoodbye, readSockets, readPolicy]
  const bodies = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => Buffer.from(text)),
    withOneWrong(GOOD_HELLO),
    withOneWrong({ ...HOLDING, isReplyWanted: true }),
    withOneWrong({ ...HOLDING, id: 1, want: 'changes' }),
    withOneWrong(SOCKETS_PART),
  )
  fc.assert(
    fc.property(bodies, (body) => {
      for (const read of readers) read(body)
      areFrames(body)
    }),
    { numRuns: 3000 },
  )
  assert.notEqual(readSockets(Buffer.from(JSON.stringify(SOCKETS_PART))), null)
  const deep = Buffer.from('['.repeat(16_000))
  for (const read of readers) read(deep)
})

test('frames are cut where records end, and each piece is whole frames', () => {
  const frames = fc
    .array(fc.oneof(fc.nat(600), fc.nat(90_000)), { minLength: 1, maxLength: 30 })
    .map((lengths) =>
      Buffer.concat(
        lengths.map((length) => {
          const frame = Buffer.alloc(4 + length)
          frame.writeUInt32LE(length)
          return frame
        }),
      ),
    )
  fc.assert(
    fc.property(frames, (bytes) => {
      let count = 0
      for (let at = 0; at < bytes.length; ) {
        const end = endOfPiece(bytes, at)
        assert.ok(areFrames(bytes.subarray(at, end)))
        const some = countFrames(bytes, at, end)
        assert.ok(some === 1 || end - at <= CHUNK_BYTES)
        count += some
        at = end
      }
      assert.equal(count, countFrames(bytes, 0, bytes.length))
      assert.ok(!areFrames(bytes.subarray(0, bytes.length - 1)))
    }),
    { numRuns: 200 },
  )
  const endless = Buffer.from([0xff, 0xff, 0xff, 0xff, 0])
  assert.equal(areFrames(endless), false)
  assert.equal(endOfPiece(endless, 0), -1)
  assert.equal(areFrames(new Uint8Array(0)), false)
  const tooLarge = Buffer.alloc(MESSAGE_BYTES_MAX)
  tooLarge.writeUInt32LE(MESSAGE_BYTES_MAX - 4)
  assert.equal(endOfPiece(tooLarge, 0), -1)
})

test('a stranger that says rubbish is cut off, and the real peer is served meanwhile', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  for (const body of [new Uint8Array(0), Buffer.from('{'), Buffer.alloc(100_000, 0x20)]) {
    using stranger = new RawPeer(join(run, 'agent.sync.sock'))
    stranger.send(HELLO, body)
    await stranger.ended()
  }
  using early = new RawPeer(join(run, 'agent.sync.sock'))
  early.send(FLOWS, Buffer.from([0, 0, 0, 0]))
  await early.ended()
  peer.send(FLOWS, Buffer.from([1, 0, 0, 0, 0x78]))
  await until('the flow came', () => agent.received[1]?.length === 1)
  assert.equal(agent.link.counters.refused, 4)
  assert.equal(lines.filter((line) => line.includes('broke the rules')).length, 1)
})

test('whatever a linked peer sends: the link ends at most, nothing is thrown, nothing leaks', async () => {
  using agent = openAgent({
    policy: { revision: 3, text: 'three' },
    takeSockets: (set) => closeAll(set.sockets),
  })
  const types = [HELLO, BEAT, ASK, DONE, SOCKETS, POLICY, ANSWERS, FLOWS, 0, 77]
  const bodies = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 100 }),
    withOneWrong(SOCKETS_PART),
    withOneWrong({ ...HOLDING, id: 1, isReplyWanted: false }),
  )
  const messages = fc.array(
    fc.record({ type: fc.constantFrom(...types), body: bodies, descriptors: fc.nat(3) }),
    { minLength: 1, maxLength: 5 },
  )
  const before = openDescriptors()
  const file = openSync(import.meta.filename, 'r')
  await fc.assert(
    fc.asyncProperty(messages, async (some) => {
      using peer = await linkTo(agent, { instance: `${performance.now()}` })
      for (const { type, body, descriptors } of some) {
        peer.send(
          type,
          body,
          Array.from({ length: descriptors }, () => file),
        )
      }
      peer.send(GOODBYE, { reason: 'stopping' })
      await until('the link ended', () => agent.link.peer?.isLinked === false)
    }),
    { numRuns: 60 },
  )
  close(file)
  assert.equal(openDescriptors(), before)
  assert.ok(agent.link.counters.malformed > 15)
  assert.ok(agent.link.counters.unknown > 5)
  assert.equal(lines.filter((line) => line.includes('the link to the peer was cut')).length, 1)
})

test('half a set of sockets is closed when the rest does not come', async () => {
  using agent = openAgent()
  const before = openDescriptors()
  {
    using peer = await linkTo(agent)
    const half = { ...SOCKETS_PART, count: 2 }
    for (let n = 0; n < 3; n++) peer.send(SOCKETS, half, [peer.fd])
    peer.send(BEAT, { ...HOLDING, generation: -1, isReplyWanted: false })
    await until('all was read', () => agent.link.peer?.revision === 1)
    assert.equal(openDescriptors(), before + 3, 'both ends of the link, and one socket')
    peer.send(SOCKETS, { ...half, first: 1, generation: 2 }, [peer.fd])
    await peer.ended()
  }
  assert.equal(openDescriptors(), before)
  assert.equal(agent.set, null)
})

test('messages of a later release are ignored and counted, with their descriptors', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent, { protocol: 3, somethingNew: { deep: [1] } })
  const before = openDescriptors()
  for (let n = 0; n < 100; n++) peer.send(200, { n }, [peer.fd])
  peer.send(BEAT, { ...HOLDING, generation: -1, isReplyWanted: true, somethingNew: 1 })
  await peer.receiveJson(BEAT)
  await until('its beat was read', () => agent.link.peer?.revision === 1)
  assert.equal(agent.link.counters.unknown, 100)
  assert.equal(openDescriptors(), before)
  assert.ok(agent.link.peer?.isLinked)
})

test('a process that speaks only later protocols is told so; who asks it finds it mute', async () => {
  const listener = listenSeqpacket(join(run, 'proxy.sync.sock'))
  using agent = openAgent()
  const asked = agent.link.catchUp()
  using peer = new RawPeer(acceptSeqpacket(listener))
  peer.send(HELLO, { protocol: 7, protocolSince: 5, role: 7 })
  assert.deepEqual(await peer.receiveJson(GOODBYE), { reason: 'protocol' })
  await peer.ended()
  assert.match(lines.at(-1)!, /"protocols":"5 to 7".*speaks another protocol/)
  assert.equal(await asked, 'mute')
  assert.ok(agent.link.counters.refused >= 1)
  close(listener)
})

test('refused by a process of a later release: said once, and tried again only now and then', async () => {
  const listener = listenSeqpacket(join(run, 'proxy.sync.sock'))
  using agent = openAgent()
  for (let attempt = 0; attempt < 2; attempt++) {
    const fd = acceptSeqpacket(listener)
    assert.equal(fd >= 0, attempt === 0)
    if (fd < 0) break
    using peer = new RawPeer(fd)
    peer.send(GOODBYE, { reason: 'protocol', since: 5 })
    await peer.ended()
    await sleep(600)
  }
  assert.equal(agent.link.counters.refused, 1)
  assert.match(lines.at(-1)!, /"reason":"protocol".*was refused by the peer/)
  close(listener)
})

test('a role that we have no place for is told so', async () => {
  using agent = openAgent()
  using peer = new RawPeer(join(run, 'agent.sync.sock'))
  peer.hello({ role: 'agent' })
  assert.deepEqual(await peer.receiveJson(GOODBYE), { reason: 'role' })
  await peer.ended()
  assert.equal(agent.link.peer, null)
})

test('strangers who say nothing are few, and do not stay', async () => {
  using agent = openAgent()
  const before = openDescriptors()
  const strangers = Array.from({ length: 14 }, () => new RawPeer(join(run, 'agent.sync.sock')))
  await until('some were sent away', () => agent.link.counters.refused === 6)
  assert.equal(openDescriptors(), before + 14 + 8)
  await until('the others too', () => agent.link.counters.refused === 14, 4000)
  await Promise.all(strangers.map((stranger) => stranger.ended()))
  strangers.forEach(({ fd }) => close(fd))
  assert.equal(openDescriptors(), before)
})

test('a message longer than any ends the link', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  const bytes = peer.send(FLOWS, new Uint8Array(MESSAGE_BYTES_MAX + 5000))
  assert.ok(bytes > MESSAGE_BYTES_MAX, `${bytes}`)
  await peer.ended()
  assert.equal(agent.link.counters.malformed, 1)
})

for (const [what, second] of [
  ['a hole in it', chunkOf('abcdef', { offset: 4, bytes: Buffer.from('ef') })],
  ['a piece of another one', chunkOf('ABCdef', { offset: 3, bytes: Buffer.from('def') })],
  ['another checksum than its text', chunkOf('abcdef', { offset: 3, bytes: Buffer.from('xyz') })],
  ['another length', chunkOf('abcdef', { offset: 3, bytes: Buffer.from('def'), textBytes: 7 })],
] as const) {
  test(`a policy with ${what} is not taken, and ends the link`, async () => {
    using agent = openAgent()
    using peer = await linkTo(agent)
    peer.send(POLICY, chunkOf('abcdef', { bytes: Buffer.from('abc') }))
    peer.send(POLICY, second)
    await peer.ended()
    assert.equal(agent.policy, null)
    assert.equal(agent.link.counters.malformed, 1)
  })
}

test('a policy that begins anew replaces the half that came; one in pieces arrives', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  peer.send(POLICY, chunkOf('forgotten', { bytes: Buffer.from('forg') }))
  for (const offset of [0, 2, 4]) {
    peer.send(
      POLICY,
      chunkOf('abcdef', { offset, bytes: Buffer.from('abcdef').subarray(offset, offset + 2) }),
    )
  }
  await until('it came', () => agent.policy?.text === 'abcdef')
  const told = await peer.receiveJson(BEAT)
  assert.ok(told['revision'] === 0 || told['revision'] === 9)
})

test('a policy larger than any is refused before its bytes come', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  peer.send(POLICY, chunkOf('a', { textBytes: POLICY_BYTES_MAX + 1 }))
  await peer.ended()
  assert.equal(agent.link.counters.malformed, 1)
})

test('an old answer does not count for a new question', async () => {
  // The peer answered, we were stopped before we read it, policy changed; then we ask again.
  using agent = openAgent()
  using peer = await linkTo(agent)
  const first = agent.link.catchUp()
  const { id } = await peer.receiveJson(ASK)
  let outcome = ''
  const second = agent.link.catchUp({ want: 'changes' }).then((value) => (outcome = value))
  peer.send(DONE, { id })
  assert.equal(await first, 'caught-up')
  await sleep(50)
  assert.equal(outcome, '')
  const again = await peer.receiveJson(ASK)
  assert.equal(again['want'], 'everything', 'the first question was still open')
  peer.send(DONE, { id: again['id'] })
  await second
})

test('a peer that sends and sends but never says that it is done is mute in the end', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  const timer = setInterval(() => peer.send(ANSWERS, Buffer.from([0, 0, 0, 0])), 20)
  const startMs = performance.now()
  assert.equal(await agent.link.catchUp({ timeoutMs: 300 }), 'mute')
  clearInterval(timer)
  assert.ok(performance.now() - startMs > 2000)
})

test('a flood of messages leaves the event loop to others', async () => {
  using agent = openAgent()
  using peer = await linkTo(agent)
  // The agent's end is read in the same thread: how often does a turn come between?
  const body = Buffer.from([4, 0, 0, 0, 1, 2, 3, 4])
  let sent = 0
  while (peer.send(FLOWS, body) > 0) sent++
  assert.ok(sent > 200, `${sent}`)
  let turns = 0
  const count = (): void => {
    turns++
    if ((agent.received[1]?.length ?? 0) < sent) setImmediate(count)
  }
  setImmediate(count)
  await until('all came', () => agent.received[1]?.length === sent)
  assert.ok(turns >= sent / 64, `${turns} turns for ${sent} messages`)
})
