import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { sleep, until } from '../../test/support/process.ts'
import { RECORD_FLOW, RECORD_LEARNED } from '../flow/record.ts'
import { close } from '../linux/socket.ts'
import { listenSeqpacket } from '../linux/unix.ts'
import { createLogTo } from '../log.ts'
import { framesOf, TestPeer } from './peer-fixture.ts'
import { openLocalSet } from './socket-fixture.ts'

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

type Begin = ConstructorParameters<typeof TestPeer>[3]

function open(role: 'agent' | 'proxy', begin: Begin = {}): TestPeer {
  return new TestPeer(run, role, log, begin)
}

async function linked(...peers: TestPeer[]): Promise<void> {
  const areLinked = (): boolean => peers.every((peer) => peer.link.peer?.isLinked === true)
  await until('both are linked', areLinked)
}

/** A text that no other revision has. */
function policy(revision: number, bytes = 20): { revision: number; text: string } {
  return { revision, text: `${revision} `.padEnd(bytes, 'ü') }
}

for (const first of ['agent', 'proxy'] as const) {
  test(`${first} first: the other finds it at once, and both know who is there`, async () => {
    using one = open(first)
    await sleep(50)
    using two = open(first === 'agent' ? 'proxy' : 'agent', { policy: policy(7) })
    const startMs = performance.now()
    await linked(one, two)
    assert.ok(performance.now() - startMs < 250)
    const { role, pid, place, version, revision, generation, isMute } = one.link.peer!
    assert.deepEqual(
      { role, pid, place, version, revision, generation, isMute },
      {
        role: two.role,
        pid: process.pid,
        place: two.role === 'agent' ? 1 : 2,
        version: '0.1.0',
        revision: 7,
        generation: -1,
        isMute: false,
      },
    )
  })
}

test('both connect at the same moment: one connection stays, and both use the same', async () => {
  for (let round = 0; round < 20; round++) {
    const before = readdirSync('/proc/self/fd').length
    using agent = open('agent')
    using proxy = open('proxy')
    await Promise.all([agent.link.catchUp(), proxy.link.catchUp()])
    await linked(agent, proxy)
    await sleep(10)
    // Two listeners, and both ends of one connection.
    assert.equal(readdirSync('/proc/self/fd').length, before + 4)
    agent.link.tellAnswers(framesOf('to the proxy'))
    proxy.link.tellAnswers(framesOf('to the agent'))
    await until('both heard', () => agent.story.length > 1 && proxy.story.length > 1)
    assert.deepEqual(agent.received[RECORD_LEARNED], ['to the agent'])
    assert.deepEqual(agent.changes, ['linked'])
    assert.deepEqual(proxy.changes, ['linked'])
  }
  assert.equal(lines.filter((line) => line.includes('warn')).length, 0)
})

test('a link that goes is found again by whoever looks first', async () => {
  using agent = open('agent')
  for (let round = 0; round < 3; round++) {
    using proxy = open('proxy')
    await linked(agent, proxy)
  }
  await until('the last one is gone', () => !agent.link.peer!.isLinked)
  assert.deepEqual(
    agent.changes,
    Array.from({ length: 3 }, () => ['linked', 'leaving', 'unlinked']).flat(),
  )
  using proxy = open('proxy')
  agent[Symbol.dispose]()
  using next = open('agent')
  await linked(next, proxy)
})

for (const first of ['reads', 'sends'] as const) {
  test(`who left messages unread is heard to the end by a peer that ${first} next`, async () => {
    using agent = open('agent')
    using proxy = open('proxy')
    await linked(agent, proxy)
    agent.link.tellAnswers(framesOf('never read'))
    proxy.link.tellAnswers(framesOf('its last word'))
    proxy[Symbol.dispose]()
    if (first === 'sends') agent.link.tellAnswers(framesOf('never sent'))
    await until('the link has ended', () => !agent.link.peer!.isLinked)
    assert.deepEqual(agent.received[RECORD_LEARNED], ['its last word'])
    assert.deepEqual(agent.changes, ['linked', 'leaving', 'unlinked'])
  })
}

