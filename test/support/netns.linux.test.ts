import { test } from 'node:test'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { connect, missingForNamespaces, Namespace } from './netns.ts'
import { run, start, until } from './process.ts'

const skip = missingForNamespaces()

test('two namespaces joined by a pair reach each other, by v4 and v6, at once', { skip }, () => {
  using node = Namespace.create('node')
  using pod = Namespace.create('pod')
  connect(
    { namespace: node, interface: 'veth-pod', addresses: ['10.0.0.1/24', '2001:db8::1/64'] },
    { namespace: pod, interface: 'eth0', addresses: ['10.0.0.7/24', '2001:db8::7/64'] },
  )
  // Nobody listens there; the refusal is the proof that a packet went and another came back.
  for (const address of ['10.0.0.1', '2001:db8::1']) {
    assert.throws(
      () => pod.exec('timeout', '2', 'bash', '-c', `: < /dev/tcp/${address}/9`),
      /Connection refused/,
    )
  }
})

test('a namespace is gone with its programs when the scope is left', { skip }, async () => {
  let path: string
  let pid: number
  {
    using pod = Namespace.create('pod')
    path = pod.path
    const sleeper = await pod.start('sleep', ['60'])
    pid = sleeper.pid
    assert.equal(
      spawnSync('ip', ['netns', 'identify', String(pid)])
        .stdout.toString()
        .trim(),
      pod.name,
    )
  }
  assert(!existsSync(path))
  await until('the program is gone', () => !existsSync(`/proc/${pid}`), 1_000)
})

test('a command that fails says what was tried and what came back', { skip }, async () => {
  using pod = Namespace.create('pod')
  assert.throws(() => pod.ip('link', 'set', 'eth9', 'up'), /ip -n ngt-.*eth9 up: .*eth9/)
  assert.equal((await pod.run('false', [])).code, 1)
})

// A test process was killed with SIGKILL while its namespace stood. Nothing could run in it any
// more, so the next process that makes a namespace takes the orphan away.
test('what a killed test process left is swept away by the next one', { skip }, async () => {
  const script = `import { Namespace } from '${new URL('./netns.ts', import.meta.url)}'
    console.log(Namespace.create('orphan').name); setInterval(() => {}, 1000)`
  await using victim = await start(process.execPath, ['--input-type=module', '-e', script], {
    ready: /ngt-\S+/,
  })
  const name = await victim.output(/ngt-\S+/)
  victim.kill('SIGKILL')
  await victim.exited
  assert(existsSync(`/run/netns/${name}`))
  const next = script.replace('setInterval(() => {}, 1000)', '')
  assert.equal((await run(process.execPath, ['--input-type=module', '-e', next])).code, 0)
  assert(!existsSync(`/run/netns/${name}`))
})

test('a test process that ends by SIGTERM takes its namespaces away', { skip }, async () => {
  const script = `import { Namespace } from '${new URL('./netns.ts', import.meta.url)}'
    console.log(Namespace.create('ended').name); setInterval(() => {}, 1000)`
  await using child = await start(process.execPath, ['--input-type=module', '-e', script], {
    ready: /ngt-\S+/,
  })
  const name = await child.output(/ngt-\S+/)
  child.kill('SIGTERM')
  await child.exited
  assert(!existsSync(`/run/netns/${name}`))
})
