/**
 * Closed for governed clients, open for the rest: with everything dead or hung nothing new opens
 * for a pod that has a policy, and what was open runs out; a pod without one is back at the
 * cluster's DNS by itself. The same when somebody else flushes the kernel's rules.
 */
import { type TestContext, test } from 'node:test'
import assert from 'node:assert/strict'
import { TIMEOUT_CLASS_SECONDS } from '../../src/grant/timeout-class.ts'
import { CLOSED, E2eNode, KNOWN_NAMES, monotonicMs, SHORT } from '../support/e2e-node.ts'
import { Traffic } from '../support/e2e-traffic.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { sleep, until } from '../support/process.ts'
import { STRANGE_DNS } from '../support/world.ts'

const skip = missingForNamespaces()
/** P4: an ungoverned client is back at the cluster's DNS after this. */
const FALL_THROUGH_MS = 300
/** The ruleset is looked at each second; then it takes a moment to make it anew. */
const REPAIR_MS = 3000
/** Addresses that no answer opens for anybody. */
const NEVER = [CLOSED.address, '198.18.255.1', '2001:db8:2:1::ffff', '2001:db8:2::66']

test('closed for who has a policy, open for the rest', { skip }, async (t) => {
  await using node = await E2eNode.build('closed')
  const before = node.world.kernelState()
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  await using pods = await startPods(node)
  const { governed, stray, ungoverned } = pods
  const calm = await governed.during(() => sleep(500))
  assert.deepEqual([calm.lost, calm.shut, calm.breached], [0, 0, 0], calm.faults.join('\n'))

  await t.test(
    'both hang: fall-through for the ungoverned, nothing for the governed',
    async (t) => {
      const fromMs = monotonicMs()
      node.hang('agent', 'proxy')
      await sleep(1500)
      const toMs = monotonicMs()
      await isOpenFor(t, ungoverned, fromMs, toMs)
      await isClosedFor(governed, fromMs + FALL_THROUGH_MS, toMs)
      node.wake('agent', 'proxy')
      await node.isWell()
      const again = await governed.during(() => sleep(500))
      assert.deepEqual(again.faults, [])
    },
  )

  let grantedMs = 0
  await t.test('both are killed: the same, and grants run out', async (t) => {
    assert.deepEqual(await node.lookUp('client', SHORT.name), [SHORT.address])
    grantedMs = monotonicMs()
    const fromMs = monotonicMs()
    await node.kill('agent', 'proxy')
    const killedMs = monotonicMs()
    assert(await node.reaches('client', SHORT.address), 'what was granted stays for its time')
    await sleep(1000)
    const toMs = monotonicMs()
    await isOpenFor(t, ungoverned, fromMs, toMs)
    await isClosedFor(governed, killedMs + FALL_THROUGH_MS, toMs)
    await sleep(grantedMs + TIMEOUT_CLASS_SECONDS[0] * 1000 + 1000 - monotonicMs())
    assert(!(await node.reaches('client', SHORT.address)), 'the grant has run out')
  })

  await node.start('agent', 'proxy')
  for (const dead of [null, 'agent', 'proxy'] as const) {
    const who = dead === null ? '' : `, and the ${dead} is dead`
    await t.test(`rules flushed by somebody else${who}: closed, and soon put back`, async (t) => {
      await node.isWell()
      if (dead !== null) await node.kill(dead)
      await sleep(300)
      const fromMs = monotonicMs()
      flushAllTables(node)
      await until('our table is back', () => hasOurTable(node), REPAIR_MS)
      t.diagnostic(`our table is back after ${Math.round(monotonicMs() - fromMs)} ms`)
      await sleep(500)
      const toMs = monotonicMs()
      const during = await governed.seen(fromMs, toMs)
      assert.equal(during.breached, 0, during.faults.join('\n'))
      const strange = await stray.seen(fromMs, toMs)
      assert.equal(strange.answered, 0, "a server that policy doesn't allow answered")
      // What was granted went with the table; an answer means open again.
      const after = await governed.during(() => sleep(700))
      assert.deepEqual(after.faults, [])
      if (dead !== null) await node.start(dead)
    })
  }

  await t.test('both are stopped: closed until cleanup, and then nothing is left', async (t) => {
    const fromMs = monotonicMs()
    await node.stop('agent', 'proxy')
    const stoppedMs = monotonicMs()
    await sleep(1000)
    const toMs = monotonicMs()
    await isOpenFor(t, ungoverned, fromMs, toMs)
    await isClosedFor(governed, stoppedMs + FALL_THROUGH_MS, toMs)
    const cleanup = ['./node', './namegate', 'cleanup', '-c', 'namegate.yaml']
    const { code, stderr } = await node.world.run(cleanup)
    assert.equal(code, 0, stderr)
    assert.equal(node.world.kernelState(), before)
    assert(await node.reaches('client', CLOSED.address), 'nobody governs any more')
  })
})

/** Three that ask all the time: a governed pod, the same of a server it may not ask, another pod. */
async function startPods(node: E2eNode) {
  const quiet = { perSecond: 50, tcpEvery: 0 }
  const stack = new AsyncDisposableStack()
  const use = async (pod: 'client' | 'bystander', options: object): Promise<Traffic> =>
    stack.use(await Traffic.start(node, pod, { ...quiet, ...options }))
  return {
    governed: await use('client', { never: NEVER }),
    stray: await use('client', { servers: [STRANGE_DNS], never: [] }),
    ungoverned: await use('bystander', { perSecond: 100, never: [], known: KNOWN_NAMES }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

async function isOpenFor(
  t: TestContext,
  pod: Traffic,
  fromMs: number,
  toMs: number,
): Promise<void> {
  const seen = await pod.seen(fromMs, toMs)
  t.diagnostic(`lost ${seen.lost} of ${seen.asked}, the last ${seen.lastLostMs} ms after`)
  assert(seen.lastLostMs < FALL_THROUGH_MS, seen.faults.join('\n'))
  assert(seen.answered > 50 && seen.shut === 0, seen.faults.join('\n'))
}

async function isClosedFor(pod: Traffic, fromMs: number, toMs: number): Promise<void> {
  const seen = await pod.seen(fromMs, toMs)
  assert(seen.asked > 20 && seen.forbidden > 5, JSON.stringify(seen))
  assert.equal(seen.answered, 0, 'a governed pod got an answer')
  assert.equal(seen.breached, 0, seen.faults.join('\n'))
}

/** As a careless firewall script does it. kube-proxy notices, and puts its own table back. */
function flushAllTables(node: E2eNode): void {
  const kernel = node.world.namespace('node')
  const theirs = kernel.exec('nft', 'list', 'table', 'inet', 'kube-proxy')
  kernel.execWithInput(`flush ruleset\n${theirs}`, 'nft', '-f', '-')
}

function hasOurTable(node: E2eNode): boolean {
  return node.world.namespace('node').exec('nft', 'list', 'tables').includes('inet namegate')
}
