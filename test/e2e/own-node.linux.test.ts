/**
 * Who can ask, beside pods: processes of the node itself, at the address that is ours alone and at
 * the cluster DNS's own, by IPv4 and IPv6, UDP and TCP. While anybody of us is alive we answer, also
 * when the cluster's DNS is out of reach; while nobody is, everybody without a policy reaches the
 * cluster's DNS, and whoever has one reaches nothing.
 */
import { type TestContext, test } from 'node:test'
import assert from 'node:assert/strict'
import { E2eNode, editFile, KNOWN_NAMES, monotonicMs, ROLES } from '../support/e2e-node.ts'
import { type Seen, Traffic } from '../support/e2e-traffic.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { sleep } from '../support/process.ts'
import { CLUSTER_DNS, type Place } from '../support/world.ts'

const skip = missingForNamespaces()
/** A process reads so many datagrams at once; what it has read dies with it. */
const BATCH = 64
/** After this everybody without a policy is back at the cluster's DNS. */
const FALL_THROUGH_MS = 300

const OURS = ['169.254.20.10', '2001:db8:20::10']
const SERVERS = [...OURS, ...Object.values(CLUSTER_DNS)]
const NAME = 'www.example.com'
const ANSWER = ['192.0.2.10']

test('the node itself is served like a pod without a policy', { skip }, async (t) => {
  const edit = (files: string): void => {
    editFile(`${files}/namegate.yaml`, (text) => {
      return text.replace('[169.254.20.10]', JSON.stringify(OURS))
    })
  }
  await using node = await E2eNode.build('own', { edit })
  const before = node.world.kernelState()
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  const load = { servers: SERVERS, perSecond: 200, never: [], known: KNOWN_NAMES }
  await using traffic = await Traffic.start(node, 'node', load)
  await using pod = await Traffic.start(node, 'bystander', { ...load, servers: OURS })
  await sleep(500)

  await t.test('both are alive: we answer, though nobody else could', async () => {
    assert.deepEqual(await unansweredOf(node, 'node'), [])
    await node.cutUpstream(true)
    assert.deepEqual(await unansweredOf(node, 'node'), [])
    await node.cutUpstream(false)
    const calm = await traffic.during(() => sleep(500))
    assert.deepEqual(calm.faults, [])
  })

  for (const role of ROLES) {
    await t.test(
      `the ${role} is killed, hangs, is stopped: nothing is lost but what it had read`,
      async (t) => {
        const killing = await traffic.around(() => node.kill(role), 500)
        isNearlyUndisturbed(t, killing, 'kill')
        assert.deepEqual(await unansweredOf(node, 'node'), [])
        await node.start(role)
        await node.isWell()
        const hanging = await traffic.around(async () => {
          node.hang(role)
          await sleep(1000)
          node.wake(role)
        }, 500)
        isNearlyUndisturbed(t, hanging, 'hang')
        await node.isWell()
        const stopping = await traffic.around(() => node.stop(role), 500)
        tell(t, stopping, 'stop')
        assert.deepEqual(stopping.faults, [])
        await node.start(role)
        await node.isWell()
      },
    )
  }

  const away = {
    'are killed': { leave: () => node.kill(...ROLES), come: () => node.start(...ROLES) },
    hang: { leave: async () => node.hang(...ROLES), come: async () => node.wake(...ROLES) },
    'are stopped': { leave: () => node.stop(...ROLES), come: () => node.start(...ROLES) },
  }
  for (const [what, { leave, come }] of Object.entries(away)) {
    await t.test(
      `both ${what}: back at the cluster's DNS, whatever address is asked`,
      async (t) => {
        const fromMs = monotonicMs()
        await leave()
        const leftMs = monotonicMs()
        await sleep(FALL_THROUGH_MS)
        assert.deepEqual(await unansweredOf(node, 'node'), [])
        assert.deepEqual(await unansweredOf(node, 'bystander'), [])
        assert.equal((await unansweredOf(node, 'client')).length, SERVERS.length * 2)
        const toMs = monotonicMs()
        for (const [who, asker] of Object.entries({ node: traffic, pod })) {
          const seen = await asker.seen(fromMs, toMs)
          tell(t, seen, `${who}, until ${Math.round(seen.lastLostMs)} ms after`)
          assert(seen.lastLostMs < leftMs - fromMs + FALL_THROUGH_MS, seen.faults.join('\n'))
          const later = await asker.seen(leftMs + FALL_THROUGH_MS, toMs)
          assert.deepEqual(later.faults, [])
          assert(later.answered > 50, JSON.stringify(later))
        }
        await come()
        await node.isWell()
        const again = await traffic.during(() => sleep(500))
        assert.deepEqual(again.faults, [])
      },
    )
  }

  await t.test('cleanup leaves nothing', async () => {
    await node.stop(...ROLES)
    const { code, stderr } = await node.world.run([
      ...['./node', './namegate', 'cleanup', '-c', 'namegate.yaml'],
    ])
    assert.equal(code, 0, stderr)
    assert.equal(node.world.kernelState(), before)
  })
})

/** By real dig: ways on which no answer, or another, came. */
async function unansweredOf(node: E2eNode, place: Place): Promise<string[]> {
  const ways = SERVERS.flatMap((server) => [
    { server, protocol: '+notcp' },
    { server, protocol: '+tcp' },
  ])
  const found = await Promise.all(
    ways.map(async ({ server, protocol }) => {
      const said = await node.lookUp(place, `@${server}`, protocol, '+tries=1', '+time=1', NAME)
      return said.join() === ANSWER.join() ? [] : [`${server} ${protocol}: ${said.join()}`]
    }),
  )
  return found.flat()
}

/** At most what a process can have read was lost. */
function isNearlyUndisturbed(t: TestContext, seen: Seen, what: string): void {
  tell(t, seen, what)
  assert(seen.lost + seen.tcpLost <= BATCH, seen.faults.join('\n'))
}

function tell(t: TestContext, { asked, lost, tcpAsked, tcpLost, gapMs }: Seen, what: string): void {
  t.diagnostic(`${what}: lost ${lost} of ${asked}, TCP ${tcpLost} of ${tcpAsked}, gap ${gapMs} ms`)
}
