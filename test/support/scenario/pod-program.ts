/**
 * A client of scenarios: a program in a pod's namespace that sends what it is told to and says what
 * comes back.
 *
 *     node pod-program.ts SOCKET     serves the calls of `handlers` below (calls.ts)
 *
 * Each message goes out once, from a socket of its own that is connected to the server: a reply
 * from anybody else is not seen. Sockets stay open until the scenario ends, so that a reply that
 * comes twice is noticed.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { serveCalls } from './calls.ts'

/** A message of world.ts, with its bytes as hex. */
export interface SentMessage {
  readonly client: string
  readonly server: string
  readonly isTcp: boolean
  readonly hex: string
}

export interface Sent {
  readonly id: number
  /** The source port. */
  readonly port: number
}

export interface Received {
  readonly hex: string
  /** From the sending. */
  readonly afterMs: number
}

export interface Tried {
  readonly client: string
  readonly address: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  readonly limitMs: number
}

/** 'closed': somebody said so, by a reset or by ICMP; 'silent': nothing came back. */
export type Outcome = 'open' | 'closed' | 'silent'

const DNS_PORT = 53
/** Nobody waits longer for a reply. */
const REPLY_MS_MAX = 8000
/** What an answer to it says about who got it, when it comes back as it is. */
const PROBE = 'is anybody there?'

interface Exchange {
  readonly first: PromiseWithResolvers<Received | null>
  replyCount: number
  sentMs: number
  close(): void
}

const exchanges: Exchange[] = []

serveCalls(process.argv[2]!, {
  /** All of them go out before any reply is read. */
  send: (args: { messages: readonly SentMessage[] }) =>
    Promise.all(args.messages.map((message) => (message.isTcp ? byTcp(message) : byUdp(message)))),
  /** The first reply; null: none came. */
  reply: (args: { id: number }) => exchanges[args.id]!.first.promise,
  connect: (args: Tried) => (args.protocol === 'tcp' ? connectTcp(args) : connectUdp(args)),
  /** The scenario is over: how many replies each of its messages got. */
  end: () => {
    const counts = exchanges.map(({ replyCount }) => replyCount)
    for (const exchange of exchanges.splice(0)) exchange.close()
    return counts
  },
})

async function byUdp({ client, server, hex }: SentMessage): Promise<Sent> {
  const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4')
  socket.bind({ port: 0, address: client })
  await once(socket, 'listening')
  socket.connect(DNS_PORT, server)
  await once(socket, 'connect')
  const { id, exchange } = begin(() => socket.close())
  socket.on('error', () => {}) // ICMP is no reply
  socket.on('message', (bytes) => received(exchange, bytes))
  exchange.sentMs = performance.now()
  socket.send(Buffer.from(hex, 'hex'))
  return { id, port: socket.address().port }
}

async function byTcp({ client, server, hex }: SentMessage): Promise<Sent> {
  const socket = createConnection({ host: server, port: DNS_PORT, localAddress: client })
  const { id, exchange } = begin(() => socket.destroy())
  socket.on('error', () => exchange.first.resolve(null))
  exchange.sentMs = performance.now()
  await Promise.race([once(socket, 'connect'), exchange.first.promise])
  let stream = Buffer.alloc(0)
  socket.on('data', (more: Buffer) => {
    stream = Buffer.concat([stream, more])
    while (stream.length >= 2 && stream.length >= 2 + stream.readUInt16BE()) {
      const end = 2 + stream.readUInt16BE()
      received(exchange, stream.subarray(2, end))
      stream = stream.subarray(end)
    }
  })
  const length = Buffer.alloc(2)
  length.writeUInt16BE(hex.length / 2)
  socket.write(Buffer.concat([length, Buffer.from(hex, 'hex')]))
  return { id, port: socket.localPort ?? 0 }
}

function begin(close: () => void): { id: number; exchange: Exchange } {
  const first = Promise.withResolvers<Received | null>()
  setTimeout(() => first.resolve(null), REPLY_MS_MAX)
  const exchange = { first, replyCount: 0, sentMs: 0, close }
  return { id: exchanges.push(exchange) - 1, exchange }
}

function received(exchange: Exchange, bytes: Buffer): void {
  exchange.replyCount++
  const afterMs = performance.now() - exchange.sentMs
  exchange.first.resolve({ hex: bytes.toString('hex'), afterMs })
}

async function connectTcp({ client, address, port, limitMs }: Tried): Promise<Outcome> {
  const socket = createConnection({ host: address, port, localAddress: client })
  const outcome = Promise.withResolvers<Outcome>()
  socket.on('connect', () => outcome.resolve('open'))
  socket.on('error', () => outcome.resolve('closed'))
  return settled(outcome, limitMs, () => socket.destroy())
}

/** The other side sends back what it gets. */
async function connectUdp({ client, address, port, limitMs }: Tried): Promise<Outcome> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.bind({ port: 0, address: client })
  await once(socket, 'listening')
  socket.connect(port, address)
  await once(socket, 'connect')
  const outcome = Promise.withResolvers<Outcome>()
  socket.on('message', (bytes) => outcome.resolve(String(bytes) === PROBE ? 'open' : 'closed'))
  socket.on('error', () => outcome.resolve('closed'))
  socket.send(PROBE)
  return settled(outcome, limitMs, () => socket.close())
}

async function settled(
  outcome: PromiseWithResolvers<Outcome>,
  limitMs: number,
  close: () => void,
): Promise<Outcome> {
  // What has arrived while this process did not run is read before it counts as silence.
  const timer = setTimeout(() => setImmediate(() => outcome.resolve('silent')), limitMs)
  try {
    return await outcome.promise
  } finally {
    clearTimeout(timer)
    close()
  }
}
