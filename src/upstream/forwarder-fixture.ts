/**
 * A forwarder over real sockets, turned by hand as the worker's loop does, and servers on 127.0.0.1
 * that do what a test tells them to.
 */
import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server as TcpServer, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { Epoll } from '../linux/epoll.ts'
import { EMFILE } from '../linux/errno.ts'
import { Answer } from '../wire/answer.ts'
import { FLAG_QR, FLAG_RA, FLAG_RD, TYPE_A } from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'
import { formatName, parseName } from '../wire/text.ts'
import { SocketChannels } from './channels.ts'
import { Forwarder, OWN_CHANNELS } from './forwarder.ts'
import { Routes, type Server } from './routes.ts'

const FLIGHTS_MAX = 512
const TOKEN = 0x4000000
const TICK_MS = 20
const TOO_LONG_MS = 8000

export interface Outcome {
  /** The answer's rcode and how many addresses it has; null: the flight failed. */
  readonly rcode: number | null
  readonly addressCount: number
  readonly failure: number | null
  readonly afterMs: number
}

export class Asker {
  readonly channels: SocketChannels
  readonly forwarder: Forwarder
  /** Added to the clock: time that passes without waiting for it. */
  skippedMs = 0
  readonly #epoll = new Epoll()
  readonly #outcomes = new Map<number, Outcome>()
  readonly #askedMs = new Map<number, number>()
  /** What became of relayed messages, by slot: the reply, or the failure. */
  readonly relayed = new Map<number, Uint8Array | number>()
  #flight = 0
  #tickMs = 0

