import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { lookEvery } from './looks.ts'
import { monotonicMs } from './process.ts'

const EVERY_MS = 40

test('who looks seldom does it in a waking of those who look often', async () => {
  const seen: { who: string; waking: number }[] = []
  let waking = 0
  const note = (who: string) => () => {
    seen.push({ who, waking })
    setImmediate(() => waking++)
  }
  using _often = lookEvery(EVERY_MS, note('often'))
  await sleep(EVERY_MS / 3)
  using _seldom = lookEvery(2 * EVERY_MS, note('seldom'))
  await sleep(6 * EVERY_MS)
  const seldom = seen.filter(({ who }) => who === 'seldom')
  assert.ok(seldom.length >= 1 && seldom.length <= 4, JSON.stringify(seen))
  for (const one of seldom) {
    const others = seen.filter(({ who, waking }) => who === 'often' && waking === one.waking)
    assert.equal(others.length, 1, JSON.stringify(seen))
  }
})

test('a look that comes late is not made up for', async () => {
  let count = 0
  using _look = lookEvery(EVERY_MS, () => count++)
  const untilMs = monotonicMs() + 5 * EVERY_MS
  while (monotonicMs() < untilMs);
  await sleep(0)
  await sleep(EVERY_MS / 2)
  assert.ok(count >= 1 && count <= 2, `${count} looks`)
})

test('a look that another one has ended does not come any more', async () => {
  const seen: string[] = []
  const looks: Disposable[] = []
  const endAll = (who: string) => () => {
    seen.push(who)
    for (const look of looks) look[Symbol.dispose]()
  }
  looks.push(lookEvery(EVERY_MS, endAll('first')), lookEvery(EVERY_MS, endAll('second')))
  await sleep(3 * EVERY_MS)
  assert.deepEqual(seen, ['first'])
})

test('a look keeps no process running', () => {
  const script = `import { lookEvery } from ${JSON.stringify(import.meta.resolve('./looks.ts'))}; lookEvery(1e6, () => {})`
  const words = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script]
  assert.equal(spawnSync(process.execPath, words, { timeout: 10_000 }).status, 0)
})