test('a second process of the same role is refused', () => {
  using agent = open('agent')
  assert.throws(() => open('agent'), { code: 'EADDRINUSE' })
  assert.ok(existsSync(join(run, 'agent.sync.sock')))
  agent[Symbol.dispose]()
  assert.ok(!existsSync(join(run, 'agent.sync.sock')))
})

test('nobody there: who asks is told so at once', async () => {
  using agent = open('agent')
  const startMs = performance.now()
  assert.equal(await agent.link.catchUp(), 'nobody')
  assert.equal(await agent.link.announceSnapshot(1, 'text'), 'gone')
  assert.ok(performance.now() - startMs < 50)
  assert.equal(agent.link.peer, null)
})

test('somebody who never says a word is mute after a second', async () => {
  const listener = listenSeqpacket(join(run, 'proxy.sync.sock'))
  using agent = open('agent')
  const startMs = performance.now()
  assert.equal(await agent.link.catchUp(), 'mute')
  const tookMs = performance.now() - startMs
  assert.ok(tookMs > 900 && tookMs < 1800, `${tookMs}`)
  assert.equal(agent.link.peer, null)
  close(listener)
  await until('the attempt has failed', async () => (await agent.link.catchUp()) === 'nobody')
})

test('who starts gets sockets, policy and all answers, and then the word that this is all', async () => {
  const answers = Array.from({ length: 3000 }, (_, n) => `answer ${n} `.padEnd(500, '.'))
  const cache = [framesOf(...answers.slice(0, 2000)), framesOf(...answers.slice(2000))]
  using proxy = open('proxy', { policy: policy(41), set: openLocalSet(3), cache })
  proxy.flows.records.push('denied while you were away')
  using agent = open('agent')
  assert.equal(await agent.link.catchUp(), 'caught-up')
  assert.equal(agent.set?.generation, 3)
  assert.deepEqual(agent.policy, policy(41))
  assert.deepEqual(agent.received[RECORD_LEARNED], answers)
  await until('the flows came too', () => agent.received[RECORD_FLOW]?.length === 1)
  await until('the proxy knows', () => proxy.link.peer?.revision === 41)
  for (const set of [agent.set, proxy.set]) set!.sockets.forEach(({ fd }) => close(fd))
})

test('who stood still asks for changes only: no cache is sent, unless answers were lost', async () => {
  using proxy = open('proxy', { policy: policy(41), cache: [framesOf('a', 'b')] })
  using agent = open('agent')
  assert.equal(await agent.link.catchUp(), 'caught-up')
  assert.equal(await agent.link.catchUp({ want: 'changes' }), 'caught-up')
  await sleep(50)
  assert.deepEqual(agent.received[RECORD_LEARNED], ['a', 'b'])
  // What happens while there is no link is a loss too.
  agent[Symbol.dispose]()
  await until('unlinked', () => !proxy.link.peer!.isLinked)
  assert.equal(proxy.link.tellAnswers(framesOf('c')), false)
  assert.equal(proxy.link.answersLost, 0)
})

test('a policy of 5 MB arrives whole, and is acknowledged when it is enforced, not before', async () => {
  using agent = open('agent')
  let enforce = Promise.withResolvers<void>()
  using proxy = open('proxy', { enforce: () => enforce.promise })
  await linked(agent, proxy)
  const large = policy(2, 5_000_000)
  let outcome = ''
  void agent.link.announceSnapshot(1, 'first').then((value) => (outcome = value))
  await sleep(300)
  assert.equal(outcome, '')
  assert.equal(agent.link.peer!.revision, 0)
  enforce.resolve()
  await until('acknowledged', () => outcome === 'acknowledged', 1000)
  enforce = Promise.withResolvers()
  enforce.resolve()
  assert.equal(await agent.link.announceSnapshot(large.revision, large.text), 'acknowledged')
  assert.ok(proxy.policy?.text === large.text)
  assert.equal(agent.link.peer!.revision, 2)
})