  constructor(
    servers: readonly Server[],
    zone = '.',
    connectTls: (server: Server) => number = () => -EMFILE,
  ) {
    const random = (): number => randomInt(0x10000)
    const routes = new Routes()
    routes.configure([servers], [{ name: parseName(zone), group: 0 }], [], this.nowMs)
    this.channels = new SocketChannels(this.#epoll, {
      ...{ flightsMax: FLIGHTS_MAX + OWN_CHANNELS, mark: 0, token: TOKEN, random, connectTls },
    })
    const sink = {
      arrived: (flight: number, _bytes: Uint8Array, _at: number, answer: Answer): void =>
        this.#end(flight, {
          rcode: answer.rcode,
          addressCount: answer.addressCount,
          failure: null,
        }),
      failed: (flight: number, failure: number): void =>
        this.#end(flight, { rcode: null, addressCount: 0, failure }),
      relayed: (slot: number, bytes: Uint8Array, at: number, length: number): void =>
        this.#endRelay(slot, bytes.slice(at, at + length)),
      relayFailed: (slot: number, failure: number): void => this.#endRelay(slot, failure),
      forgotten: (): void => {},
    }
    const options = { flightsMax: FLIGHTS_MAX, random, answer: new Answer() }
    this.forwarder = new Forwarder(routes, this.channels, sink, options)
  }

  get nowMs(): number {
    return Math.floor(performance.now()) + this.skippedMs
  }

  /** Begins to ask for the address of a name; the flight's number. */
  begin(name: string): number {
    const wire = parseName(name)
    const flight = this.#flight++ % FLIGHTS_MAX
    this.#outcomes.delete(flight)
    this.#askedMs.set(flight, this.nowMs)
    const question = {
      ...{ name: wire, nameAt: 0, nameBytes: wire.length, type: TYPE_A, class: 1 },
      ...{ isDnssecOk: false, isCheckingDisabled: false },
    }
    this.forwarder.ask(flight, 0, question, this.nowMs)
    return flight
  }

  /** Has a message passed on, and turns until it has ended; false: it did not leave. */
  async relay(
    slot: number,
    message: Uint8Array,
    isTcp = false,
  ): Promise<Uint8Array | number | false> {
    if (!this.forwarder.relay(slot, 0, message, 0, message.length, isTcp, this.nowMs)) return false
    await this.until(() => this.relayed.has(slot))
    return this.relayed.get(slot)!
  }

  /** Turns until the flights have ended. */
  async end(...flights: number[]): Promise<Outcome[]> {
    const limitMs = performance.now() + TOO_LONG_MS
    while (flights.some((flight) => !this.#outcomes.has(flight))) {
      assert(performance.now() < limitMs, 'a flight ends in time')
      await this.turn()
    }
    return flights.map((flight) => this.#outcomes.get(flight)!)
  }

  async ask(name: string): Promise<Outcome> {
    return (await this.end(this.begin(name)))[0]!
  }

  /** Turns until something is so. */
  async until(isSo: () => boolean): Promise<void> {
    const limitMs = performance.now() + TOO_LONG_MS
    while (!isSo()) {
      assert(performance.now() < limitMs, `it becomes so in time: ${isSo}`)
      await this.turn()
    }
  }

  async turn(): Promise<void> {
    await setImmediate()
    const nowMs = this.nowMs
    const count = this.#epoll.wait(0)
    for (let index = 0; index < count; index++) {
      const channel = this.#epoll.token(index) - TOKEN
      this.forwarder.channelReady(channel, this.#epoll.events(index), nowMs)
    }
    this.forwarder.step(nowMs)
    if (nowMs - this.#tickMs < TICK_MS) return
    this.#tickMs = nowMs
    this.forwarder.tick(nowMs)
  }

  /** The health of server `index`. */
  health(index: number) {
    return this.forwarder.servers()[index]!.health
  }

  [Symbol.dispose](): void {
    this.#epoll.close()
  }

  #endRelay(slot: number, outcome: Uint8Array | number): void {
    assert(!this.relayed.has(slot), 'a relay ends once')
    this.relayed.set(slot, outcome)
  }

  #end(flight: number, outcome: Omit<Outcome, 'afterMs'>): void {
    assert(!this.#outcomes.has(flight), 'a flight ends once')
    this.#outcomes.set(flight, { ...outcome, afterMs: this.nowMs - this.#askedMs.get(flight)! })
  }
}

/** One question at a time of a server in the same thread, without a promise: what it costs shows. */
export class HotAsker {
  readonly #epoll = new Epoll()
  readonly #forwarder: Forwarder
  #endedCount = 0
  readonly #name = parseName('api.example.com.')
  readonly #question = {
    ...{ name: this.#name, nameAt: 0, nameBytes: this.#name.length, type: TYPE_A, class: 1 },
    ...{ isDnssecOk: false, isCheckingDisabled: false },
  }

  constructor(port: number, transport: 'udp' | 'tcp') {
    const routes = new Routes()
    const address = Uint8Array.of(127, 0, 0, 1)
    const zones = [{ name: parseName('.'), group: 0 }]
    routes.configure([[{ family: 4, address, port, transport }]], zones, [], 0)
    let id = 0
    const random = (): number => (id = (id + 4711) & 0xffff)
    const channels = new SocketChannels(this.#epoll, {
      ...{ flightsMax: 8 + OWN_CHANNELS, mark: 0, token: 0, random, connectTls: () => -EMFILE },
    })
    const sink = {
      arrived: (): void => {
        this.#endedCount++
      },
      failed: (): void => assert.fail('the server answers'),
      relayed: (): void => assert.fail('nothing is relayed'),
      relayFailed: (): void => assert.fail('nothing is relayed'),
      forgotten: (): void => {},
    }
    const options = { flightsMax: 8, random, answer: new Answer() }
    this.#forwarder = new Forwarder(routes, channels, sink, options)
  }

  /** @param serve  called between two turns until the answer is there */
  ask(serve: () => void): number {
    const before = this.#endedCount
    this.#forwarder.ask(0, 0, this.#question, 1000)
    while (this.#endedCount === before) {
      this.#turn()
      serve()
    }
    return this.#endedCount & 0xff
  }

  #turn(): void {
    const count = this.#epoll.wait(0)
    for (let index = 0; index < count; index++) {
      this.#forwarder.channelReady(this.#epoll.token(index), this.#epoll.events(index), 1000)
    }
    this.#forwarder.step(1000)
  }
}

