import { test } from 'node:test'
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { type Finished, run, start, until } from './process.ts'

test('run hands back what a program printed and how it ended', async () => {
  const finished = await run('sh', ['-c', 'cat; echo no >&2; exit 3'], { input: 'hello\n' })
  assert.deepEqual(finished, { code: 3, signal: null, stdout: 'hello\n', stderr: 'no\n' })
})

test('a program that outlives its deadline is killed, and the message says what it printed', async () => {
  const begun = performance.now()
  await assert.rejects(
    run('sh', ['-c', 'echo waiting for nothing; exec sleep 30'], { deadlineMs: 200 }),
    /sleep 30: still running after 200 ms\.\nwaiting for nothing/,
  )
  assert(performance.now() - begun < 5_000)
})

test('a program that does not exist is an error with its name', async () => {
  await assert.rejects(run('no-such-program', []), /no-such-program.*ENOENT/)
  await assert.rejects(start('no-such-program', []), /no-such-program.*ENOENT/)
})

test('start returns when the ready line is there, on either stream', async () => {
  await using out = await start('sh', ['-c', 'echo ready; exec sleep 30'], { ready: 'ready' })
  await using err = await start('sh', ['-c', 'echo up 41 >&2; exec sleep 30'], { ready: /up \d+/ })
  assert.equal(await err.output(/up \d+/), 'up 41')
  assert(out.isRunning && err.isRunning)
})

test('start fails when the program ends before it is ready, and tells why', async () => {
  await assert.rejects(
    start('sh', ['-c', 'echo no config >&2; exit 1'], { ready: 'ready' }),
    /ended early\.\nno config/,
  )
})

test('start fails, and ends the program and its children, when the ready line is late', async () => {
  const begun = performance.now()
  const late = start('sh', ['-c', 'sleep 30 & echo child $!; wait'], { ready: 'up', readyMs: 200 })
  const error = await late.then(
    () => assert.fail('it never says up'),
    (reason: Error) => reason,
  )
  assert.match(error.message, /no up in 200 ms/)
  const child = /child (\d+)/.exec(error.message)![1]!
  await until('its child is gone', () => isGone(Number(child)), 1_000)
  assert(performance.now() - begun < 5_000)
})

test('leaving the scope ends the program, though it is stopped or ignores SIGTERM', async () => {
  let pids: number[]
  let stoppedEnd: Promise<Finished>
  {
    await using stopped = await start('sleep', ['30'])
    await using stubborn = await start(
      'sh',
      ['-c', "trap '' TERM; echo deaf; while :; do sleep 0.1; done"],
      {
        ready: 'deaf',
        graceMs: 100,
      },
    )
    stopped.kill('SIGSTOP')
    pids = [stopped.pid, stubborn.pid]
    stoppedEnd = stopped.exited
  }
  assert.equal((await stoppedEnd).signal, 'SIGTERM')
  await until('both are gone', () => pids.every(isGone), 1_000)
})

/** Gone, or dead and not yet collected by whoever adopted it. */
function isGone(pid: number): boolean {
  if (!existsSync(`/proc/${pid}`)) return true
  return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
}