test('several policies in a row: the newest ends the waiting for all, older ones may be skipped', async () => {
  using agent = open('agent')
  using proxy = open('proxy', { enforce: () => sleep(30) })
  await linked(agent, proxy)
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, n) => {
      const { revision, text } = policy(n + 1, 300_000)
      return agent.link.announceSnapshot(revision, text)
    }),
  )
  assert.deepEqual(new Set(outcomes), new Set(['acknowledged']))
  assert.equal(proxy.policy?.revision, 20)
  assert.ok(proxy.story.length < 12, `${proxy.story}`)
})

test('a policy that can not be enforced is tried again, and nobody is told that it is', async () => {
  using agent = open('agent')
  let tries = 0
  using proxy = open('proxy', {
    enforce: async () => {
      if (++tries < 2) throw new Error('the kernel says no')
    },
  })
  await linked(agent, proxy)
  const startMs = performance.now()
  assert.equal(await agent.link.announceSnapshot(1, 'text'), 'acknowledged')
  assert.ok(performance.now() - startMs > 900)
  assert.equal(tries, 2)
  assert.equal(lines.filter((line) => line.includes('tried again')).length, 1)
})

test('a daemon that shows a policy before it is in force does not acknowledge it with that', async () => {
  using agent = open('agent')
  const enforced = Promise.withResolvers<void>()
  using proxy = open('proxy', {
    takeSnapshot: async (revision, text) => {
      proxy.policy = { revision, text }
      await enforced.promise
    },
  })
  await linked(agent, proxy)
  let outcome = ''
  void agent.link.announceSnapshot(1, 'text').then((value) => (outcome = value))
  await until('it is being enforced', () => proxy.policy?.revision === 1)
  assert.equal(await agent.link.catchUp(), 'caught-up')
  await sleep(300)
  assert.deepEqual([outcome, agent.link.peer!.revision], ['', 0])
  enforced.resolve()
  await until('acknowledged', () => outcome === 'acknowledged')
})

test('asking what changed ends only when the policy that came is enforced here', async () => {
  const enforced = Promise.withResolvers<void>()
  using proxy = open('proxy', { policy: policy(5), enforce: () => enforced.promise })
  using agent = open('agent', { policy: policy(6) })
  let outcome = ''
  void proxy.link.catchUp({ want: 'changes', timeoutMs: 500 }).then((value) => (outcome = value))
  await sleep(900) // longer than a mute peer is waited for: it is not the peer who is late
  assert.equal(outcome, '')
  enforced.resolve()
  await until('caught up', () => outcome === 'caught-up')
  assert.equal(proxy.policy?.revision, 6)
  assert.ok(agent.link.peer?.isLinked)
})

test('the newer policy wins, whoever has it and whoever starts first', async () => {
  for (const newer of ['agent', 'proxy'] as const) {
    using agent = open('agent', { policy: policy(newer === 'agent' ? 9 : 8) })
    using proxy = open('proxy', { policy: policy(newer === 'proxy' ? 9 : 8) })
    await until('both have it', () => {
      return agent.policy?.revision === 9 && proxy.policy?.revision === 9
    })
    await until('both know', () => {
      return agent.link.peer?.revision === 9 && proxy.link.peer?.revision === 9
    })
  }
})

test('an agent that announces an old revision gets the newer one of the proxy', async () => {
  using proxy = open('proxy', { policy: policy(41) })
  using agent = open('agent')
  await linked(agent, proxy)
  await until('it came', () => agent.policy?.revision === 41)
  assert.equal(agent.link.peer!.revision, 41)
  await agent.link.announceSnapshot(1, 'from an empty disk')
  assert.equal(proxy.policy?.revision, 41)
  assert.equal(await agent.link.announceSnapshot(42, 'numbered on'), 'acknowledged')
  assert.equal(proxy.policy?.text, 'numbered on')
})

