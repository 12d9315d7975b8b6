/**
 * Both processes are told to stop at once, as when a node is drained or a DaemonSet is deleted. A
 * pod without a policy notices nothing: until the last moment in which the kernel hands its
 * questions to us somebody reads and answers them, and afterwards they go to the cluster's DNS.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { E2eNode, KNOWN_NAMES } from '../support/e2e-node.ts'
import { Traffic } from '../support/e2e-traffic.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { sleep } from '../support/process.ts'

const skip = missingForNamespaces()
const ROUNDS = 3
const PER_SECOND = 500
/** So long that there are always questions in hand, which a stop waits for. */
const UPSTREAM_MS = 300
/** Questions of so many milliseconds may be lost. */
const LOST_MS = 5
/** Connections that were being made in the moment in which the kernel stopped handing them to us. */
const TCP_LOST_MAX = 3
/** Beside what is waited for: the upstream, and the end of the process. */
const STOP_MS = 2500

test('both are stopped at once: no question of an ungoverned pod is lost', { skip }, async (t) => {
  await using node = await E2eNode.build('stop', { slowMs: UPSTREAM_MS })
  for (let round = 0; round < ROUNDS; round++) {
    await node.start('agent')
    await node.start('proxy')
    await node.isWell()
    await using traffic = await Traffic.start(node, 'bystander', {
      ...{ perSecond: PER_SECOND, tcpEvery: 10, never: [], known: KNOWN_NAMES },
    })
    await sleep(500)
    let tookMs = 0
    const seen = await traffic.around(async () => {
      const fromMs = performance.now()
      await node.stop('agent', 'proxy')
      tookMs = Math.round(performance.now() - fromMs)
    }, 1000)
    t.diagnostic(
      `lost ${seen.lost} of ${seen.asked}, TCP ${seen.tcpLost} of ${seen.tcpAsked}, ` +
        `gap ${seen.gapMs} ms, stopped in ${tookMs} ms`,
    )
    assert(seen.lost <= (LOST_MS * PER_SECOND) / 1000, seen.faults.join('\n'))
    assert(seen.tcpLost <= TCP_LOST_MAX, seen.faults.join('\n'))
    assert(tookMs < STOP_MS, `they stop in ${tookMs} ms`)
  }
})
