/**
 * A DNS server far away: a program in the `internet` namespace that passes questions on and holds
 * each answer back for a while. While it does, there are always some questions in the daemons' hands,
 * so that a stop or a kill has something to lose.
 *
 *     node e2e-slow.ts OPTIONS     JSON of SlowOptions; prints 'ready'
 */
import { createSocket } from 'node:dgram'

export interface SlowOptions {
  /** Where it is asked, and whom it asks; port 53, by UDP. */
  readonly address: string
  readonly server: string
  readonly delayMs: number
}

const DNS_PORT = 53
const GIVE_UP_MS = 3000

const { address, server, delayMs } = JSON.parse(process.argv[2]!) as SlowOptions
const front = createSocket('udp4')
front.on('message', (query, client) => {
  const back = createSocket('udp4')
  const timer = setTimeout(() => back.close(), GIVE_UP_MS)
  back.once('message', (answer) => {
    clearTimeout(timer)
    back.close()
    setTimeout(() => front.send(answer, client.port, client.address), delayMs)
  })
  back.send(query, DNS_PORT, server)
})
front.bind(DNS_PORT, address, () => process.stdout.write('ready\n'))
