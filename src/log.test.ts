import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { createLogTo, type LogOptions, readable, Repeats } from './log.ts'
import { printable } from './printable.ts'

const OPTIONS: LogOptions = { level: 'info', fields: { role: 'agent', pid: 7 }, isTerminal: false }

/** A log and the records it wrote. */
function capture(options = OPTIONS) {
  const lines: string[] = []
  const log = createLogTo({ write: (line) => lines.push(line) }, options)
  return { log, lines, records: () => lines.map((line) => JSON.parse(line)) }
}

test('a line is one JSON object: level as a word, ISO time, fields, sentence', () => {
  const { log, records } = capture()
  log.info({ revision: 41, rules: 310 }, 'policy applied')
  log.debug({}, 'not at this level')
  log.child({ zone: 'example.com' }).warn({}, 'no server answers')
  const [first, second, ...rest] = records()
  assert.deepEqual(rest, [])
  assert.match(first.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  assert.deepEqual(
    { ...first, time: '' },
    {
      level: 'info',
      time: '',
      role: 'agent',
      pid: 7,
      revision: 41,
      rules: 310,
      msg: 'policy applied',
    },
  )
  assert.equal(second.zone, 'example.com')
})

test('an error keeps its type, message and stack', () => {
  const { log, records } = capture()
  log.error({ error: new RangeError('too far') }, 'apply failed')
  const [{ error }] = records()
  assert.equal(error.type, 'RangeError')
  assert.equal(error.message, 'too far')
  assert.match(error.stack, /log\.test\.ts/)
})

test('on a terminal a line reads as a sentence with its fields behind it', () => {
  const { log, lines } = capture()
  log.warn({ zone: 'example.com', tries: 3, why: 'no route', error: new Error('x') }, 'gave up')
  const text = stripVTControlCharacters(readable(lines[0]!))
  assert.match(
    text,
    /^\d\d:\d\d:\d\d\.\d{3} warn  agent gave up zone=example\.com tries=3 why="no route" error=Error: x\n$/,
  )
})

test('what others wrote cannot move the cursor of a terminal', () => {
  assert.equal(printable('a\u001b[2Jb\rc\nd\u0007\u009b'), 'a^[[2Jb\\rc\\nd\\x07\\x9b')
  const { log, lines } = capture()
  log.info({ name: '\u001b]0;owned\u0007' }, 'x\u001b[1A')
  assert.ok(!stripVTControlCharacters(readable(lines[0]!)).includes('\u001b'))
})

test('the last line before the process ends is not lost', () => {
  const source = `
    const { createLog } = await import(${JSON.stringify(new URL('./log.ts', import.meta.url).href)})
    const log = createLog({ level: 'info', fields: {}, isTerminal: false })
    for (let index = 0; index < 5000; index++) log.info({ index }, 'x'.repeat(100))
    process.kill(process.pid, 'SIGKILL')`
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    maxBuffer: 1 << 24,
  })
  const lines = child.stderr.toString().trimEnd().split('\n')
  assert.equal(JSON.parse(lines.at(-1)!).index, 4999)
  assert.equal(lines.length, 5000)
})

test('repeats are counted and summed up once a minute', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const { log, records } = capture()
  const repeats = new Repeats(log)
  const happen = (times: number) => {
    for (let time = 0; time < times; time++) repeats.warn('k', { zone: 'z' }, 'timed out')
  }
  const sentences = () => records().map((record) => record.msg)
  happen(12_481)
  assert.deepEqual(sentences(), ['timed out'])
  t.mock.timers.tick(60_000)
  assert.deepEqual(sentences().slice(1), ['timed out … 12,480 more in 60 s'])
  assert.equal(records()[1].more, 12_480)
  t.mock.timers.tick(60_000)
  happen(1)
  assert.deepEqual(sentences().slice(2), ['timed out'])
  happen(2)
  repeats.close()
  assert.deepEqual(sentences().slice(3), ['timed out … 2 more in 60 s'])
})
