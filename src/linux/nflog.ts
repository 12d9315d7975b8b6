/**
 * NFLOG: packets that a rule of netfilter reports, with the rule's prefix and the interface.
 *
 * The main thread of a process owns one listener for its own group. What must stay true:
 * - One listener a group: a second bind is refused (by EPERM; we say EBUSY). So each process has its own, and
 *   rules name both.
 * - It is bounded: the kernel's buffer drops what we are too slow for and says so once (ENOBUFS),
 *   rules are rate-limited, and one turn of the event loop reads at most BATCH_MAX packets.
 * - What it hands out came from a client: parsed with bounds, never trusted.
 *
 * Source: <linux/netfilter/nfnetlink_log.h>; RFC 791, 8200, 9293.
 */
import { EBUSY, ENOBUFS, EPERM } from './errno.ts'
import { type Watch, watchReadable } from './event-loop.ts'
import {
  NETLINK_NETFILTER,
  NFGENMSG_BYTES,
  NLM_F_ACK,
  NetlinkSocket,
  attribute,
  attributeEnd,
  concatBytes,
  findAttribute,
  nfgenmsg,
} from './netlink.ts'
import { SocketError } from './socket.ts'

/** Valid until the callback returns; copy what is kept. */
export interface LoggedPacket {
  /** The rule's `log prefix`. */
  readonly prefix: string
  /** When it came in, ms since 1970; null: the kernel did not say (packets made here). */
  readonly timeMs: number | null
  /** Index of the interface it came in by; 0: none. */
  readonly interfaceIndex: number
  readonly family: 4 | 6
  /** 4 or 16 bytes. */
  readonly source: Uint8Array
  readonly destination: Uint8Array
  /** IP protocol number, behind IPv6 extension headers. */
  readonly protocol: number
  /** 0 when the protocol has none, or the packet was cut before them. */
  readonly sourcePort: number
  readonly destinationPort: number
  /** TCP flags; 0 for others. */
  readonly tcpFlags: number
}

const NFULNL_MSG_PACKET = 4 << 8
const NFULNL_MSG_CONFIG = (4 << 8) | 1
// Attributes of a configuration message.
const NFULA_CFG_CMD = 1
const NFULA_CFG_MODE = 2
const NFULA_CFG_QTHRESH = 5
const NFULA_CFG_TIMEOUT = 4
const NFULNL_CFG_CMD_BIND = Uint8Array.of(1)
// struct nfulnl_msg_config_mode: bytes to copy (big-endian), NFULNL_COPY_PACKET, padding.
const COPY_128_BYTES = Uint8Array.of(0, 0, 0, 128, 2, 0)
// Attributes of a packet.
const NFULA_IFINDEX_INDEV = 4
const NFULA_TIMESTAMP = 3
const NFULA_PAYLOAD = 9
const NFULA_PREFIX = 10

/** Packets of one turn of the event loop, in pieces of what one read brings. */
const READS_MAX = 32
const RECEIVE_BUFFER_BYTES = 1 << 20

export class NflogListener implements Disposable {
  readonly #socket: NetlinkSocket
  readonly #watch: Watch
  readonly #onPacket: (packet: LoggedPacket) => void
  #overruns = 0

  /**
   * Listens to a group. Throws SocketError: EBUSY when another process listens to it, EPERM without
   * CAP_NET_ADMIN.
   * @param group  1 to 65535
   */
  constructor(group: number, onPacket: (packet: LoggedPacket) => void) {
    this.#onPacket = onPacket
    this.#socket = new NetlinkSocket(NETLINK_NETFILTER)
    try {
      this.#socket.setReceiveBuffer(RECEIVE_BUFFER_BYTES)
      this.#configure(group, attribute(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND))
      this.#configure(
        group,
        concatBytes(
          attribute(NFULA_CFG_MODE, COPY_128_BYTES),
          // At most 16 packets or 100 ms (in hundredths of a second) until we hear of one.
          attribute(NFULA_CFG_QTHRESH, Uint8Array.of(0, 0, 0, 16)),
          attribute(NFULA_CFG_TIMEOUT, Uint8Array.of(0, 0, 0, 10)),
        ),
      )
      this.#watch = watchReadable(this.#socket.fd, () => this.#read())
    } catch (error) {
      this.#socket[Symbol.dispose]()
      throw error
    }
  }

  /** How often the kernel dropped reports because we were too slow for them. */
  get overruns(): number {
    return this.#overruns
  }

  /** The listener alone does not keep the process from ending. */
  unref(): void {
    this.#watch.unref()
  }

  [Symbol.dispose](): void {
    // The watch goes first: polling a closed descriptor aborts the process.
    this.#watch.close()
    this.#socket[Symbol.dispose]()
  }

  #configure(group: number, attributes: Uint8Array): void {
    const payload = concatBytes(nfgenmsg(0, group), attributes)
    const result = this.#socket.request(NFULNL_MSG_CONFIG, NLM_F_ACK, payload, () => {})
    if (result < 0) {
      // The kernel has one number for both, EPERM; a capability that is missing was named at start.
      const tried = `listen to NFLOG group ${group}: somebody else does, or CAP_NET_ADMIN is missing`
      throw new SocketError(tried, -result === EPERM ? EBUSY : -result)
    }
  }

  #read(): void {
    for (let reads = 0; reads < READS_MAX; reads++) {
      const result = this.#socket.receive(0, (type, bytes, at, end) => {
        if (type !== NFULNL_MSG_PACKET) return
        const packet = parseLogged(bytes, at + NFGENMSG_BYTES, end)
        if (packet !== null) this.#onPacket(packet)
      })
      if (result === -ENOBUFS) this.#overruns++
      else if (result < 0) return
    }
  }
}

