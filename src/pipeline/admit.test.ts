import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InProcessWorld } from '../../test/support/scenario/in-process.ts'
import { parseScenario } from '../../test/support/scenario/parse.ts'
import { addressesOf } from '../../test/support/scenario/reply-text.ts'
import { CLUSTER_DNS } from '../../test/support/scenario/scenario.ts'
import { FLAG_RD, RCODE_SERVFAIL } from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'

const STORY = `# Two clients that may reach the same names.
client    10.0.0.7 (team=web)
client    10.0.0.8 (team=web)
policy    team=web may reach *.example.com
upstream  api.example.com A 192.0.2.10 ttl 300
upstream  www.example.com A 192.0.2.11 ttl 300
`
let id = 0

/** What the client is told, and how many grants were written for it. */
async function ask(world: InProcessWorld, client: string, name: string) {
  const before = world.counter('grantsWritten')
  const bytes = buildMessage({ id: ++id, flags: FLAG_RD, question: `${name}. A` })
  const [sent] = await world.send([{ client, server: CLUSTER_DNS.v4, isTcp: false, bytes }])
  const reply = await world.reply(sent!, 6000)
  const message = parseMessage(reply!.bytes)!
  const written = world.counter('grantsWritten') - before
  return { rcode: message.rcode, addresses: addressesOf(message), written }
}

test('a set that is full for one client costs no other a grant anew', async () => {
  const story = parseScenario(STORY, 'story')
  await using world = new InProcessWorld(story)
  for (const step of story.steps)
    if (step.kind === 'records') await world.changeRecords(step.change)
  const first = { rcode: 0, addresses: ['192.0.2.10'], written: 1 }
  assert.deepEqual(await ask(world, '10.0.0.7', 'api.example.com'), first)
  await world.setKernel('is full')
  for (let round = 0; round < 3; round++) {
    // Closed: what was refused is refused again, however often it is asked for.
    const refused = await ask(world, '10.0.0.8', 'www.example.com')
    assert.deepEqual(refused, { rcode: RCODE_SERVFAIL, addresses: [], written: 0 })
    const again = await ask(world, '10.0.0.7', 'api.example.com')
    assert.deepEqual(again, { ...first, written: 0 })
  }
  await world.setKernel('takes grants')
  const taken = await ask(world, '10.0.0.8', 'www.example.com')
  assert.deepEqual(taken, { rcode: 0, addresses: ['192.0.2.11'], written: 1 })
})
