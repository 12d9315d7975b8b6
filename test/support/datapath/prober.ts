/**
 * Test support: stands in a namespace and does what it is told, as a pod or as a server.
 *
 * world.ts starts one in each namespace and talks JSON lines with it: a command in, its result out,
 * with the command's id. Real sockets, so real packets. It ends when its standard input does.
 */
import { type Socket as UdpSocket, createSocket } from 'node:dgram'
import { type Socket, connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'

export type Command =
  /** Echo server over TCP and UDP: answers NAME:DATA. Result: null. */
  | { do: 'serve'; name: string; address: string; port: number }
  /** Result: 'open', 'reset' (also for a refused one), 'closed' (nothing came). */
  | { do: 'connect'; address: string; port: number; source?: string; waitMs: number }
  /** Asks over a connection of its own or a datagram; result: the reply, or null. */
  | {
      do: 'ask'
      protocol: 'tcp' | 'udp'
      address: string
      port: number
      source?: string
      sourcePort?: number
      data: string
      waitMs: number
    }
  /** Opens a connection and keeps it under `name`. Result: 'open' or what went wrong. */
  | { do: 'hold'; name: string; address: string; port: number; waitMs: number }
  /** Says something on a kept connection; result: the reply, 'reset', or null for silence. */
  | { do: 'say'; name: string; data: string; waitMs: number }
  /** What came in on a kept connection since the last 'say'. */
  | { do: 'heard'; name: string }
  /** Every connection that this server accepted gets this, unasked. Result: how many there are. */
  | { do: 'push'; data: string }

const held = new Map<string, { socket: Socket; heard: string; hasEnded: boolean }>()
const accepted = new Set<Socket>()

async function perform(command: Command): Promise<unknown> {
  switch (command.do) {
    case 'serve':
      return serve(command.name, command.address, command.port)
    case 'connect':
      return open(command)
    case 'ask':
      return command.protocol === 'tcp' ? askTcp(command) : askUdp(command)
    case 'hold':
      return hold(command.name, command.address, command.port, command.waitMs)
    case 'say':
      return say(command.name, command.data, command.waitMs)
    case 'heard':
      return held.get(command.name)!.heard
    case 'push':
      for (const socket of accepted) socket.write(command.data)
      return accepted.size
  }
}

async function serve(name: string, address: string, port: number): Promise<null> {
  const server = createServer((socket) => {
    accepted.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => accepted.delete(socket))
    socket.on('data', (data) => socket.write(`${name}:${data.toString()}`))
  })
  const isV6 = address.includes(':')
  const udp = createSocket(isV6 ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' })
  udp.on('error', () => {})
  udp.on('message', (data, peer) => udp.send(`${name}:${data.toString()}`, peer.port, peer.address))
  const options = { host: address, port, ipv6Only: isV6 }
  await new Promise<void>((resolve) => server.listen(options, resolve))
  await new Promise<void>((resolve) => udp.bind(port, address, resolve))
  return null
}

function open(command: {
  address: string
  port: number
  source?: string
  waitMs: number
}): Promise<'open' | 'reset' | 'closed'> {
  return new Promise((resolve) => {
    const socket = dial(command)
    const end = (result: 'open' | 'reset' | 'closed') => () => {
      clearTimeout(timer)
      // Reset, so that a later probe from this port meets no old connection.
      socket.resetAndDestroy()
      resolve(result)
    }
    const timer = setTimeout(end('closed'), command.waitMs)
    socket.on('connect', end('open'))
    socket.on('error', (error: NodeJS.ErrnoException) =>
      end(error.code === 'ECONNRESET' || error.code === 'ECONNREFUSED' ? 'reset' : 'closed')(),
    )
  })
}

function dial(command: { address: string; port: number; source?: string }): Socket {
  const { address: host, port, source } = command
  return connect({ host, port, ...(source === undefined ? {} : { localAddress: source }) })
}

function askTcp(command: Extract<Command, { do: 'ask' }>): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = dial(command)
    const end = (result: string | null): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(result)
    }
    const timer = setTimeout(() => end(null), command.waitMs)
    socket.on('connect', () => socket.write(command.data))
    socket.on('data', (data) => end(data.toString()))
    socket.on('error', () => end(null))
    socket.on('close', () => end(null))
  })
}

function askUdp(command: Extract<Command, { do: 'ask' }>): Promise<string | null> {
  return new Promise((resolve) => {
    const type = command.address.includes(':') ? 'udp6' : 'udp4'
    const socket: UdpSocket = createSocket(type)
    const end = (result: string | null): void => {
      clearTimeout(timer)
      socket.close()
      resolve(result)
    }
    const timer = setTimeout(() => end(null), command.waitMs)
    socket.on('error', () => end(null))
    socket.on('message', (data, peer) => {
      // A reply from another address than was asked is none.
      end(
        peer.address === command.address ? data.toString().slice(0, 100) : `stray ${peer.address}`,
      )
    })
    socket.bind(command.sourcePort ?? 0, command.source, () => {
      socket.send(command.data, command.port, command.address, (error) => {
        if (error !== null) end(null)
      })
    })
  })
}

function hold(name: string, address: string, port: number, waitMs: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port })
    const entry = { socket, heard: '', hasEnded: false }
    held.set(name, entry)
    const timer = setTimeout(() => resolve('closed'), waitMs)
    socket.on('connect', () => {
      clearTimeout(timer)
      resolve('open')
    })
    socket.on('data', (data) => (entry.heard += data.toString()))
    socket.on('error', () => (entry.hasEnded = true))
    socket.on('close', () => (entry.hasEnded = true))
  })
}

async function say(name: string, data: string, waitMs: number): Promise<string | null> {
  const entry = held.get(name)!
  entry.heard = ''
  if (!entry.hasEnded) entry.socket.write(data)
  const endMs = Date.now() + waitMs
  while (Date.now() < endMs && entry.heard === '' && !entry.hasEnded) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  if (entry.heard !== '') return entry.heard
  return entry.hasEnded ? 'reset' : null
}

for await (const line of createInterface({ input: process.stdin })) {
  void answer(JSON.parse(line) as { id: number; command: Command })
}
process.exit(0)

async function answer(request: { id: number; command: Command }): Promise<void> {
  const result = await perform(request.command)
  process.stdout.write(`${JSON.stringify({ id: request.id, result })}\n`)
}