/** What a server does with a question; nothing: it is silent. */
export type Reaction = (asked: Asked) => void

export interface Asked {
  readonly name: string
  /** Counts from 0 on its connection; over UDP from 0 at all. */
  readonly index: number
  readonly bytes: Uint8Array
  /** null over UDP. */
  readonly connection: Socket | null
  readonly say: (message: Uint8Array) => void
}

/** One server, TCP and UDP at the same port. */
export class TestServer {
  readonly connections: Socket[] = []
  /** Names in the order in which they were asked for; and those of probes. */
  readonly asked: string[] = []
  readonly probed: string[] = []
  react: Reaction
  #tcp: TcpServer | null = null
  #udp: UdpSocket | null = null
  #port = 0

  private constructor(react: Reaction) {
    this.react = react
  }

  static async start(react: Reaction): Promise<TestServer> {
    const server = new TestServer(react)
    await server.listen()
    return server
  }

  async listen(): Promise<void> {
    const tcp = createServer((socket) => this.#accept(socket))
    tcp.listen(this.#port, '127.0.0.1')
    await once(tcp, 'listening')
    this.#port = (tcp.address() as AddressInfo).port
    const udp = createSocket('udp4')
    let index = 0
    udp.on('message', (bytes, from) => {
      const say = (message: Uint8Array): void => udp.send(message, from.port, from.address)
      this.#take(bytes, index++, null, say)
    })
    udp.bind(this.#port, '127.0.0.1')
    await once(udp, 'listening')
    this.#tcp = tcp
    this.#udp = udp
  }

  as(transport: 'udp' | 'tcp'): Server {
    return { family: 4, address: Uint8Array.of(127, 0, 0, 1), port: this.#port, transport }
  }

  close(): void {
    this.#tcp?.close()
    this.#udp?.close()
    this.#tcp = null
    this.#udp = null
    for (const socket of this.connections) socket.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #accept(socket: Socket): void {
    this.connections.push(socket)
    socket.on('error', () => {}) // a client that goes away in the middle is its own matter
    let index = 0
    let stream = Buffer.alloc(0)
    const say = (message: Uint8Array): void => {
      const length = Buffer.alloc(2)
      length.writeUInt16BE(message.length)
      if (!socket.destroyed) socket.write(Buffer.concat([length, message]))
    }
    socket.on('data', (more: Buffer) => {
      stream = Buffer.concat([stream, more])
      while (stream.length >= 2 && stream.length >= 2 + stream.readUInt16BE()) {
        const end = 2 + stream.readUInt16BE()
        this.#take(stream.subarray(2, end), index++, socket, say)
        stream = stream.subarray(end)
      }
    })
  }

  #take(
    bytes: Uint8Array,
    index: number,
    connection: Socket | null,
    say: (message: Uint8Array) => void,
  ): void {
    const name = formatName(parseMessage(bytes)!.question!.name)
    const folded = name.toLowerCase()
    if (/^[0-9a-f]{32}\./.test(folded)) this.probed.push(folded)
    else this.asked.push(folded)
    this.react({ name, index, bytes: Uint8Array.from(bytes), connection, say })
  }
}

/** The right answer to a question. */
export function answerTo(
  { bytes, name }: Pick<Asked, 'bytes' | 'name'>,
  change: Partial<Parameters<typeof buildMessage>[0]> = {},
): Uint8Array {
  return buildMessage({
    id: parseMessage(bytes)!.id,
    flags: FLAG_QR | FLAG_RD | FLAG_RA,
    question: `${name} A`,
    answers: [`${name} 300 IN A 192.0.2.10`],
    edns: {},
    ...change,
  })
}

/** Answers at once. */
export const answers: Reaction = (asked) => asked.say(answerTo(asked))
