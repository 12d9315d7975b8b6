/**
 * Warm: a process that starts takes over answers, policy and sockets of the other before it reads
 * a question; alone, after a reboot, it has the last policy from disk, and without any policy it
 * waits rather than guess.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { CLOSED, E2eNode, KNOWN_NAMES, ROLES } from '../support/e2e-node.ts'
import { Traffic } from '../support/e2e-traffic.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { type RunningProcess, sleep, start, until } from '../support/process.ts'

const skip = missingForNamespaces()
/** Names that one process learns while the other is away. */
const NAMES_LEARNED = 300
const STARTS_AT_ONCE = 4

test('a restart under load asks the upstream nothing that was known', { skip }, async (t) => {
  await using node = await E2eNode.build('warm')
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()

  for (const role of ROLES) {
    const other = role === 'agent' ? 'proxy' : 'agent'
    const names = Array.from({ length: NAMES_LEARNED }, (_, n) => `${other}-${n}.example.net.`)

    await t.test(`the ${role} takes over what the ${other} learned meanwhile`, async (t) => {
      await node.stop(role)
      await isAnswered(node, names)
      const servesAfterMs = await node.start(role)
      t.diagnostic(`serving after ${Math.round(servesAfterMs)} ms`)
      const { counters } = await node.status(role)
      assert(counters['peerAnswers']! >= NAMES_LEARNED, `took ${counters['peerAnswers']} answers`)
      // With neither upstream nor the other process nobody else could know them.
      await node.cutUpstream(true)
      await node.kill(other)
      await isAnswered(node, names)
      await node.cutUpstream(false)
      await node.start(other)
      await node.isWell()
    })
  }

  await t.test('names in use are asked for once, however often processes restart', async () => {
    await using traffic = await Traffic.start(node, 'client')
    for (const role of ROLES) {
      await node.stop(role)
      await node.start(role)
      await node.kill(role)
      const seen = await traffic.during(() => node.start(role))
      assert.deepEqual(seen.faults, [], role)
    }
  })

  const counts = await node.upstreamCounts()
  const learned = ROLES.flatMap((role) => [`${role}-0`, `${role}-${NAMES_LEARNED - 1}`])
  for (const name of [...KNOWN_NAMES, ...learned.map((label) => `${label}.example.net.`)]) {
    assert.equal(counts[`${name} A`], 1, name)
  }
})

test('after a reboot the proxy alone serves by the last policy', { skip }, async (t) => {
  await using node = await E2eNode.build('reboot')
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  await node.stop('agent', 'proxy')
  // What a reboot takes: the kernel's rules, and what lies in memory.
  const { code } = await node.world.run(['./node', './namegate', 'cleanup', '-c', 'namegate.yaml'])
  assert.equal(code, 0)
  rmSync(join(node.world.directory, 'run'), { recursive: true })

  const servesAfterMs = await node.start('proxy')
  t.diagnostic(`serving after ${Math.round(servesAfterMs)} ms`)
  const { policy, clients, kernel } = await node.status('proxy')
  assert.deepEqual([policy.from, policy.revision, kernel.state], ['disk', 1, 'same'])
  assert.deepEqual(clients.governed, ['team-a/client'])
  assert.deepEqual(await node.lookUp('client', CLOSED.name), [CLOSED.address])
  assert(!(await node.reaches('client', CLOSED.address)), 'policy is enforced')
  const [address] = await node.lookUp('client', 'never-seen.example.net')
  assert(await node.reaches('client', address!), 'a name that is allowed opens')
})

