import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../log.ts'
import {
  ControlError,
  ControlServer,
  ControlSocketError,
  controlSocketPath,
  type Handler,
} from './control.ts'

const QUIET: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => QUIET,
}

interface Opened {
  readonly server: ControlServer
  readonly socketPath: string
}

async function open(
  t: TestContext,
  handlers: Record<string, Handler>,
  patienceMs = 10_000,
): Promise<Opened> {
  const directory = mkdtempSync(path.join(tmpdir(), 'namegate-control-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const socketPath = controlSocketPath(path.join(directory, 'run'), 'agent')
  const options = { socketPath, role: 'agent', log: QUIET, patienceMs } as const
  const server = await ControlServer.open(options, handlers)
  t.after(() => server.close())
  return { server, socketPath }
}

function connect(t: TestContext, socketPath: string): Promise<Socket> {
  const socket = createConnection(socketPath)
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  return new Promise((resolve) => socket.on('connect', () => resolve(socket)))
}

/** Everything the server says to `text`, as messages. */
async function talk(t: TestContext, socketPath: string, text: string) {
  const socket = await connect(t, socketPath)
  socket.write(text)
  let received = ''
  for await (const bytes of socket) received += bytes
  return received
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

async function* count(args: Readonly<Record<string, unknown>>): AsyncGenerator<object> {
  for (let number = 1; number <= Number(args['to']); number++) yield { number }
}

// Writing to a client that reads does not wait, so 10,000 rows were made and written in one turn.
test('many rows are written in slices', async (t) => {
  let turns = 0
  let isDone = false
  const look = () => {
    turns++
    if (!isDone) setImmediate(look)
  }
  let turnsOfRows = 0
  async function* rows() {
    setImmediate(look)
    for (let number = 0; number < 1000; number++) {
      const endMs = performance.now() + 0.05
      while (performance.now() < endMs);
      yield {}
    }
    turnsOfRows = turns
  }
  const { socketPath } = await open(t, { rows })
  assert.equal((await talk(t, socketPath, '{"command":"rows"}\n')).length, 1002)
  isDone = true
  assert.ok(turnsOfRows >= 5, `${turnsOfRows} turns`)
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(5)
}

test('a command is answered with a hello, its rows and an end', async (t) => {
  const { socketPath } = await open(t, { count })
  assert.deepEqual(await talk(t, socketPath, '{"command":"count","args":{"to":2}}\n'), [
    { hello: { role: 'agent', pid: process.pid, protocol: 1 } },
    { row: { number: 1 } },
    { row: { number: 2 } },
    { end: true },
  ])
})

test('nobody but us can open the socket', async (t) => {
  const { socketPath } = await open(t, { count })
  assert.equal(statSync(socketPath).mode & 0o777, 0o600)
  assert.equal(statSync(path.dirname(socketPath)).mode & 0o777, 0o700)
})

test('what is no request gets an error that says what one is', async (t) => {
  const { socketPath } = await open(t, { count })
  const answer = async (text: string) => (await talk(t, socketPath, text)).at(-1).error
  assert.deepEqual(await answer('{"command":"dance"}\n'), {
    code: 'unknown-command',
    message: "no command 'dance'; known are count",
  })
  assert.equal((await answer('hello\n')).code, 'bad-request')
  assert.equal((await answer('[]\n')).code, 'bad-request')
  assert.equal((await answer('{"command":"count","args":[]}\n')).code, 'bad-request')
  assert.equal((await answer('{"command":"toString"}\n')).code, 'unknown-command')
  assert.equal((await answer('x'.repeat(20_000))).code, 'bad-request')
})

test('a handler that says no or fails is an error with its words, and the server goes on', async (t) => {
  const no: Handler = () => {
    throw new ControlError('not-found', 'no such client')
  }
  const fail: Handler = async function* () {
    yield { number: 1 }
    throw new RangeError('too far')
  }
  const { socketPath } = await open(t, { no, fail, count })
  assert.deepEqual((await talk(t, socketPath, '{"command":"no"}\n')).slice(1), [
    { error: { code: 'not-found', message: 'no such client' } },
  ])
  assert.deepEqual((await talk(t, socketPath, '{"command":"fail"}\n')).slice(1), [
    { row: { number: 1 } },
    { error: { code: 'failed', message: "too far; the daemon's log has more" } },
  ])
  assert.equal((await talk(t, socketPath, '{"command":"count","args":{"to":1}}\n')).length, 3)
})

test('a request may come in pieces', async (t) => {
  const { socketPath } = await open(t, { count })
  const socket = await connect(t, socketPath)
  let received = ''
  socket.on('data', (bytes) => (received += bytes))
  socket.write('{"command":"co')
  await delay(20)
  socket.write('unt","args":{"to":1}}\n{"command":"ignored"}\n')
  await until(() => socket.closed)
  assert.match(received, /"number":1.*\n.*"end":true/)
})

test('a client that goes away stops its command', async (t) => {
  let isStopped = false
  const wait: Handler = async function* (_args, signal) {
    yield { number: 1 }
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    isStopped = true
  }
  const { server, socketPath } = await open(t, { wait })
  const socket = await connect(t, socketPath)
  socket.write('{"command":"wait"}\n')
  let received = ''
  socket.on('data', (bytes) => (received += bytes))
  await until(() => received.includes('"number":1'))
  socket.destroy()
  await until(() => isStopped && server.sessionCount === 0)
})

test('a reader that does not read is dropped, and costs no memory until then', async (t) => {
  let produced = 0
  const flood: Handler = async function* () {
    for (;;) yield { text: 'x'.repeat(1000), number: produced++ }
  }
  const { server, socketPath } = await open(t, { flood }, 200)
  const socket = await connect(t, socketPath)
  socket.pause()
  socket.write('{"command":"flood"}\n')
  await until(() => produced > 10)
  await until(() => server.sessionCount === 0)
  assert.ok(produced < 5000, `${produced} rows were made for nobody`)
})

test('a client that never asks is dropped', async (t) => {
  const { server, socketPath } = await open(t, { count }, 50)
  const socket = await connect(t, socketPath)
  socket.resume()
  await until(() => socket.closed)
  assert.equal(server.sessionCount, 0)
})

test('more clients than there is room for are told so', async (t) => {
  const { server, socketPath } = await open(t, { count })
  for (let client = 0; client < 32; client++) await connect(t, socketPath)
  await until(() => server.sessionCount === 32)
  const [{ error }] = await talk(t, socketPath, '')
  assert.equal(error.code, 'busy')
})

test('a command without news beats, so that a hanging daemon can be told from a quiet one', async (t) => {
  const quiet: Handler = async function* (_args, signal) {
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    yield {}
  }
  const { socketPath } = await open(t, { quiet })
  const socket = await connect(t, socketPath)
  let received = ''
  socket.on('data', (bytes) => (received += bytes))
  socket.write('{"command":"quiet"}\n')
  await until(() => received.includes('{"beat":1}\n'))
})

test('a socket left by a dead process is replaced', async (t) => {
  const { server, socketPath } = await open(t, { count })
  const options = { socketPath, role: 'agent', log: QUIET } as const
  const successor = await ControlServer.open(options, { count })
  t.after(() => successor.close())
  await server.close()
  assert.ok(existsSync(socketPath), 'the predecessor leaves its socket alone')
  assert.equal((await talk(t, socketPath, '{"command":"count","args":{"to":1}}\n')).length, 3)
  await successor.close()
  assert.equal(existsSync(socketPath), false)
})

test('a directory that others can write to, or a path that is too long, is refused', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'namegate-control-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const attempt = (run: string) =>
    ControlServer.open(
      { socketPath: controlSocketPath(run, 'proxy'), role: 'proxy', log: QUIET },
      {},
    )
  const shared = path.join(directory, 'shared')
  mkdirSync(shared)
  chmodSync(shared, 0o777)
  await assert.rejects(attempt(shared), ControlSocketError)
  await assert.rejects(
    attempt(path.join(directory, 'x'.repeat(100))),
    /longer than a socket's path/,
  )
  const file = createServer()
  await new Promise<void>((resolve) => file.listen(path.join(directory, 'file'), resolve))
  t.after(() => file.close())
  await assert.rejects(attempt(path.join(directory, 'file')), ControlSocketError)
})
