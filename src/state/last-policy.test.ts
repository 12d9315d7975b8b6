import assert from 'node:assert/strict'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { run, sleep, start, until } from '../../test/support/process.ts'
import { lockFile } from '../linux/process.ts'
import { createLogTo } from '../log.ts'
import { LastPolicy } from './last-policy.ts'

let parent = ''
let directory = ''
let lines: string[] = []
const log = createLogTo(
  { write: (line) => void lines.push(line) },
  { level: 'info', fields: {}, isTerminal: false },
)

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'namegate-state-'))
  directory = join(parent, 'state')
  lines = []
})

afterEach(() => rmSync(parent, { recursive: true }))

function snapshot(revision: number): string {
  return JSON.stringify({ layout: 1, revision, clients: [{ name: 'Zürich' }] })
}

async function keep(...revisions: number[]): Promise<void> {
  const last = new LastPolicy(directory, log)
  for (const revision of revisions) {
    last.keep(revision, snapshot(revision))
    await last.written()
  }
  assert.equal(last.fault, null)
}

function read(): { revision: number; text: string } | null {
  return new LastPolicy(directory, log).read()
}

function file(name = 'policy.json'): string {
  return join(directory, name)
}

test('what was kept last is read, and nobody but its owner may', async () => {
  assert.equal(read(), null)
  await keep(41, 42)
  assert.deepEqual(read(), { revision: 42, text: snapshot(42) })
  assert.equal(statSync(directory).mode & 0o777, 0o700)
  assert.equal(statSync(file()).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(directory).sort(), [
    'policy.json',
    'policy.json.previous',
    'policy.lock',
  ])
  assert.equal(lines.length, 0)
})

test('of several policies in a row the newest is on disk in the end', async () => {
  const last = new LastPolicy(directory, log)
  for (let revision = 1; revision <= 50; revision++) last.keep(revision, snapshot(revision))
  await last.close()
  assert.equal(read()?.revision, 50)
})

test('a byte changed anywhere in the file: it is set aside, and the one before it is used', async () => {
  await keep(41, 42)
  const [newest, previous] = [readFileSync(file()), readFileSync(file('policy.json.previous'))]
  const damage = fc.oneof(
    fc
      .record({ at: fc.nat(newest.length - 1), bits: fc.integer({ min: 1, max: 255 }) })
      .map(({ at, bits }) => {
        const bytes = Buffer.from(newest)
        bytes[at]! ^= bits
        return bytes
      }),
    fc.nat(newest.length - 1).map((length) => newest.subarray(0, length)),
    fc.uint8Array({ minLength: 1, maxLength: 40 }).map((more) => Buffer.concat([newest, more])),
    fc.tuple(fc.nat(newest.length), fc.nat(newest.length)).map(([from, length]) => {
      const bytes = Buffer.from(newest)
      return Buffer.concat([
        bytes.fill(0, from, Math.min(from + length, bytes.length)),
        Buffer.alloc(1),
      ])
    }),
    fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(damage, (bytes) => {
      writeFileSync(file(), bytes)
      writeFileSync(file('policy.json.previous'), previous)
      assert.deepEqual(read(), { revision: 41, text: snapshot(41) })
      assert.deepEqual(readFileSync(file('policy.json.damaged')), bytes)
      assert.ok(!existsSync(file()))
    }),
    { numRuns: 150 },
  )
  assert.match(lines[0]!, /"unexpected":true,"msg":"a policy on disk is damaged and not used/)
})

test('every single byte of the header counts', async () => {
  await keep(41)
  const whole = readFileSync(file())
  for (let at = 0; at <= whole.indexOf(0x0a); at++) {
    for (const bits of [1, 2, 0x20]) {
      const bytes = Buffer.from(whole)
      bytes[at]! ^= bits
      writeFileSync(file(), bytes)
      assert.equal(read(), null, `byte ${at}, bits ${bits}`)
    }
  }
})

test('both damaged: there is no policy, and both are set aside', async () => {
  await keep(41, 42)
  writeFileSync(file(), 'rubbish')
  writeFileSync(file('policy.json.previous'), '')
  assert.equal(read(), null)
  assert.deepEqual(readdirSync(directory).sort(), [
    'policy.json.damaged',
    'policy.json.previous.damaged',
    'policy.lock',
  ])
  await keep(43)
  assert.equal(read()?.revision, 43)
})

test('a damaged policy never becomes the one before the last', async () => {
  await keep(41, 42)
  writeFileSync(file(), 'rubbish')
  await keep(43)
  assert.equal(read()?.revision, 43)
  rmSync(file())
  assert.equal(read()?.revision, 41)
  assert.equal(readFileSync(file('policy.json.damaged'), 'utf8'), 'rubbish')
})

test('a policy of another layout is left where it is', async () => {
  const { createHash } = await import('node:crypto')
  await keep(41)
  const start = 'namegate-policy layout=2 revision=42 bytes=2'
  const sha256 = createHash('sha256').update(`${start}\n{}`).digest('hex')
  writeFileSync(file(), `${start} sha256=${sha256}\n{}`)
  assert.equal(read(), null)
  assert.ok(existsSync(file()))
  assert.match(lines[0]!, /of another release/)
})

test('an older revision never replaces a newer one, nor the same the one before it', async () => {
  await keep(41, 42)
  await keep(42)
  await keep(40)
  assert.equal(read()?.revision, 42)
  rmSync(file())
  assert.equal(read()?.revision, 41)
})

test('a disk that takes nothing is said once, shown in status, and tried again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  writeFileSync(directory, 'a file where the directory should be')
  const last = new LastPolicy(directory, log)
  last.keep(41, snapshot(41))
  await last.written()
  assert.match(last.fault ?? '', /write policy 41 to .*EEXIST|ENOTDIR/)
  t.mock.timers.tick(1000)
  await last.written()
  assert.equal(lines.length, 1)
  rmSync(directory)
  t.mock.timers.tick(1999)
  await last.written()
  assert.notEqual(last.fault, null)
  t.mock.timers.tick(1)
  await last.written()
  assert.equal(last.fault, null)
  assert.equal(read()?.revision, 41)
  assert.match(lines[1]!, /on disk again/)
  await last.close()
})

