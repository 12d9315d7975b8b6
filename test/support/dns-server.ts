/**
 * A small authoritative DNS server, the "cluster DNS" of the worlds that tests build: it can be cut
 * off, and it counts what it was asked, so that a test can say "the cache answered".
 *
 * A name that is in no record but lies below a domain of `fresh` exists all the same: it gets
 * addresses that no other name has. That is what "a name never looked up before" needs: with an
 * address that another name shares, a connection would prove nothing.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { type AddressInfo, createServer, type Server } from 'node:net'
import {
  FLAG_AA,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  RCODE_NOERROR,
  RCODE_NXDOMAIN,
  TYPE_A,
  TYPE_AAAA,
} from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { parseRecord, type ResourceRecord } from '../../src/wire/record-text.ts'
import { formatName, formatType } from '../../src/wire/text.ts'

export interface DnsZone {
  /** As parseRecord reads them: 'www.example.com. 300 A 192.0.2.10'. */
  readonly records: readonly string[]
  /** Domains below which every name exists: 'example.com.' */
  readonly fresh: readonly string[]
}

/** A process that goes on after a stop asks at once what clients have asked meanwhile. */
const RECEIVE_BUFFER_BYTES = 1 << 20
/** TTL of what is made up, and of negative answers. */
const FRESH_TTL_SECONDS = 300
const UDP_BYTES_WITHOUT_EDNS = 512
/** Fresh addresses are 198.18.x.y (RFC 2544) and 2001:db8:2:1::x:y. */
const FRESH_MAX = 0xffff
const SOA = 'ns.invalid. hostmaster.invalid. 1 3600 600 86400 60'

export class DnsServer {
  /** Questions by 'name. TYPE', cut off ones included: they did reach us. */
  readonly counts = new Map<string, number>()
  /** Nothing is answered; TCP connections are taken and stay silent. */
  isCut = false
  readonly #records = new Map<string, ResourceRecord[]>()
  readonly #fresh: readonly string[]
  readonly #freshNames = new Map<string, number>()
  readonly #udp: UdpSocket[] = []
  readonly #tcp: Server[] = []

  constructor(zone: DnsZone) {
    this.#fresh = zone.fresh
    for (const line of zone.records) {
      const record = parseRecord(line)
      this.#records.getOrInsertComputed(nameOf(record.name), () => []).push(record)
    }
  }

  /** Serves UDP and TCP there; resolves when both do. */
  async listen(address: string, port: number): Promise<void> {
    const udp = createSocket({
      type: address.includes(':') ? 'udp6' : 'udp4',
      recvBufferSize: RECEIVE_BUFFER_BYTES,
    })
    udp.on('message', (packet, from) => {
      const answer = this.answer(packet, 'udp')
      if (answer !== null) udp.send(answer, from.port, from.address)
    })
    this.#udp.push(udp)
    await new Promise<void>((resolve, reject) => {
      udp.once('error', reject).bind({ port, address }, resolve)
    })
    const tcp = createServer((socket) => {
      let bytes = Buffer.alloc(0)
      socket.on('error', () => {}) // a client that goes away in the middle is its own matter
      socket.on('data', (more: Buffer) => {
        bytes = Buffer.concat([bytes, more])
        while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE()) {
          const end = 2 + bytes.readUInt16BE()
          const answer = this.answer(bytes.subarray(2, end), 'tcp')
          bytes = bytes.subarray(end)
          if (answer === null) continue
          const length = Buffer.alloc(2)
          length.writeUInt16BE(answer.length)
          socket.write(Buffer.concat([length, answer]))
        }
      })
    })
    this.#tcp.push(tcp)
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', reject).listen(port, address, resolve)
    })
  }

  /** Where it listens, in the order of the calls; for port 0. */
  get ports(): readonly { readonly udpPort: number; readonly tcpPort: number }[] {
    return this.#udp.map((udp, index) => ({
      udpPort: udp.address().port,
      tcpPort: (this.#tcp[index]!.address() as AddressInfo).port,
    }))
  }

  close(): void {
    for (const socket of this.#udp) socket.close()
    for (const server of this.#tcp) server.close()
  }

  /** The whole answer to a packet, or null: none. */
  answer(packet: Uint8Array, transport: 'udp' | 'tcp'): Uint8Array | null {
    const query = parseMessage(packet)
    if (query === null || query.question === null || (query.flags & FLAG_QR) !== 0) return null
    const { name, type } = query.question
    const text = nameOf(name)
    const key = `${text} ${formatType(type)}`
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1)
    if (this.isCut) return null

    const known = this.#recordsOf(text)
    const answers = known.filter((record) => record.type === type)
    const flags = FLAG_QR | FLAG_AA | FLAG_RA | (query.flags & FLAG_RD)
    // The name goes back with the case in which it was asked: some resolvers check that.
    const question = `${formatName(name)} ${formatType(type)}`
    const common = { id: query.id, question, ...(query.edns === null ? {} : { edns: {} }) }
    const whole = buildMessage({
      ...common,
      flags,
      rcode: known.length === 0 ? RCODE_NXDOMAIN : RCODE_NOERROR,
      answers: answers.map((record) => ({ ...record, name })),
      authority: answers.length > 0 ? [] : [`. ${FRESH_TTL_SECONDS} SOA ${SOA}`],
    })
    const room = query.edns?.udpBytes ?? UDP_BYTES_WITHOUT_EDNS
    if (transport === 'tcp' || whole.length <= room) return whole
    return buildMessage({ ...common, flags: flags | FLAG_TC })
  }

  #recordsOf(name: string): readonly ResourceRecord[] {
    const known = this.#records.get(name)
    if (known !== undefined) return known
    if (!this.#fresh.some((domain) => name.endsWith(`.${domain}`))) return []
    const number = this.#freshNames.getOrInsertComputed(name, () => this.#freshNames.size + 1)
    if (number > FRESH_MAX) return []
    const [high, low] = [number >> 8, number & 0xff]
    const head = `${name} ${FRESH_TTL_SECONDS}`
    const tail = `${high.toString(16)}:${low.toString(16)}`
    return [
      parseRecord(`${head} ${formatType(TYPE_A)} 198.18.${high}.${low}`),
      parseRecord(`${head} ${formatType(TYPE_AAAA)} 2001:db8:2:1::${tail}`),
    ]
  }
}

/** Lower case, with the final dot: how names are compared here. */
function nameOf(name: Uint8Array): string {
  return formatName(name).toLowerCase()
}
