/**
 * Test support: the sockets that DNS is intercepted to, with an echo in place of a DNS server.
 *
 * It does by hand what the worker does in its loop: transparent sockets at an address that need not
 * exist, replies from the address that was asked, the owner's mark on accepted connections.
 */
import type { Ruleset } from '../../../src/grant/ruleset.ts'
import { parseAddress } from '../../../src/identity/address.ts'
import { type Watch, watchReadable } from '../../../src/linux/event-loop.ts'
import { Region } from '../../../src/linux/region.ts'
import { close, receive, send, setMark } from '../../../src/linux/socket.ts'
import { TcpAcceptor, listenTcp } from '../../../src/linux/tcp.ts'
import { ReceiveBatch, SendBatch } from '../../../src/linux/udp-batch.ts'
import { openUdp } from '../../../src/linux/udp.ts'

const PACKET_BYTES = 4096

export class OwnSockets {
  /** What was asked, in order: 'udp 10.0.0.7 192.0.2.53 data'. */
  readonly seen: string[] = []
  /** False: questions are read, and not answered. */
  isAnswering = true
  readonly #fds: number[] = []
  readonly #watches = new Set<Watch>()
  readonly #ruleset: Ruleset
  readonly #place: number
  readonly #receive = new ReceiveBatch({ packetBytes: PACKET_BYTES })
  readonly #send = new SendBatch({ packetBytes: PACKET_BYTES })
  readonly #acceptor = new TcpAcceptor()
  readonly #stream = Region.create(PACKET_BYTES)

  constructor(ruleset: Ruleset, place: number) {
    this.#ruleset = ruleset
    this.#place = place
    for (const [family, text] of [
      [4, ruleset.sockets.v4],
      [6, ruleset.sockets.v6],
    ] as const) {
      if (text === null) continue
      const address = parseAddress(text)!
      const mark = ruleset.marks.own
      const options = { family, address, port: 53, isTransparent: true, mark }
      this.#watch(openUdp(options), (fd) => this.#readUdp(fd))
      this.#watch(listenTcp(options), (fd) => this.#accept(fd, family))
    }
  }

  close(): void {
    for (const watch of this.#watches) watch.close()
    for (const fd of this.#fds) close(fd)
    this.#watches.clear()
    this.#fds.length = 0
  }

  #watch(fd: number, read: (fd: number) => void): void {
    this.#fds.push(fd)
    this.#watches.add(watchReadable(fd, () => read(fd)))
  }

  #readUdp(fd: number): void {
    const batch = this.#receive
    const count = batch.receive(fd, batch.capacity)
    for (let n = 0; n < count; n++) {
      const bytes = batch.packetBytes(n)
      const data = Buffer.from(batch.u8.slice(batch.packetAt(n), batch.packetAt(n) + bytes))
      const family = batch.family(n)
      const asked = addressText(batch.u8, batch.destinationAt(n), family)
      this.seen.push(`udp ${asked} ${data.toString().slice(0, 40)}`)
      if (!this.isAnswering) continue
      const reply = Buffer.from(`us:${data.toString()}`.slice(0, 200))
      this.#send.u8.set(reply, this.#send.packetAt(0))
      this.#send.set(
        0,
        family,
        batch.u8,
        batch.sourceAt(n),
        batch.sourcePort(n),
        batch.u8,
        batch.destinationAt(n),
        reply.length,
        batch.interfaceIndex(n),
      )
      this.#send.send(fd, 0, 1)
    }
  }

  #accept(listener: number, family: number): void {
    const fd = this.#acceptor.accept(listener)
    if (fd < 0) return
    setMark(fd, this.#ruleset.marks.owners[this.#place]!)
    const asked = addressText(this.#acceptor.u8, this.#acceptor.localAt, family)
    this.#watch(fd, () => this.#readTcp(fd, asked))
  }

  #readTcp(fd: number, asked: string): void {
    const got = receive(fd, this.#stream.pointer(0), PACKET_BYTES)
    if (got <= 0) return
    const data = Buffer.from(this.#stream.u8.slice(0, got)).toString()
    this.seen.push(`tcp ${asked} ${data}`)
    if (!this.isAnswering) return
    const reply = Buffer.from(`us:${data}`)
    this.#stream.u8.set(reply)
    send(fd, this.#stream.pointer(0), reply.length)
  }
}

function addressText(bytes: Uint8Array, at: number, family: number): string {
  const size = family === 4 ? 4 : 16
  return Buffer.from(bytes.slice(at, at + size)).toString('hex')
}
