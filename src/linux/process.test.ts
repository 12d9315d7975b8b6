import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { interfaceIndex, lockFile, monotonicMs, processCpuMs, threadCpuMs } from './process.ts'

const MODULE = JSON.stringify(new URL('./process.ts', import.meta.url).href)

function runChild(code: string): { status: number | null; stderr: string; stdout: string } {
  const text = `import * as linux from ${MODULE}\n${code}`
  return spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
    timeout: 20_000,
  })
}

test('the monotonic clock is whole milliseconds and keeps pace with Node', async () => {
  const outer = performance.now()
  const start = monotonicMs()
  const inner = performance.now()
  await new Promise((resolve) => setTimeout(resolve, 30))
  const innerPassed = performance.now() - inner
  const passed = monotonicMs() - start
  const outerPassed = performance.now() - outer
  assert.ok(Number.isInteger(passed))
  assert.ok(passed > innerPassed - 1 && passed < outerPassed + 1, `${passed}`)
})

test('CPU time passes while the processor is busy, and hardly while it is not', async () => {
  const busyMs = (run: () => void): [number, number] => {
    const [ofProcess, ofThread] = [processCpuMs(), threadCpuMs()]
    run()
    return [processCpuMs() - ofProcess, threadCpuMs() - ofThread]
  }
  const [ofProcess, ofThread] = busyMs(() => {
    const until = threadCpuMs() + 20
    while (threadCpuMs() < until);
  })
  assert.ok(ofThread >= 20 && ofProcess >= 20, `${ofThread} ${ofProcess}`)
  const before = threadCpuMs()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.ok(threadCpuMs() - before < 40)
})

test('exitNow ends the process from a worker, with its last words and no exit handler', () => {
  const { status, stderr, stdout } = runChild(`
    import { Worker } from 'node:worker_threads'
    process.on('exit', () => console.log('exit handler'))
    const code = 'const linux = await import(' + ${JSON.stringify(MODULE)} + '); ' +
      'linux.writeStderr("worker: über\\\\n"); linux.exitNow(70)'
    new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)))
    setTimeout(() => {}, 15000)`)
  assert.deepEqual([status, stderr, stdout], [70, 'worker: über\n', ''])
})

test('words too long for their memory are cut, not written past its end', () => {
  const { status, stderr } = runChild(`linux.writeStderr('x'.repeat(10000)); linux.exitNow(3)`)
  assert.deepEqual([status, stderr.length], [3, 4096])
})

test('who gives way lets those go first that it began before, and nobody whom it begins later', () => {
  const { stdout, stderr } = runChild(`
    import { spawnSync } from 'node:child_process'
    import { readFileSync, readdirSync } from 'node:fs'
    import { Worker } from 'node:worker_threads'
    const niceOf = (path) => Number(readFileSync(path, 'utf8').split(') ')[1].split(' ')[16])
    const before = new Worker('setTimeout(() => {}, 20000)', { eval: true })
    linux.giveWay()
    linux.giveWay()
    const threads = readdirSync('/proc/self/task')
    const later = spawnSync('nice', [], { encoding: 'utf8' })
    console.log(niceOf('/proc/self/stat'), Number(later.stdout),
      threads.filter((id) => niceOf('/proc/self/task/' + id + '/stat') !== 0).length, threads.length > 2)
    process.exit(0)`)
  assert.deepEqual([stdout, stderr], ['10 10 1 true\n', ''])
})

test('a file is locked once, also between processes, and free when its holder is gone', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'namegate-lock-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'lock')
  const tryElsewhere = `process.exitCode = linux.lockFile(${JSON.stringify(path)}) === null ? 1 : 0`
  const lock = lockFile(path)
  assert.ok(lock !== null)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(lockFile(path), null)
  assert.equal(runChild(tryElsewhere).status, 1)
  closeSync(lock)
  assert.equal(runChild(tryElsewhere).status, 0)
  const again = lockFile(path)
  assert.ok(again !== null, 'the other process has ended: its lock went with it')
  closeSync(again)
  assert.throws(() => lockFile(join(directory, 'no', 'such')), { code: 'ENOENT' })
})

test('the loopback interface has an index; an interface that is not there has none', () => {
  assert.equal(interfaceIndex('lo'), 1)
  assert.equal(interfaceIndex('no-such-link'), 0)
  assert.equal(interfaceIndex('x'.repeat(5000)), 0)
})

allocatesNothing('reading the clock allocates nothing', () => () => monotonicMs() & 0xff)
