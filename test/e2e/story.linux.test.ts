/**
 * The story as a test, started as `npm start` starts it, and what must hold around it: an end in
 * the middle leaves nothing behind.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingForNamespaces, namespaceNames } from '../support/netns.ts'
import { run, type RunningProcess, start } from '../support/process.ts'
import type { Told } from '../story/teller.ts'

const skip = missingForNamespaces()
const ROOT = join(import.meta.dirname, '..', '..')
/** The story promises 90 s; npm and the Node of this machine need a moment before and after. */
const STORY_MS = 120_000

/** Of this test alone: a story that somebody left up is not disturbed. */
const WORLD = `ngt-${process.pid}-story`
const COMMAND = ['tools/prepare.mjs', 'story', '--json', '--world', WORLD]

test('every step of the story goes as promised', { skip, timeout: STORY_MS + 5_000 }, async () => {
  const finished = await run(process.execPath, COMMAND, { cwd: ROOT, deadlineMs: STORY_MS })
  const steps = finished.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Told)
  const broken = steps.filter(({ ok }) => !ok)
  assert.deepEqual(broken, [], finished.stderr)
  assert.equal(finished.code, 0, finished.stderr)
  const chapters = new Set(steps.map(({ step }) => Number(step.split('.')[0])))
  assert.deepEqual([...chapters], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  for (const step of steps) {
    assert.deepEqual(Object.keys(step), ['step', 'command', 'promised', 'seen', 'ok'])
    assert(step.command !== '' && step.promised !== '' && step.seen !== '', step.step)
  }
  assertNothingLeft()
})

for (const [what, signal] of [
  ['Ctrl-C', 'SIGINT'],
  ['SIGTERM', 'SIGTERM'],
] as const) {
  test(`${what} in the middle of the story leaves nothing behind`, { skip }, async () => {
    await using story = await startStory()
    story.kill(signal)
    assert.notEqual((await story.exited).code, 0)
    assertNothingLeft()
  })
}

test('--clean leaves a story alone that is being told, and removes what a killed one left', {
  skip,
}, async () => {
  await using story = await startStory()
  const clean = () => run(process.execPath, [...COMMAND, '--clean'], { cwd: ROOT })
  const refused = await clean()
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, new RegExp(`process ${story.pid} is telling the story`))
  story.kill('SIGKILL')
  await story.exited
  assert(ourNamespaces().length > 0)
  const { code, stderr } = await clean()
  assert.deepEqual([code, stderr], [0, 'removed\n'])
  assertNothingLeft()
})

/** Until its first step is told: then a daemon runs. By itself, so that signals reach it alone. */
function startStory(): Promise<RunningProcess> {
  const script = join(ROOT, 'test', 'story', 'main.ts')
  const words = ['--disable-warning=ExperimentalWarning', script, '--json', '--world', WORLD]
  return start(process.execPath, words, { ready: '"step":"0.1"', readyMs: 30_000 })
}

function assertNothingLeft(): void {
  assert.deepEqual(ourNamespaces(), [])
  assert(!existsSync(join(tmpdir(), WORLD)))
}

function ourNamespaces(): string[] {
  return namespaceNames().filter((name) => name.startsWith(WORLD))
}
