/**
 * The TCP server over the loopback interface: clients are its addresses 127.0.0.x. Whatever one of
 * them does, the other gets its answers; RFC 7766 §6 says what a client may do, RFC 9210 §4 what a
 * server must stand.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { test } from 'node:test'
import { sleep, until } from '../../test/support/process.ts'
import { EPOLLIN } from '../linux/constants.ts'
import { Epoll } from '../linux/epoll.ts'
import { close, localPort } from '../linux/socket.ts'
import { listenTcp } from '../linux/tcp.ts'
import { COUNTER_COUNT, type CounterName, counterIndex, Counters } from '../pipeline/counters.ts'
import { TcpServer } from './tcp-server.ts'

const NOISY = '127.0.0.2'
const QUIET = '127.0.0.3'
const TOKEN_CONNECTION = 0x10000
/** A turn of the loop, as short as the test wants to wait. */
const TURN_MS = 2

/** A server that answers each message with itself, or later; the test moves its clock. */
class EchoServer implements AsyncDisposable {
  nowMs = 1000
  /** Messages are kept until `answer` is called. */
  isHolding = false
  readonly #epoll = new Epoll()
  readonly #words = new Int32Array(COUNTER_COUNT)
  readonly #listener = listenTcp({
    ...{ family: 4, address: Uint8Array.of(127, 0, 0, 1), port: 0, isTransparent: false },
  })
  readonly #held: { channel: number; message: Uint8Array }[] = []
  readonly #sockets: Socket[] = []
  readonly #server: TcpServer
  readonly #timer: NodeJS.Timeout

  constructor() {
    this.#server = new TcpServer(this.#epoll, {
      ...{ token: TOKEN_CONNECTION, ownerMark: 0, seed: 7 },
      counters: new Counters(this.#words),
    })
    this.#epoll.add(this.#listener, EPOLLIN, 0)
    this.#timer = setInterval(() => this.#turn(), TURN_MS)
  }

  get count(): number {
    return this.#server.count
  }

  counter(name: CounterName): number {
    return this.#words[counterIndex(name)]!
  }

  sweep(): void {
    this.#server.sweep(this.nowMs)
  }

  /** As a process does that wants to stop. */
  closeIdle(): void {
    this.#server.closeIdle(this.nowMs)
  }

  /** Answers what is held, the last first. */
  answer(): void {
    for (const { channel, message } of this.#held.splice(0).reverse()) this.#send(channel, message)
  }

  async connect(from: string): Promise<Socket> {
    const options = {
      host: '127.0.0.1',
      port: localPort(this.#listener),
      localAddress: from,
      noDelay: true,
    }
    const socket = createConnection(options)
    this.#sockets.push(socket)
    socket.on('error', () => {}) // a reset is one way of being closed
    await once(socket, 'connect')
    return socket
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.answer()
    for (const socket of this.#sockets) socket.destroy()
    try {
      await until('all connections are closed', () => this.count === 0)
    } finally {
      clearInterval(this.#timer)
      this.#epoll.remove(this.#listener)
      close(this.#listener)
    }
  }

  #turn(): void {
    const count = this.#epoll.wait(0)
    for (let index = 0; index < count; index++) {
      const token = this.#epoll.token(index)
      if (token === 0) this.#server.accept(this.#listener, false, this.nowMs)
      else {
        const connection = token - TOKEN_CONNECTION
        this.#server.ready(connection, this.#epoll.events(index), this.#take, this.nowMs)
      }
    }
  }

  readonly #take = (connection: number, at: number, end: number): boolean => {
    const channel = this.#server.channelOf(connection)
    const message = this.#server.input.slice(at, end)
    if (this.isHolding) this.#held.push({ channel, message })
    else this.#send(channel, message)
    return true
  }

  #send(channel: number, message: Uint8Array): void {
    if (!this.#server.open(channel)) return
    this.#server.bytes.set(message, this.#server.at)
    this.#server.send(channel, message.length)
  }
}

/** `count` connections, one after the other, so that they are accepted in this order. */
async function connectMany(server: EchoServer, from: string, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  for (let index = 0; index < count; index++) {
    const before = server.count + server.counter('connectionsRefused')
    const gaveWay = server.counter('connectionsGaveWay')
    sockets.push(await server.connect(from))
    await until(
      'it is accepted',
      () =>
        server.count + server.counter('connectionsRefused') > before ||
        server.counter('connectionsGaveWay') > gaveWay,
    )
    server.nowMs++
  }
  return sockets
}

/** The texts of the whole messages that come. */
function textsOf(socket: Socket): string[] {
  const texts: string[] = []
  let bytes = Buffer.alloc(0)
  socket.on('data', (more: Buffer) => {
    bytes = Buffer.concat([bytes, more])
    while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE()) {
      const end = 2 + bytes.readUInt16BE()
      texts.push(bytes.subarray(2, end).toString())
      bytes = bytes.subarray(end)
    }
  })
  return texts
}

function frame(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(bytes.length)
  return Buffer.concat([length, bytes])
}

async function assertServed(server: EchoServer, from: string): Promise<void> {
  const socket = await server.connect(from)
  const texts = textsOf(socket)
  socket.write(frame('hello'))
  await until(`${from} has its answer`, () => texts.join() === 'hello')
  socket.destroy()
}

test('a client that opens connections and says nothing loses its own oldest ones', async () => {
  await using server = new EchoServer()
  const quiet = await server.connect(QUIET)
  const texts = textsOf(quiet)
  const noisy = await connectMany(server, NOISY, 140)
  // Of 256 the quiet one has one; the 128th is the last that finds as many left free as it has.
  await until('its share is open', () => noisy.filter(({ closed }) => !closed).length === 128)
  const isOpen = noisy.map(({ closed }) => !closed)
  assert.equal(isOpen.slice(0, 12).includes(true), false, 'the oldest gave way')
  assert.equal(isOpen.slice(-120).includes(false), false, 'the newest are open')
  assert.equal(server.counter('connectionsRefused'), 0)
  quiet.write(frame('still here'))
  await until('the quiet one has its answer', () => texts.join() === 'still here')
  await assertServed(server, QUIET)
})

test('a client whose connections all wait for answers gets no more, and others do', async () => {
  await using server = new EchoServer()
  server.isHolding = true
  for (const socket of await connectMany(server, NOISY, 128)) socket.write(frame('slow'))
  await sleep(50)
  const extra = await server.connect(NOISY)
  await until('one more is closed', () => extra.closed || extra.readableEnded || extra.destroyed)
  assert.equal(server.counter('connectionsRefused'), 1)
  assert.equal(server.counter('connectionsGaveWay'), 0)
  server.isHolding = false
  await assertServed(server, QUIET)
})

test('queries in one connection are answered as their answers come, in any order', async () => {
  await using server = new EchoServer()
  server.isHolding = true
  const socket = await server.connect(QUIET)
  const texts = textsOf(socket)
  socket.write(Buffer.concat(['one', 'two', 'three'].map(frame)))
  await sleep(50)
  server.answer()
  await until('all are answered', () => texts.length === 3)
  assert.deepEqual(texts, ['three', 'two', 'one'])
  server.isHolding = false
  socket.write(frame('four'))
  await until('it goes on', () => texts.length === 4)
})

test('a byte now and then is no query, and keeps no connection', async () => {
  await using server = new EchoServer()
  const slow = await server.connect(NOISY)
  for (const byte of frame('never whole').subarray(0, 4)) {
    slow.write(Uint8Array.of(byte))
    await sleep(10)
    server.nowMs += 3000
    server.sweep()
  }
  await until('it is closed', () => slow.readableEnded || slow.closed)
  await assertServed(server, QUIET)
})

test('who closes its side after asking still gets its answers', async () => {
  await using server = new EchoServer()
  server.isHolding = true
  const socket = await server.connect(QUIET)
  const texts = textsOf(socket)
  socket.end(frame('last'))
  await sleep(50)
  server.answer()
  await until('it has its answer', () => texts.join() === 'last')
})

test('who stops closes what is idle, and gives a new connection time for its first question', async () => {
  await using server = new EchoServer()
  const [asked, fresh] = await connectMany(server, QUIET, 2)
  const texts = textsOf(asked!)
  asked!.write(frame('one'))
  await until('it is answered', () => texts.length === 1)
  server.closeIdle()
  assert.equal(server.count, 1)
  const late = textsOf(fresh!)
  fresh!.write(frame('two'))
  await until('the new one is answered', () => late.length === 1)
  server.closeIdle()
  assert.equal(server.count, 0)
  await connectMany(server, QUIET, 1)
  server.nowMs += 300
  server.closeIdle()
  assert.equal(server.count, 0)
})
