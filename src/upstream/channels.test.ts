/**
 * The sockets that questions leave by, over loopback: each try has a port that nobody knows, and
 * reads nothing that was not sent to that port for that try.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test, type TestContext } from 'node:test'
import { Epoll } from '../linux/epoll.ts'
import { close, localPort } from '../linux/socket.ts'
import { openUdp } from '../linux/udp.ts'
import { ReceiveBatch, SendBatch } from '../linux/udp-batch.ts'
import { NOTHING_YET, QUESTION_AT, QUESTION_BYTES } from './channel.ts'
import { SocketChannels } from './channels.ts'
import type { Server } from './routes.ts'

const TOKEN = 0x4000000
const FLIGHTS = 512
const WAIT_MS = 1000
const LOOPBACK = { 4: Uint8Array.of(127, 0, 0, 1), 6: new Uint8Array(16).fill(1, 15) } as const

/** A server that answers when it is told to, and the channels that ask it. */
class Setting {
  readonly epoll = new Epoll()
  readonly channels: SocketChannels
  readonly #received = new ReceiveBatch()
  readonly #sent = new SendBatch()
  readonly #sockets = new Map<4 | 6, number>()

  constructor(t: TestContext) {
    this.channels = new SocketChannels(this.epoll, {
      ...{ flightsMax: FLIGHTS, mark: 0, token: TOKEN, random: () => 7 },
      connectTls: () => -1,
    })
    for (const family of [4, 6] as const) {
      const address = LOOPBACK[family]
      this.#sockets.set(family, openUdp({ family, address, port: 0, isTransparent: false }))
    }
    t.after(() => {
      for (const fd of this.#sockets.values()) close(fd)
    })
  }

  server(family: 4 | 6 = 4): Server {
    const port = localPort(this.#sockets.get(family)!)
    return { family, address: LOOPBACK[family], port, transport: 'udp' }
  }

  /** Asks one byte; the port that it came from. */
  ask(flight: number, letter: string, family: 4 | 6 = 4): number {
    const { channels } = this
    channels.questions[flight * QUESTION_BYTES + QUESTION_AT] = letter.charCodeAt(0)
    assert.equal(channels.open(flight, this.server(family), false, 1, 0), 0)
    assert.equal(this.#received.receive(this.#sockets.get(family)!, 1), 1)
    return this.#received.sourcePort(0)
  }

  /** To whoever asked last. */
  answer(letter: string, family: 4 | 6 = 4): void {
    const { u8 } = this.#received
    const [to, from] = [this.#received.sourceAt(0), this.#received.destinationAt(0)]
    this.#sent.u8[this.#sent.packetAt(0)] = letter.charCodeAt(0)
    this.#sent.set(0, family, u8, to, this.#received.sourcePort(0), u8, from, 1, 1)
    assert.equal(this.#sent.send(this.#sockets.get(family)!, 0, 1), 1)
  }

  /** Asks and is answered; what comes behind the answer lies in the socket when it is left. */
  leave(flight: number, behind: string): void {
    this.ask(flight, 'a')
    for (const letter of `A${behind}`) this.answer(letter)
    assert.equal(this.take(flight), 'A')
    this.channels.close(flight)
  }

  /** What the flight finds: a letter, or null. */
  take(flight: number): string | null {
    if (this.channels.next(flight) === NOTHING_YET) return null
    assert.equal(this.channels.replyBytes, 1)
    return String.fromCharCode(this.channels.reply[this.channels.replyAt]!)
  }
}

test('each question leaves from a port of its own, by the same socket or by another', (t) => {
  const setting = new Setting(t)
  const ports = new Set<number>()
  for (let round = 0; round < 200; round++) {
    const flight = round % 3
    ports.add(setting.ask(flight, 'a'))
    setting.channels.close(flight)
  }
  // Of some 28,000: two of two hundred may be the same.
  assert.ok(ports.size > 190, `${ports.size} ports of 200`)
})

test('the reply comes to who asked; while it waits its port is its own', (t) => {
  const setting = new Setting(t)
  setting.ask(0, 'a')
  setting.answer('A')
  const port = setting.ask(1, 'b')
  setting.answer('B')
  assert.equal(setting.epoll.wait(WAIT_MS), 2)
  assert.deepEqual([setting.take(1), setting.take(0)], ['B', 'A'])
  setting.channels.close(0)
  assert.notEqual(setting.ask(0, 'c'), port)
})

test('#2 what came twice or late is not read as the answer to the next question', (t) => {
  const setting = new Setting(t)
  setting.leave(0, 'XYZ')
  setting.answer('L') // nobody has that port any more
  setting.ask(0, 'b')
  assert.equal(setting.take(0), null)
  setting.answer('B')
  assert.equal(setting.take(0), 'B')
})

test('what lies in a socket that nobody uses wakes us once', (t) => {
  const setting = new Setting(t)
  setting.leave(0, 'X')
  assert.equal(setting.epoll.wait(WAIT_MS), 1)
  assert.equal(setting.epoll.token(0), TOKEN)
  assert.equal(setting.take(0), null)
  assert.equal(setting.epoll.wait(0), 0)
})

test('who fills a socket between two questions gets rid of it', (t) => {
  const setting = new Setting(t)
  setting.leave(0, 'X'.repeat(100))
  setting.ask(0, 'b')
  assert.equal(setting.take(0), null)
  setting.answer('B')
  assert.equal(setting.take(0), 'B')
})

test('a flight asks servers of one family after the other', (t) => {
  const setting = new Setting(t)
  for (const family of [4, 6, 6, 4] as const) {
    setting.ask(5, 'a', family)
    setting.answer('A', family)
    assert.equal(setting.take(5), 'A')
    setting.channels.close(5)
  }
})

test("a server's refusal is told to who asked, and not to who asks next", (t) => {
  const setting = new Setting(t)
  const gone = openUdp({ ...setting.server(), port: 0, isTransparent: false })
  const nobody = { ...setting.server(), port: localPort(gone) }
  close(gone)
  const { channels } = setting
  assert.equal(channels.open(0, nobody, false, 1, 0), 0)
  assert.equal(setting.epoll.wait(WAIT_MS), 1)
  assert.equal(channels.next(0), 0)
  assert.ok(channels.replyBytes < 0)
  assert.equal(channels.open(0, nobody, false, 1, 0), 0)
  channels.close(0) // before it was read
  setting.ask(0, 'b')
  setting.answer('B')
  assert.equal(setting.take(0), 'B')
})

test('sockets that nobody wants any more are closed, the others kept', (t) => {
  const setting = new Setting(t)
  const { channels } = setting
  const openFiles = (): number => readdirSync('/proc/self/fd').length
  const before = openFiles()
  for (let flight = 0; flight < 20; flight++) setting.ask(flight, 'a')
  for (let flight = 0; flight < 20; flight++) channels.close(flight)
  assert.equal(openFiles(), before + 20)
  channels.sweep(10_000) // they were all wanted in this time
  assert.equal(openFiles(), before + 20)
  for (let round = 0; round < 10; round++) {
    setting.ask(0, 'b')
    setting.ask(1, 'b')
    channels.close(0)
    channels.close(1)
  }
  channels.sweep(20_000)
  assert.equal(openFiles(), before + 2)
  channels.sweep(30_000)
  assert.equal(openFiles(), before)
  setting.ask(0, 'c')
  setting.answer('C')
  assert.equal(setting.take(0), 'C')
  channels.close(0)
})

test('after a burst only some sockets are kept', (t) => {
  const setting = new Setting(t)
  for (let flight = 0; flight < FLIGHTS; flight++) setting.ask(flight, 'a')
  for (let flight = 0; flight < FLIGHTS; flight++) setting.channels.close(flight)
  for (let flight = 0; flight < FLIGHTS; flight += 100) {
    setting.ask(flight, 'b')
    setting.answer('B')
    assert.equal(setting.take(flight), 'B')
  }
})
