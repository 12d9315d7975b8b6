/** The other end of a link, written by hand: it says what a test wants, in whatever order. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EAGAIN } from '../linux/errno.ts'
import { Region } from '../linux/region.ts'
import { close } from '../linux/socket.ts'
import { connectSeqpacket, receiveMessage, sendMessage } from '../linux/unix.ts'
import { HELLO } from './protocol.ts'

const REGION_BYTES = 512 * 1024
const region = Region.create(REGION_BYTES)

export const GOOD_HELLO = {
  protocol: 1,
  protocolSince: 1,
  role: 'proxy',
  pid: 1,
  instance: 'by hand',
  place: 2,
  version: '0.0.0',
  revision: 0,
  digest: '',
  generation: -1,
  isReading: false,
}

export class RawPeer implements Disposable {
  readonly fd: number

  /** @param to  a path to connect to, or a connection that was accepted; nothing is said yet */
  constructor(to: string | number) {
    this.fd = typeof to === 'number' ? to : connectSeqpacket(to)
    if (this.fd < 0) throw new Error(`connect: errno ${-this.fd}`)
  }

  /** Bytes sent, or -errno. */
  send(type: number, body: Uint8Array | object, descriptors: readonly number[] = []): number {
    const bytes = body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body))
    region.u8[0] = type
    region.u8.set(bytes, 1)
    return sendMessage(this.fd, region.address, 1 + bytes.length, descriptors)
  }

  hello(changes: object = {}): void {
    this.send(HELLO, { ...GOOD_HELLO, ...changes })
  }

  /** The next message; null when the other end has closed. */
  async receive(): Promise<{ type: number; body: Buffer } | null> {
    for (let triesLeft = 300; triesLeft > 0; triesLeft--) {
      const { bytes } = receiveMessage(this.fd, region.address, REGION_BYTES)
      if (bytes > 0) return { type: region.u8[0]!, body: Buffer.from(region.u8.slice(1, bytes)) }
      if (bytes !== -EAGAIN) return null
      await sleep(10)
    }
    throw new Error('nothing came in 3 s')
  }

  /** The next message of this type, as JSON. */
  async receiveJson(type: number): Promise<Record<string, unknown>> {
    for (;;) {
      const message = await this.receive()
      if (message === null) throw new Error(`closed before message ${type} came`)
      if (message.type === type) {
        return JSON.parse(message.body.toString()) as Record<string, unknown>
      }
    }
  }

  /** Waits until the other end has closed. */
  async ended(): Promise<void> {
    while ((await this.receive()) !== null);
  }

  [Symbol.dispose](): void {
    close(this.fd)
  }
}