test('killed while writing, over and over: what is on disk is always whole', async () => {
  const program = `
    import { LastPolicy } from ${JSON.stringify(join(import.meta.dirname, 'last-policy.ts'))}
    const log = { info() {}, warn() {}, error() {} }
    const last = new LastPolicy(${JSON.stringify(directory)}, log)
    for (let revision = (last.read()?.revision ?? 0) + 1; ; revision++) {
      last.keep(revision, JSON.stringify({ revision, filler: 'x'.repeat(1_000_000) }))
      await last.written()
      process.stdout.write('.')
    }`
  let before = 0
  for (const [round, afterMs] of [0, 7].entries()) {
    await using writer = await start(process.execPath, ['--input-type=module', '-e', program])
    await until('some were written', () => writer.stdout.length > 3)
    await new Promise((resolve) => setTimeout(resolve, afterMs))
    writer.kill('SIGKILL')
    await writer.exited
    const found = read()
    assert.ok(found !== null && found.revision > before, `round ${round}`)
    assert.equal((JSON.parse(found.text) as { revision: number }).revision, found.revision)
    before = found.revision
  }
  assert.equal(lines.length, 0)
})

test('two processes that write at once leave the newest', async () => {
  const program = (first: number) => `
    import { LastPolicy } from ${JSON.stringify(join(import.meta.dirname, 'last-policy.ts'))}
    const last = new LastPolicy(${JSON.stringify(directory)}, { info() {}, warn() {}, error() {} })
    for (let revision = ${first}; revision <= 60; revision += 2) {
      last.keep(revision, JSON.stringify({ revision }))
      await last.written()
    }
    if (last.fault !== null) throw new Error(last.fault)`
  const ended = await Promise.all(
    [1, 2].map((first) =>
      run(process.execPath, ['--input-type=module', '-e', program(first)], { deadlineMs: 20_000 }),
    ),
  )
  assert.deepEqual(
    ended.map(({ code, stderr }) => [code, stderr]),
    [
      [0, ''],
      [0, ''],
    ],
  )
  assert.equal(read()?.revision, 60)
  assert.equal(lines.length, 0)
})

test('while the other process compares and replaces, this one waits; for one that hangs not long', async () => {
  await keep(1)
  const lock = lockFile(file('policy.lock'))!
  const last = new LastPolicy(directory, log)
  last.keep(2, snapshot(2))
  await sleep(300)
  assert.equal(read()?.revision, 1)
  closeSync(lock)
  await last.written()
  assert.equal(read()?.revision, 2)
  const hanging = lockFile(file('policy.lock'))!
  last.keep(3, snapshot(3))
  await last.written()
  assert.equal(read()?.revision, 3)
  closeSync(hanging)
})
