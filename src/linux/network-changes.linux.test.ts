import assert from 'node:assert/strict'
import { test } from 'node:test'
import { missingForNamespaces, Namespace } from '../../test/support/netns.ts'
import { sleep, until } from '../../test/support/process.ts'

/** A line for each look that found a change. */
const WATCHER = `
import { NetworkChanges } from '${import.meta.resolve('./network-changes.ts')}'
const changes = new NetworkChanges()
console.log(changes.take() ? 'changed before the first look' : 'nothing')
setInterval(() => changes.take() && console.log('changed'), 10)
`
const WORDS = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', WATCHER]

const CHANGES: readonly (readonly string[])[] = [
  ['link', 'set', 'lo', 'mtu', '1400'],
  ['route', 'add', '192.0.2.0/24', 'dev', 'lo'],
  ['-6', 'route', 'add', '2001:db8::/64', 'dev', 'lo'],
  ['rule', 'add', 'fwmark', '7', 'lookup', '100'],
  ['-6', 'rule', 'add', 'fwmark', '7', 'lookup', '100'],
  ['rule', 'del', 'fwmark', '7', 'lookup', '100'],
  ['route', 'flush', '192.0.2.0/24'],
  ['xfrm', 'policy', 'add', 'src', '192.0.2.7', 'dir', 'fwd', 'action', 'block'],
  ['xfrm', 'policy', 'flush'],
]

test('whatever changes the way of a packet is told, and nothing else', {
  skip: missingForNamespaces(),
}, async () => {
  using node = Namespace.create('changes')
  await using watcher = await node.start(process.execPath, WORDS, { ready: 'before the first' })
  const told = (): number => watcher.stdout.split('\n').filter((line) => line === 'changed').length
  for (const words of CHANGES) {
    const before = told()
    node.ip(...words)
    await until(`told of: ip ${words.join(' ')}`, () => told() > before, 1000)
  }
  await sleep(50)
  const before = told()
  node.ip('rule', 'show')
  node.ip('route', 'show', 'table', 'all')
  await sleep(100)
  assert.equal(told(), before, 'looking changes nothing')
})