test('one revision, two texts: both take the agent’s, and do not think before that they agree', async () => {
  using proxy = open('proxy', { policy: { revision: 3, text: 'of the proxy' } })
  using agent = open('agent', { policy: { revision: 3, text: 'of the agent' } })
  await until('they agree', () => proxy.policy?.text === 'of the agent')
  assert.equal(agent.policy?.text, 'of the agent')
  await sleep(100)
  assert.deepEqual(agent.story, ['linked'])
})

test('the peer knows whether we read, from the first moment and when that changes', async () => {
  using agent = open('agent')
  using proxy = open('proxy', { reads: true })
  await until('linked', () => agent.link.peer?.isLinked === true)
  assert.equal(agent.link.peer?.isReading, true)
  proxy.reads = false
  proxy.link.announceReading()
  await until('told', () => agent.link.peer?.isReading === false)
  assert.equal(agent.changes.at(-1), 'reading')
  assert.equal(proxy.link.peer?.isReading, false)
})

test('a new generation of sockets reaches the peer; one that is not newer is closed', async () => {
  using agent = open('agent', { set: openLocalSet(1) })
  using proxy = open('proxy')
  await until('taken', () => proxy.set?.generation === 1)
  const before = readdirSync('/proc/self/fd').length
  agent.link.announceSockets()
  await sleep(50)
  assert.equal(readdirSync('/proc/self/fd').length, before)
  const former = [agent.set!, proxy.set!]
  agent.set = openLocalSet(2, 40)
  agent.link.announceSockets()
  await until('taken', () => proxy.set?.generation === 2)
  assert.equal(proxy.set!.sockets.length, 80)
  const withoutFd = (peer: TestPeer) => peer.set!.sockets.map((socket) => ({ ...socket, fd: 0 }))
  assert.deepEqual(withoutFd(proxy), withoutFd(agent))
  assert.deepEqual(proxy.set!.addresses, { v4: '127.0.0.1', v6: null })
  await until('known', () => agent.link.peer?.generation === 2)
  for (const set of [...former, agent.set, proxy.set!]) set.sockets.forEach(({ fd }) => close(fd))
})

test('flows are streamed as they come; a peer that was away gets all that the history has', async () => {
  using proxy = open('proxy')
  proxy.flows.records.push(...Array.from({ length: 95 }, (_, n) => `flow ${n}`))
  {
    using agent = open('agent')
    await until('all came', () => agent.received[RECORD_FLOW]?.length === 95)
    proxy.flows.records.push('one more')
    proxy.link.flowsWaiting()
    await until('it came', () => agent.received[RECORD_FLOW]?.length === 96, 50)
  }
  await until('gone', () => !proxy.link.peer!.isLinked)
  proxy.flows.records.push('denied meanwhile')
  using next = open('agent')
  await until('all came', () => next.received[RECORD_FLOW]?.length === 97)
  assert.deepEqual(next.received[RECORD_FLOW], proxy.flows.records)
})

test('a worker that does not give its answers delays nobody for long', async () => {
  using proxy = open('proxy', {
    policy: policy(4),
    answers: async function* () {
      yield framesOf('the only one')
      await new Promise(() => {})
    },
  })
  using agent = open('agent')
  assert.equal(await agent.link.catchUp(), 'caught-up')
  assert.deepEqual(agent.received[RECORD_LEARNED], ['the only one'])
  proxy.answers = async function* (): AsyncGenerator<Uint8Array> {
    yield* []
    throw new Error('the worker is away')
  }
  assert.equal(await agent.link.catchUp(), 'caught-up')
})

test('closing tells everybody who waits that nobody is there', async () => {
  using proxy = open('proxy', { enforce: () => new Promise(() => {}) })
  const agent = open('agent')
  await linked(agent, proxy)
  const announced = agent.link.announceSnapshot(1, 'text')
  await sleep(100)
  const asked = agent.link.catchUp()
  agent.link.close()
  agent.link.close()
  assert.deepEqual(await Promise.all([announced, asked]), ['gone', 'nobody'])
  assert.equal(await agent.link.catchUp(), 'nobody')
  assert.equal(agent.link.tellAnswers(framesOf('x')), false)
})
