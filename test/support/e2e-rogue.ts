/**
 * A DNS server that misbehaves as the first label of the question's name tells it to: what a
 * network between a node and its upstream can make of answers, and what a broken server sends.
 *
 *     good.…        an address: GOOD_ADDRESS if not told otherwise; any other label likewise
 *     silent.…      nothing
 *     garbage.…     bytes that are no message; by TCP too
 *     short.…       a header alone
 *     truncated.…   TC, by UDP and by TCP
 *     forged.…      another ID, another question, another server; each with BAD_ADDRESS, no answer
 *     late.…        forged replies first, and after a moment the true one
 *     loops.…       an answer whose names are pointers to themselves
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { FLAG_QR, FLAG_RA, FLAG_TC, HEADER_BYTES } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatName, formatType } from '../../src/wire/text.ts'
import { LOOPBACK } from './e2e-lone.ts'

export const GOOD_ADDRESS = '192.0.2.1'
export const BAD_ADDRESS = '192.0.2.66'
const LATE_MS = 100

export class RogueServer implements AsyncDisposable {
  readonly port: number
  readonly #address: string
  readonly #udp: UdpSocket
  /** Sends what comes from another port than was asked. */
  readonly #stranger: UdpSocket
  readonly #tcp: Server
  readonly #connections = new Set<Socket>()

  static async start(address = GOOD_ADDRESS): Promise<RogueServer> {
    const tcp = createServer()
    tcp.listen(0, LOOPBACK)
    await once(tcp, 'listening')
    const { port } = tcp.address() as AddressInfo
    const udp = createSocket('udp4').bind(port, LOOPBACK)
    const stranger = createSocket('udp4').bind(0, LOOPBACK)
    await Promise.all([once(udp, 'listening'), once(stranger, 'listening')])
    return new RogueServer(address, port, udp, stranger, tcp)
  }

  private constructor(
    address: string,
    port: number,
    udp: UdpSocket,
    stranger: UdpSocket,
    tcp: Server,
  ) {
    this.port = port
    this.#address = address
    this.#udp = udp
    this.#stranger = stranger
    this.#tcp = tcp
    udp.on('message', (query, from) => {
      for (const { reply, isStrange, afterMs } of repliesTo(query, 'udp', address)) {
        const socket = isStrange === true ? stranger : udp
        setTimeout(() => socket.send(reply, from.port, from.address), afterMs ?? 0)
      }
    })
    tcp.on('connection', (socket) => this.#serve(socket))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#connections) socket.destroy()
    this.#udp.close()
    this.#stranger.close()
    this.#tcp.close()
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket)
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => {
      for (const { reply } of repliesTo(bytes.subarray(2), 'tcp', this.#address)) {
        const length = Buffer.alloc(2)
        length.writeUInt16BE(reply.length)
        socket.write(Buffer.concat([length, reply]))
      }
    })
  }
}

interface Reply {
  readonly reply: Uint8Array
  readonly isStrange?: boolean
  readonly afterMs?: number
}

function repliesTo(packet: Uint8Array, transport: 'udp' | 'tcp', goodAddress: string): Reply[] {
  const query = parseMessage(packet)
  if (query === null || query.question === null) return []
  const name = formatName(query.question.name)
  const question = `${name} ${formatType(query.question.type)}`
  const say = (address: string, id = query.id, asked = question, owner = name): Uint8Array => {
    const answers = [`${owner} 300 A ${address}`]
    return buildMessage({ id, flags: FLAG_QR | FLAG_RA, question: asked, answers })
  }
  const forged: Reply[] = [
    { reply: say(BAD_ADDRESS, query.id ^ 1) },
    { reply: say(BAD_ADDRESS, query.id, 'no.example.com. A', 'no.example.com.') },
    { reply: say(BAD_ADDRESS), isStrange: true },
  ]
  const good = { reply: say(goodAddress) }
  switch (name.split('.')[0]!.toLowerCase().replace(/-.*/, '')) {
    case 'silent':
      return []
    case 'garbage':
      return [{ reply: Uint8Array.from({ length: 200 }, (_, index) => (index * 37) & 0xff) }]
    case 'short':
      return [{ reply: good.reply.slice(0, 12) }]
    case 'truncated':
      return [{ reply: buildMessage({ id: query.id, flags: FLAG_QR | FLAG_TC, question }) }]
    case 'forged':
      return forged
    case 'late':
      return transport === 'tcp' ? [good] : [...forged, { ...good, afterMs: LATE_MS }]
    case 'loops':
      return [{ reply: withLoop(good.reply, HEADER_BYTES + query.question.name.length + 4) }]
    default:
      return [good]
  }
}

/** The owner of the answer record, which begins at `at`, points to itself. */
function withLoop(message: Uint8Array, at: number): Uint8Array {
  const bytes = message.slice()
  bytes[at] = 0xc0 | (at >> 8)
  bytes[at + 1] = at & 0xff
  return bytes
}
