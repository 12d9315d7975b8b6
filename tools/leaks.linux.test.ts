import { test } from 'node:test'
import assert from 'node:assert/strict'
import { missingForNamespaces, Namespace } from '../test/support/netns.ts'
import { run, start } from '../test/support/process.ts'
import { findLeaks, removeLeaks, takeStock } from './leaks.ts'

const skip = missingForNamespaces()
const MARK = `NAMEGATE_LEAK_TEST=${process.pid}`

test('a process that outlives its run is found by its mark, and ended', { skip }, async () => {
  const before = takeStock()
  assert.deepEqual(findLeaks(before, MARK), [])
  await using sleeper = await start('sleep', ['60'], {
    env: { NAMEGATE_LEAK_TEST: String(process.pid) },
  })
  assert.deepEqual(findLeaks(before, MARK), [`process ${sleeper.pid}: sleep 60`])
  removeLeaks(before, MARK)
  assert.equal((await sleeper.exited).signal, 'SIGKILL')
  assert.deepEqual(findLeaks(before, MARK), [])
})

test('a namespace whose process is gone is found; one of a run that is alive is not', {
  skip,
}, async () => {
  // Ours, but this process does not carry the mark: to the finder it is another run's. Made first,
  // because making one sweeps orphans away.
  const before = takeStock()
  using other = Namespace.create('other')
  const shell = await run('sh', ['-c', 'ip netns add ngt-$$-0-orphan; echo ngt-$$-0-orphan'])
  const orphan = shell.stdout.trim()
  try {
    assert.deepEqual(findLeaks(before, MARK), [`namespace: ${orphan}`])
  } finally {
    removeLeaks(before, MARK)
  }
  assert.deepEqual(findLeaks(before, MARK), [])
  other.ip('link')
})

// The machine's own namespace must not be touched, so the finder is moved instead: it runs as a
// program inside a namespace, where a table, a rule and a link appear between its two looks.
test('an nft table, a routing rule and a link that were not there before are found', {
  skip,
}, async () => {
  using node = Namespace.create('node')
  const script = `
    import { execSync } from 'node:child_process'
    import { findLeaks, takeStock } from '${new URL('./leaks.ts', import.meta.url).href}'
    const before = takeStock()
    execSync('nft add table inet namegate; ip rule add pref 100 fwmark 1 lookup 20551; ip -6 rule add pref 100 fwmark 1 lookup 20551; ip link add veth7 type veth peer name veth8')
    process.stdout.write(JSON.stringify(findLeaks(before, 'NO=0')))`
  const finished = await node.run(process.execPath, ['--input-type=module', '-e', script])
  assert.equal(finished.code, 0, finished.stderr)
  assert.deepEqual(JSON.parse(finished.stdout), [
    'nft table: table inet namegate',
    'ip rule: 100:\tfrom all fwmark 0x1 lookup 20551',
    'ip -6 rule: 100:\tfrom all fwmark 0x1 lookup 20551',
    'link: veth8',
    'link: veth7',
  ])
})
