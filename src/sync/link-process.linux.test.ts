/** The link between real processes: what happens when one is killed, stopped, or slow. */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { run as runProgram, sleep, until } from '../../test/support/process.ts'
import { RECORD_FLOW, RECORD_LEARNED } from '../flow/record.ts'
import { monotonicMs } from '../linux/process.ts'
import { close } from '../linux/socket.ts'
import { createLogTo } from '../log.ts'
import { framesOf, TestPeer } from './peer-fixture.ts'
import type { Command, Look, ProcessStart } from './peer-process-fixture.ts'
import type { Role } from './peer.ts'
import { openLocalSet, readAll } from './socket-fixture.ts'

const ENTRY = new URL('./peer-process-fixture.ts', import.meta.url)

let run = ''
let lines: string[] = []
const log = createLogTo(
  { write: (line) => void lines.push(line) },
  { level: 'info', fields: {}, isTerminal: false },
)

beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'namegate-sync-'))
  lines = []
})

afterEach(() => {
  rmSync(run, { recursive: true })
})

/** A TestPeer in another process. */
class Process implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (value: unknown) => void>()
  #lastId = 0

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', ({ id, value }: { id: number; value: unknown }) => {
      this.#waiting.get(id)?.(value)
    })
  }

  static async start(role: Role, begin: ProcessStart = {}): Promise<Process> {
    const child = fork(ENTRY, [run, role, JSON.stringify(begin)], { stdio: 'inherit' })
    const one = new Process(child)
    await new Promise<void>((resolve) => one.#waiting.set(0, () => resolve()))
    return one
  }

  get pid(): number {
    return this.#child.pid!
  }

  do<T>(command: Command): Promise<T> {
    const id = ++this.#lastId
    this.#child.send({ id, command })
    return new Promise((resolve) => this.#waiting.set(id, (value) => resolve(value as T)))
  }

  look(): Promise<Look> {
    return this.do<Look>({ do: 'look' })
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = new Promise((resolve) => this.#child.once('exit', resolve))
    this.kill('SIGKILL')
    await gone
  }
}

function open(role: Role, begin: ConstructorParameters<typeof TestPeer>[3] = {}): TestPeer {
  return new TestPeer(run, role, log, begin)
}

async function linkedTo(peer: TestPeer): Promise<void> {
  await until('linked', () => peer.link.peer?.isLinked === true)
}

async function sendDatagram(port: number, text: string): Promise<void> {
  const socket = createSocket('udp4')
  await new Promise((resolve) => socket.send(text, port, '127.0.0.1', resolve))
  socket.close()
}

test('sockets of another process serve here, and outlive it: queued messages are not lost', async () => {
  await using proxy = await Process.start('proxy', { hasSockets: true })
  using agent = open('agent')
  assert.equal(await agent.link.catchUp(), 'caught-up')
  const [udp, tcp] = agent.set!.sockets
  assert.deepEqual([udp!.kind, tcp!.kind], ['udp', 'tcp'])
  await sendDatagram(udp!.port, 'while it lives')
  assert.deepEqual(readAll(agent.set!).datagrams, ['while it lives'])
  proxy.kill('SIGSTOP')
  await sendDatagram(udp!.port, 'while it is stopped')
  assert.deepEqual(readAll(agent.set!).datagrams, ['while it is stopped'])
  proxy.kill('SIGKILL')
  await until('gone', () => agent.link.peer?.isLinked === false)
  await sendDatagram(udp!.port, 'after its death')
  const client = connect(tcp!.port, '127.0.0.1')
  await new Promise((resolve) => client.once('connect', resolve))
  assert.deepEqual(readAll(agent.set!), { datagrams: ['after its death'], connections: 1 })
  client.destroy()
  agent.set!.sockets.forEach(({ fd }) => close(fd))
})

test('killed: the other knows within a tick, and the next one starts warm', async () => {
  using agent = open('agent', { policy: { revision: 5, text: 'five' }, set: openLocalSet(1) })
  agent.cache = [framesOf('known before')]
  {
    await using proxy = await Process.start('proxy')
    assert.equal(await proxy.do({ do: 'catch-up' }), 'caught-up')
    await until('it has the policy', () => agent.link.peer?.revision === 5)
    const announced = agent.link.announceSnapshot(6, 'six')
    proxy.kill('SIGKILL')
    const startMs = performance.now()
    assert.match(await announced, /^(gone|acknowledged)$/)
    await until('gone', () => agent.link.peer?.isLinked === false)
    assert.ok(performance.now() - startMs < 400)
  }
  agent.policy = { revision: 6, text: 'six' }
  agent.flows.records.push('denied meanwhile')
  await using proxy = await Process.start('proxy')
  assert.equal(await proxy.do({ do: 'catch-up' }), 'caught-up')
  const look = await proxy.look()
  assert.equal(look.revision, 6)
  assert.equal(look.generation, 1)
  assert.equal(look.counts[RECORD_LEARNED], 1)
  await until('its flows came', async () => (await proxy.look()).flows.length === 1)
  assert.equal(agent.link.peer?.pid, proxy.pid)
  agent.set!.sockets.forEach(({ fd }) => close(fd))
})

test('stopped for 2 s while we say much: nothing waits, nothing grows, and then it catches up', async () => {
  using agent = open('agent', { policy: { revision: 1, text: 'one' }, set: openLocalSet(1) })
  agent.cache = [framesOf('all answers, together')]
  await using proxy = await Process.start('proxy')
  assert.equal(await proxy.do({ do: 'catch-up' }), 'caught-up')
  proxy.kill('SIGSTOP')
  const stoppedMs = performance.now()
  const announced = agent.link.announceSnapshot(2, 'two '.padEnd(5_000_000, 'x'))
  agent.policy = { revision: 2, text: 'two '.padEnd(5_000_000, 'x') }
  globalThis.gc?.()
  const beforeBytes = process.memoryUsage.rss()
  let longestMs = 0
  let lost = 0
  const frames = framesOf(...Array.from({ length: 100 }, (_, n) => `answer ${n} `.padEnd(600, '.')))
  for (let n = 0; n < 4000; n++) {
    const startMs = performance.now()
    if (!agent.link.tellAnswers(frames)) lost++
    longestMs = Math.max(longestMs, performance.now() - startMs)
    if (n % 40 === 0) await sleep(20)
  }
  agent.flows.records.push(...Array.from({ length: 20_000 }, (_, n) => `flow ${n}`))
  // 240 MB of answers were told.
  assert.ok(lost > 3000, `${lost}`)
  assert.equal(agent.link.answersLost % 100, 0)
  assert.ok(longestMs < 100, `${longestMs} ms`)
  assert.ok(process.memoryUsage.rss() - beforeBytes < 60e6)
  await sleep(Math.max(2000 - (performance.now() - stoppedMs), 0))
  assert.equal(agent.link.peer?.isMute, true)
  assert.equal(agent.link.peer.isLagging, true)
  assert.equal(await agent.link.catchUp(), 'mute')
  proxy.kill('SIGCONT')
  assert.equal(await announced, 'acknowledged')
  const before = await proxy.look()
  assert.equal(await proxy.do({ do: 'catch-up', want: 'changes' }), 'caught-up')
  await until('all flows came', async () => (await proxy.look()).counts[RECORD_FLOW] === 20_000)
  await until('all answers, since some were lost', async () => {
    const { counts } = await proxy.look()
    return counts[RECORD_LEARNED] === before.counts[RECORD_LEARNED]! + 1
  })
  const look = await proxy.look()
  assert.equal(look.textLength, 5_000_000)
  assert.deepEqual(look.flows, agent.flows.records)
  assert.ok(!look.story.includes('unlinked'))
  assert.deepEqual(agent.changes, ['linked', 'mute', 'heard'])
  agent.set!.sockets.forEach(({ fd }) => close(fd))
})

test('a stopped process is mute a second after it was heard, though nobody asks; a slow one is not', async () => {
  using agent = open('agent')
  await using proxy = await Process.start('proxy')
  await linkedTo(agent)
  // Whenever between two of its beats it is stopped.
  for (const waitMs of [1100, 1350, 1600]) {
    await sleep(waitMs)
    assert.equal(agent.changes.at(-1), waitMs === 1100 ? 'linked' : 'heard')
    proxy.kill('SIGSTOP')
    await until('mute', () => agent.link.peer?.isMute === true, 1600)
    const { lastHeardMs } = agent.link.peer!
    const unheardMs = monotonicMs() - lastHeardMs
    assert.ok(unheardMs >= 1000 && unheardMs < 1400, `${unheardMs}`)
    proxy.kill('SIGCONT')
    await until('heard again', () => agent.link.peer?.isMute === false)
  }
})

test('a stopped process and a silent main thread: an announcement ends when the kernel is closed to it', async () => {
  let isAlive = true
  using agent = open('agent', { isPeerAlive: async () => isAlive })
  await using proxy = await Process.start('proxy')
  await linkedTo(agent)
  proxy.kill('SIGSTOP')
  let outcome = ''
  void agent.link.announceSnapshot(1, 'one').then((value) => (outcome = value))
  await sleep(1000)
  assert.equal(outcome, '', 'its worker may still act on the former policy')
  isAlive = false
  await until('silent', () => outcome === 'silent', 400)
  proxy.kill('SIGCONT')
  await until('it has it all the same', () => agent.link.peer?.revision === 1)
})

test('without a kernel to ask it is waited for as long as a silent main thread may live', async () => {
  using agent = open('agent')
  await using proxy = await Process.start('proxy')
  await linkedTo(agent)
  proxy.kill('SIGSTOP')
  const startMs = performance.now()
  assert.equal(await agent.link.announceSnapshot(1, 'one'), 'silent')
  const tookMs = performance.now() - startMs
  assert.ok(tookMs > 3000 && tookMs < 6000, `${tookMs}`)
})

test('who was stopped itself does not call the other mute, and learns what changed meanwhile', async () => {
  using agent = open('agent', { policy: { revision: 1, text: 'one' } })
  await using proxy = await Process.start('proxy')
  await until('it has the policy', () => agent.link.peer?.revision === 1)
  proxy.kill('SIGSTOP')
  await sleep(1500)
  agent.policy = { revision: 2, text: 'two' }
  proxy.kill('SIGCONT')
  assert.equal(await proxy.do({ do: 'catch-up', want: 'changes' }), 'caught-up')
  const look = await proxy.look()
  assert.equal(look.revision, 2)
  assert.deepEqual(
    look.story.filter((event) => event === 'mute'),
    [],
  )
})

test('started while the other is stopped: mute; when that one goes on, it takes the new sockets', async () => {
  await using proxy = await Process.start('proxy', { policy: { revision: 3, text: 'three' } })
  proxy.kill('SIGSTOP')
  using agent = open('agent')
  assert.equal(await agent.link.catchUp(), 'mute')
  agent.set = openLocalSet(2)
  await sleep(1000)
  proxy.kill('SIGCONT')
  await linkedTo(agent)
  await until('it came', () => agent.policy?.revision === 3)
  await until('it went', () => agent.link.peer?.generation === 2)
  agent.set.sockets.forEach(({ fd }) => close(fd))
})

test('restarted while the other is stopped: that one finds the new process when it goes on', async () => {
  using proxy = open('proxy', { policy: { revision: 3, text: 'three' } })
  const first = await Process.start('agent')
  await linkedTo(proxy)
  // The stopped one is the child here; the killed one is us.
  first.kill('SIGSTOP')
  proxy[Symbol.dispose]()
  using next = open('proxy', { policy: { revision: 4, text: 'four' } })
  assert.equal(await next.link.catchUp(), 'mute')
  first.kill('SIGCONT')
  await linkedTo(next)
  await until('it has the policy', () => next.link.peer?.revision === 4)
  await first[Symbol.asyncDispose]()
})

const isRoot = process.getuid!() === 0

test('a process of another user is refused, and said so once', { skip: !isRoot }, async () => {
  using agent = open('agent')
  // As wide open as can be: what refuses is the kernel's word about who it is.
  chmodSync(run, 0o777)
  chmodSync(join(run, 'agent.sync.sock'), 0o777)
  const program = `
    import { connectSeqpacket, receiveMessage, sendMessage } from ${path('../linux/unix.ts')}
    import { Region } from ${path('../linux/region.ts')}
    const region = Region.create(4096)
    process.setgid(65534)
    process.setuid(65534)
    for (let n = 0; n < 3; n++) {
      const fd = connectSeqpacket(${JSON.stringify(join(run, 'agent.sync.sock'))})
      if (fd < 0) throw new Error('errno ' + -fd)
      region.u8[0] = 1
      sendMessage(fd, region.address, 1)
      await new Promise((resolve) => setTimeout(resolve, 200))
      const { bytes } = receiveMessage(fd, region.address, 4096)
      if (bytes !== 0 && bytes !== -104) throw new Error('not closed: ' + bytes)
    }`
  const ended = await runProgram(process.execPath, ['--input-type=module', '-e', program])
  assert.equal(ended.stderr, '')
  assert.equal(ended.code, 0)
  assert.equal(agent.link.counters.refused, 3)
  assert.equal(lines.filter((line) => line.includes('"uid":65534')).length, 1)
  assert.equal(agent.link.peer, null)
})

function path(relative: string): string {
  return JSON.stringify(new URL(relative, import.meta.url).href)
}
