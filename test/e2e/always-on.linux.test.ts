/**
 * Always on: agent and proxy are stopped, killed, hung, starved and started again, one at a time,
 * while a pod asks 300 questions a second, each once and half of them for names that nobody has
 * ever asked for, and connects to what the answers name. Nothing has to be switched when one is
 * gone: the other looks at the same sockets, and goes on. So nothing may be lost but what the victim
 * had read and not yet answered.
 */
import { type TestContext, test } from 'node:test'
import assert from 'node:assert/strict'
import { CpuGroup, missingForCpuGroups } from '../support/e2e-cgroup.ts'
import { CLOSED, E2eNode, ROLES } from '../support/e2e-node.ts'
import { keepConnections, type Seen, Traffic } from '../support/e2e-traffic.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { sleep, until } from '../support/process.ts'

const skip = missingForNamespaces()
/** A process reads so many datagrams at once; what it has read dies with it. */
const BATCH = 64
/** So long that there are always some questions on their way to the upstream. */
const UPSTREAM_MS = 50
/** Nobody waits longer. */
const PATIENCE_MS = 1000
const HANG_MS = 2000
const STARVE_MS = 2000
const STARVED_PERCENT = 5
const KEPT_CONNECTIONS = 40
/** For so long a process counts as alive after its last word. */
const ALIVE_MS = 150

test('clients notice nothing while one of two processes is away', { skip }, async (t) => {
  await using node = await E2eNode.build('always', { slowMs: UPSTREAM_MS })
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  // Asked for and answered, so that the address is known, and no more than that.
  await node.world.run(['./client', 'dig', CLOSED.name])
  await using traffic = await Traffic.start(node, 'client')
  await sleep(500)

  await t.test(
    'while both are well the proxy reads, and the agent takes next to nothing',
    async (t) => {
      const queriesOf = async (): Promise<number[]> =>
        Promise.all(ROLES.map(async (role) => (await node.status(role)).counters['queries'] ?? 0))
      const before = await queriesOf()
      await sleep(1000)
      const after = await queriesOf()
      const [agent, proxy] = after.map((count, index) => count - before[index]!)
      t.diagnostic(`agent ${agent}, proxy ${proxy} queries`)
      assert(proxy! > 100 && agent! < proxy! / 4, `agent ${agent}, proxy ${proxy}`)
    },
  )

  for (const role of ROLES) {
    await t.test(`the ${role} is stopped and started: nothing is lost`, async (t) => {
      const stopping = await traffic.around(() => node.stop(role), 500)
      isUndisturbed(t, stopping, 'stop')
      let servesAfterMs = 0
      const starting = await traffic.during(async () => {
        servesAfterMs = await node.start(role)
      }, 1000)
      isUndisturbed(t, starting, `start, serving after ${Math.round(servesAfterMs)} ms`)
    })

    await t.test(`the ${role} is killed: only what it had read is lost`, async (t) => {
      const killing = await traffic.around(() => node.kill(role), 500)
      isNearlyUndisturbed(t, killing, 'kill')
      isUndisturbed(t, await traffic.during(() => node.start(role)), 'start')
      await node.isWell()
    })

    await t.test(`the ${role} hangs and goes on: only what it had read is lost`, async (t) => {
      const hanging = await traffic.around(async () => {
        node.hang(role)
        await sleep(HANG_MS)
        node.wake(role)
      }, 1000)
      isNearlyUndisturbed(t, hanging, 'hang')
      await node.isWell()
    })

    const noGroups = missingForCpuGroups()
    await t.test(`the ${role} starves: hardly anything is lost`, { skip: noGroups }, async (t) => {
      using group = CpuGroup.create(`ngt-${process.pid}-${role}`)
      const starving = await traffic.around(async () => {
        group.limit(node.daemon(role).pid, STARVED_PERCENT)
        await sleep(STARVE_MS)
        group.release(node.daemon(role).pid)
      }, 1000)
      isNearlyUndisturbed(t, starving, 'starve')
      await node.isWell()
    })
  }

  await t.test('all that went on by grants that were written before the answer left', async () => {
    for (const role of ROLES) {
      const { counters } = await node.status(role)
      assert.equal(counters['answersReleasedUnprogrammed'] ?? 0, 0, role)
    }
  })
})

