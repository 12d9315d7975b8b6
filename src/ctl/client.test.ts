import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { ControlError, ControlServer, controlSocketPath, type Handler } from '../observe/control.ts'
import type { Log } from '../log.ts'
import { ask, NoAnswer, ROLES, type Role } from './client.ts'
import type { Failure } from './failure.ts'

const QUIET: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => QUIET,
}

function runDirectory(t: TestContext): string {
  const run = mkdtempSync(path.join(tmpdir(), 'namegate-client-'))
  t.after(() => rmSync(run, { recursive: true }))
  return run
}

async function serve(
  t: TestContext,
  run: string,
  role: Role,
  handlers: Record<string, Handler>,
): Promise<ControlServer> {
  const socketPath = controlSocketPath(run, role)
  const server = await ControlServer.open({ socketPath, role, log: QUIET }, handlers)
  t.after(() => server.close())
  return server
}

/** A daemon that was stopped: the kernel still accepts connections for it. */
async function serveHanging(t: TestContext, run: string, role: Role): Promise<void> {
  const server = createServer((socket) => socket.on('error', () => {}))
  mkdirSync(run, { recursive: true })
  await new Promise<void>((resolve) => server.listen(controlSocketPath(run, role), resolve))
  t.after(() => server.close())
}

function whoAmI(role: Role): Record<string, Handler> {
  return {
    who: async function* () {
      yield { role }
    },
    no: async function* () {
      yield* []
      throw new ControlError('not-found', 'nobody of that name')
    },
  }
}

async function who(run: string, command = 'who'): Promise<unknown[]> {
  const rows: unknown[] = []
  for await (const row of ask({ run, roles: ROLES, command, args: {} })) rows.push(row)
  return rows
}

test('the agent is asked first, and the proxy when there is no agent', async (t) => {
  const run = runDirectory(t)
  await serve(t, run, 'proxy', whoAmI('proxy'))
  assert.deepEqual(await who(run), [{ role: 'proxy' }])
  await serve(t, run, 'agent', whoAmI('agent'))
  assert.deepEqual(await who(run), [{ role: 'agent' }])
})

test('an agent that hangs is passed over within two seconds', async (t) => {
  const run = runDirectory(t)
  await serveHanging(t, run, 'agent')
  await serve(t, run, 'proxy', whoAmI('proxy'))
  const start = performance.now()
  assert.deepEqual(await who(run), [{ role: 'proxy' }])
  assert.ok(performance.now() - start < 2000)
})

test('when no daemon answers the exit code is 3, and the message says what was tried', async (t) => {
  const run = runDirectory(t)
  await serveHanging(t, run, 'proxy')
  await assert.rejects(who(run), (error: Failure) => {
    assert.equal(error.exitCode, 3)
    assert.equal(
      error.message,
      `no daemon answers: agent (${run}/agent.ctl.sock): is not running; proxy (${run}/proxy.ctl.sock): accepts connections and says nothing: it hangs; start one (namegate proxy -c FILE), or give the FILE that it was started with by -c`,
    )
    return true
  })
})

test('a no of the daemon is a no of the command, and the other daemon is not asked', async (t) => {
  const run = runDirectory(t)
  await serve(t, run, 'agent', whoAmI('agent'))
  await serve(t, run, 'proxy', whoAmI('proxy'))
  await assert.rejects(who(run, 'no'), (error: Failure) => {
    assert.equal(error.exitCode, 1)
    assert.equal(error.code, 'not-found')
    assert.equal(error.message, 'agent: nobody of that name')
    return true
  })
})

test('a daemon that goes away in the middle is no end, but an error', async (t) => {
  const run = runDirectory(t)
  const server = await serve(t, run, 'agent', {
    who: async function* (_args, signal) {
      yield { role: 'agent' }
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
  })
  const rows = ask({ run, roles: ROLES, command: 'who', args: {} })
  assert.deepEqual((await rows.next()).value, { role: 'agent' })
  const next = rows.next()
  await server.close()
  await assert.rejects(next, (error: NoAnswer) => {
    assert.ok(error instanceof NoAnswer && error.isGone)
    assert.equal(error.message, 'the agent went away before it had answered')
    return true
  })
})

test('who stops reading rows ends the command in the daemon', async (t) => {
  const run = runDirectory(t)
  const server = await serve(t, run, 'agent', {
    who: async function* () {
      for (;;) yield { role: 'agent' }
    },
  })
  for await (const _ of ask({ run, roles: ROLES, command: 'who', args: {} })) break
  while (server.sessionCount > 0) await new Promise((resolve) => setTimeout(resolve, 5))
})
