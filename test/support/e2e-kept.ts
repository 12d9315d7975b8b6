/**
 * A pod that keeps TCP connections to its DNS server: a program in a pod's namespace.
 *
 *     node e2e-kept.ts OPTIONS     JSON of KeptOptions; asks by each of them, prints 'ready'
 *
 * On SIGUSR2 it asks by each of them again and prints, a second later, what came of it:
 *     answered N ended N silent N slowest MS
 */
import { createConnection, type Socket } from 'node:net'
import { FLAG_RD } from '../../src/wire/header.ts'
import { buildMessage } from '../../src/wire/message.ts'

export interface KeptOptions {
  readonly server: string
  readonly count: number
}

const DNS_PORT = 53
const WAIT_MS = 1000
const QUESTION = 'www.example.com. A'

const { server, count } = JSON.parse(process.argv[2]!) as KeptOptions
const sockets: Socket[] = []
while (sockets.length < count) {
  const socket = createConnection({ host: server, port: DNS_PORT })
  socket.on('error', () => {}) // it ends: that is what is looked at
  sockets.push(socket)
  await ask(socket)
}

setInterval(() => {}, WAIT_MS) // signals alone keep no process
process.on('SIGUSR2', () => void answer())

async function answer(): Promise<void> {
  const beganMs = performance.now()
  let slowestMs = 0
  const ends = await Promise.all(
    sockets.map(async (socket) => {
      const end = await ask(socket)
      if (end !== 'silent') slowestMs = Math.max(slowestMs, performance.now() - beganMs)
      return end
    }),
  )
  const counted = (['answered', 'ended', 'silent'] as const).map((end) => {
    return `${end} ${ends.filter((one) => one === end).length}`
  })
  process.stdout.write(`${counted.join(' ')} slowest ${Math.round(slowestMs)}\n`)
}
process.stdout.write('ready\n')

function ask(socket: Socket): Promise<'answered' | 'ended' | 'silent'> {
  if (socket.destroyed) return Promise.resolve('ended')
  const query = buildMessage({ id: 7, flags: FLAG_RD, question: QUESTION })
  socket.write(Uint8Array.of(query.length >> 8, query.length & 0xff, ...query))
  return new Promise((resolve) => {
    socket.once('data', () => resolve('answered'))
    socket.once('close', () => resolve('ended'))
    setTimeout(() => resolve('silent'), WAIT_MS)
  })
}