// Each TCP connection belongs to the process that accepted it. While that hangs nobody can answer
// by it, so the kernel resets it with the client's next packet, and the client comes again.
test('no TCP connection of a hung process is silent', { skip }, async (t) => {
  await using node = await E2eNode.build('kept')
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  let reset = 0
  for (const role of ROLES) {
    await using kept = await keepConnections(node, KEPT_CONNECTIONS)
    node.hang(role)
    await sleep(ALIVE_MS * 2)
    kept.kill('SIGUSR2')
    const said = await kept.output(/answered .*\n/)
    t.diagnostic(`the ${role} hangs: ${said}`)
    const [answered = 0, ended = 0, silent] = said.match(/\d+/g)!.map(Number)
    assert.deepEqual([answered + ended, silent], [KEPT_CONNECTIONS, 0])
    reset += ended
    node.wake(role)
    await node.isWell()
  }
  assert(reset > 0, 'one of the two had accepted some')
})

// The other one hangs, and nothing can be had from it: not even the sockets.
test('a process that starts beside a hung one serves by new sockets', { skip }, async (t) => {
  await using node = await E2eNode.build('beside')
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  await using traffic = await Traffic.start(node, 'client')
  let former = 1
  for (const role of ROLES) {
    const other = role === 'agent' ? 'proxy' : 'agent'
    await node.kill(role)
    node.hang(other)
    await node.start(role)
    assert.equal((await node.status(role)).alive[other], 'silent', 'though never linked')
    isUndisturbed(t, await traffic.during(() => sleep(700)), 'alone')
    isUndisturbed(t, await traffic.during(async () => node.wake(other), 1500), 'the other goes on')
    await node.isWell()
    const held = await Promise.all(ROLES.map((one) => node.status(one)))
    const [generation, same] = held.map(({ sockets }) => sockets.generation)
    assert.deepEqual([same, generation! > former], [generation, true])
    former = generation!
  }
})

// The proxy hangs with the old policy in its memory. The agent takes a name away, and the proxy
// goes on: for a moment it is the only one that knows the old policy, and it has work to do. It may
// also find that the agent has died meanwhile; then what lies on disk tells.
for (const isAgentDead of [false, true]) {
  const who = isAgentDead ? 'and finds nobody to ask' : 'and can ask'
  test(`who hung while policy changed, ${who}, opens nothing by the old`, { skip }, async (t) => {
    await using node = await E2eNode.build('change')
    await node.start('agent')
    await node.start('proxy')
    await node.isWell()
    await using traffic = await Traffic.start(node, 'client', { perSecond: 200 })
    await sleep(300)

    node.hang('proxy')
    const beganMs = performance.now()
    node.edit('policies/team-a.yaml', (text) =>
      text.replace(/ *- matchPattern: .*example.net"\n/, ''),
    )
    await until('the change is in force everywhere', () => {
      return node.log('agent').some(({ msg }) => msg === 'grants revoked')
    })
    t.diagnostic(`in force after ${Math.round(performance.now() - beganMs)} ms, the proxy hung`)
    if (isAgentDead) await node.kill('agent')

    const later = await traffic.during(async () => {
      node.wake('proxy')
      await sleep(1500)
    })
    assert(later.answered > 100 && later.connections > 3, later.faults.join('\n'))
    assert.equal(later.shut, later.connections, 'a name that is allowed no more was connected to')
    assert.equal(later.breached, 0)
    assert.equal((await node.status('proxy')).policy.revision, 2)
    if (isAgentDead) return
    assert.equal(later.lost, 0, later.faults.filter((text) => text.startsWith('udp')).join('\n'))
    await node.isWell()
  })
}

/** Nobody was lost, nobody waited for long, and policy held. */
function isUndisturbed(t: TestContext, seen: Seen, what: string): void {
  tell(t, seen, what)
  assert.deepEqual(seen.faults, [])
  isInOrder(seen)
}

/** At most what a process can have read was lost; nobody else waited for long; policy held. */
function isNearlyUndisturbed(t: TestContext, seen: Seen, what: string): void {
  tell(t, seen, what)
  assert(seen.lost + seen.tcpLost <= BATCH, seen.faults.join('\n'))
  assert.equal(seen.shut, 0, seen.faults.join('\n'))
  isInOrder(seen)
}

function isInOrder(seen: Seen): void {
  assert.equal(seen.breached, 0, seen.faults.join('\n'))
  assert(seen.gapMs < PATIENCE_MS, `no answer came for ${seen.gapMs} ms`)
  assert(seen.slowestMs < PATIENCE_MS, `an answer took ${seen.slowestMs} ms`)
  assert(seen.asked > 100 && seen.forbidden > 3 && seen.freshConnections > 3, JSON.stringify(seen))
}

function tell(t: TestContext, seen: Seen, what: string): void {
  const { asked, lost, tcpAsked, tcpLost, slowestMs, gapMs } = seen
  const tcp = `TCP ${tcpLost} of ${tcpAsked}`
  t.diagnostic(
    `${what}: lost ${lost} of ${asked}, ${tcp}, slowest ${slowestMs} ms, gap ${gapMs} ms`,
  )
}
