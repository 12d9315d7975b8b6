/**
 * A program in the namespace of the load: asks a server the same question every millisecond until
 * an answer comes.
 *
 *     node prober.ts SERVER NAME     prints 'asking', then 'answered MS', and ends
 *
 * MS is of the machine's monotonic clock, which is the same in every process.
 */
import { createSocket } from 'node:dgram'
import { monotonicMs } from './clock.ts'

const DNS_PORT = 53
const EVERY_MS = 1

const [server, name] = process.argv.slice(2)
const labels = name!.split('.').map((label) => [label.length, ...Buffer.from(label)])
const query = Buffer.from([
  0x12,
  0x34,
  1,
  0,
  0,
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  ...labels.flat(),
  0,
  0,
  1,
  0,
  1,
])
const socket = createSocket('udp4')
socket.on('error', () => {}) // refused: nobody is there yet
socket.on('message', (answer) => {
  if ((answer[3]! & 15) !== 0) return // a server that starts may refuse first
  process.stdout.write(`answered ${monotonicMs()}\n`)
  process.exit(0)
})
setInterval(() => socket.send(query, DNS_PORT, server), EVERY_MS)
process.stdout.write('asking\n')