test('a proxy that never had a policy waits for the agent, and can be ended', {
  skip,
}, async () => {
  await using node = await E2eNode.build('first')
  const directory = node.world.directory
  const words = [...node.world.daemonCommand('proxy')]
  await using proxy = await start(words[0]!, words.slice(1), {
    cwd: directory,
    ready: 'waiting for an agent',
    readyMs: 15_000,
  })
  await sleep(500)
  assert.doesNotMatch(proxy.stderr, /"serving"/)
  const { alive, degraded } = await node.status('proxy')
  assert.deepEqual(alive, { agent: 'absent', proxy: 'silent' })
  const reasons = degraded.map(({ code, message }) => `${code}: ${message}`).join('\n')
  assert.match(reasons, /not-serving: it has no policy yet/)
  await node.start('agent')
  await proxy.output('"serving"')
  await until('the proxy has the policy', async () => {
    return (await node.status('proxy')).policy.from === 'peer'
  })
  proxy.kill('SIGTERM')
  assert.equal((await proxy.exited).code, 0)
  await node.stop('agent')

  rmSync(join(directory, 'state'), { recursive: true })
  await using waiting = await start(words[0]!, words.slice(1), {
    cwd: directory,
    ready: 'waiting for an agent',
    readyMs: 15_000,
  })
  waiting.kill('SIGTERM')
  assert.equal((await waiting.exited).code, 0)
})

// Whoever comes first makes the sockets; the other must find that out, however close behind it is.
// So both are held at the lock that decides it, and let go at the same moment.
test('both started at once hold one and the same set of sockets', { skip }, async (t) => {
  await using node = await E2eNode.build('once')
  await node.start('agent', 'proxy') // makes the directory in which the lock lies
  await node.kill('agent', 'proxy')
  for (let time = 1; time <= STARTS_AT_ONCE; time++) {
    const lock = await holdLock(join(node.world.directory, 'run', 'sockets.lock'))
    const told = ROLES.map((role) => timesApplied(node, role))
    const started = node.start('agent', 'proxy')
    await until('both have policy', () =>
      ROLES.every((role, index) => timesApplied(node, role) > told[index]!),
    )
    await sleep(100)
    await lock[Symbol.asyncDispose]()
    const servesAfterMs = await started
    t.diagnostic(`both serve after ${Math.round(servesAfterMs)} ms`)

    await node.isWell()
    const [agent, proxy] = await Promise.all(ROLES.map((role) => node.status(role)))
    assert.deepEqual(agent!.sockets, proxy!.sockets, `start ${time}`)
    assert.deepEqual([agent!.sockets.isShared, agent!.sockets.generation], [true, 1])
    assert.deepEqual(boundSockets(node), ['udp 1', 'udp6 1', 'tcp 1', 'tcp6 1'], `start ${time}`)
    const [address] = await node.lookUp('client', `start-${time}.example.net`)
    assert(await node.reaches('client', address!))
    await node.kill('agent', 'proxy')
  }
})

function holdLock(file: string): Promise<RunningProcess> {
  const words = ['--no-fork', file, 'sh', '-c', 'echo held; exec sleep 30']
  return start('flock', words, { ready: 'held' })
}

function timesApplied(node: E2eNode, role: 'agent' | 'proxy'): number {
  return node.log(role).filter(({ msg }) => msg === 'policy applied').length
}

/** Each name is asked for at least once, and connected to now and then. */
async function isAnswered(node: E2eNode, known: readonly string[]): Promise<void> {
  const rate = { perSecond: 300, tcpEvery: 0, fresh: null, known, never: [] }
  await using traffic = await Traffic.start(node, 'client', rate)
  const seen = await traffic.during(() => sleep(1000 + (known.length / rate.perSecond) * 1000))
  assert.deepEqual(seen.faults, [])
  assert(seen.asked > known.length, `only ${seen.asked} asked`)
}

/** Sockets on port 53 in the node, by protocol; proc_net(5): local address and port in hex. */
function boundSockets(node: E2eNode): string[] {
  return ['udp', 'udp6', 'tcp', 'tcp6'].map((protocol) => {
    const table = node.world.namespace('node').exec('cat', `/proc/net/${protocol}`)
    const isListening = protocol.startsWith('tcp') ? ' 0A ' : ' 07 '
    const ours = table.split('\n').filter((line) => /:0035 .*:0000 /.test(line))
    return `${protocol} ${ours.filter((line) => line.includes(isListening)).length}`
  })
}