/** null: no prefix, no packet, or too little of it to know who meant whom. Exported for its test. */
export function parseLogged(bytes: Uint8Array, at: number, end: number): LoggedPacket | null {
  const payload = findAttribute(bytes, at, end, NFULA_PAYLOAD)
  const prefix = findAttribute(bytes, at, end, NFULA_PREFIX)
  if (payload < 0 || prefix < 0) return null
  const device = findAttribute(bytes, at, end, NFULA_IFINDEX_INDEV)
  const interfaceIndex = device < 0 ? 0 : readU32(bytes, device, attributeEnd(bytes, device))
  const text = prefixText(bytes, prefix, attributeEnd(bytes, prefix))
  const timeMs = readTime(bytes, findAttribute(bytes, at, end, NFULA_TIMESTAMP))
  const packet = parsePacket(bytes, payload, attributeEnd(bytes, payload))
  return packet === null ? null : { prefix: text, timeMs, interfaceIndex, ...packet }
}

function parsePacket(
  bytes: Uint8Array,
  at: number,
  end: number,
): Omit<LoggedPacket, 'prefix' | 'timeMs' | 'interfaceIndex'> | null {
  if (at >= end) return null
  const version = bytes[at]! >> 4
  const family = version === 4 ? 4 : 6
  const headerBytes = family === 4 ? (bytes[at]! & 0xf) * 4 : 40
  if ((version !== 4 && version !== 6) || headerBytes < 20 || at + headerBytes > end) return null
  const addressBytes = family === 4 ? 4 : 16
  const sourceAt = at + (family === 4 ? 12 : 8)
  const source = bytes.subarray(sourceAt, sourceAt + addressBytes)
  const destination = bytes.subarray(sourceAt + addressBytes, sourceAt + 2 * addressBytes)
  let protocol = bytes[at + (family === 4 ? 9 : 6)]!
  let transport = at + headerBytes
  if (family === 6) {
    for (let headers = 0; headers < 8 && isExtension(protocol) && transport + 8 <= end; headers++) {
      const isFragment = protocol === IPPROTO_FRAGMENT
      const size = isFragment ? 8 : (bytes[transport + 1]! + 1) * 8
      protocol = bytes[transport]!
      transport += size
    }
  }
  const hasPorts = PROTOCOLS_WITH_PORTS.has(protocol) && transport + 4 <= end
  const hasFlags = protocol === IPPROTO_TCP && transport + 14 <= end
  return {
    family,
    source,
    destination,
    protocol,
    sourcePort: hasPorts ? (bytes[transport]! << 8) | bytes[transport + 1]! : 0,
    destinationPort: hasPorts ? (bytes[transport + 2]! << 8) | bytes[transport + 3]! : 0,
    tcpFlags: hasFlags ? bytes[transport + 13]! : 0,
  }
}

const IPPROTO_TCP = 6
const IPPROTO_FRAGMENT = 44
/** TCP, UDP, DCCP, SCTP, UDP-Lite. */
const PROTOCOLS_WITH_PORTS: ReadonlySet<number> = new Set([6, 17, 33, 132, 136])

/** Hop-by-hop, routing, fragment, destination options. Source: RFC 8200 §4. */
function isExtension(protocol: number): boolean {
  return protocol === 0 || protocol === 43 || protocol === IPPROTO_FRAGMENT || protocol === 60
}

function readU32(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 > end) return 0
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, false)
}

/** ASCII up to its final zero byte. */
function prefixText(bytes: Uint8Array, at: number, end: number): string {
  let text = ''
  for (; at < end && bytes[at] !== 0; at++) text += String.fromCharCode(bytes[at]!)
  return text
}

/**
 * struct nfulnl_msg_packet_timestamp: seconds and microseconds, 64 bits each, big-endian. Of the
 * microseconds the low word is all.
 */
function readTime(bytes: Uint8Array, at: number): number | null {
  if (at < 0 || attributeEnd(bytes, at) - at < 16) return null
  const end = at + 16
  const seconds = readU32(bytes, at, end) * 2 ** 32 + readU32(bytes, at + 4, end)
  return seconds * 1000 + Math.floor(readU32(bytes, at + 12, end) / 1000)
}
