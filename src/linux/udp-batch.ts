/**
 * Batches of datagrams: many received, many sent, by one system call each.
 *
 * The worker owns one of each per direction and uses them in every turn of its loop. Packets,
 * addresses, control messages and headers lie in one Region per batch; the pointers between them
 * are written once. A call resets only what the kernel changes. Nothing here allocates.
 *
 * Regions, one after the other, n messages each:
 *     mmsghdr    64 bytes a message
 *     iovec      16
 *     names      32 (sockaddr_in or sockaddr_in6)
 *     controls   128 received, 48 sent
 *     packets    packetBytes
 *     16 bytes that stay zero: the address of whom the kernel did not report
 *
 * Control messages carry the local address: received, to know whom the client asked (under TPROXY
 * any server in the world); sent, so that the reply leaves from there. Source: recvmmsg(2),
 * sendmmsg(2), cmsg(3), ip(7) IP_PKTINFO and IP_RECVORIGDSTADDR, ipv6(7).
 */
import { assert } from '../assert.ts'
import {
  IPV6_ORIGDSTADDR,
  IPV6_PKTINFO,
  IP_ORIGDSTADDR,
  IP_PKTINFO,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SOL_IP,
  SOL_IPV6,
} from './constants.ts'
import {
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  IN6_PKTINFO_ADDRESS,
  IN6_PKTINFO_BYTES,
  IN6_PKTINFO_INTERFACE,
  IN_PKTINFO_BYTES,
  IN_PKTINFO_DESTINATION,
  IN_PKTINFO_INTERFACE,
  IN_PKTINFO_SOURCE,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MMSGHDR_LENGTH,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_BYTES,
  MSGHDR_FLAGS,
  MSGHDR_IOVEC,
  MSGHDR_IOVEC_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_BYTES,
  SOCKADDR_IN6_ADDRESS,
  SOCKADDR_IN_ADDRESS,
  SOCKADDR_ROOM,
  controlLength,
  controlSpace,
  writePointer,
} from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { sockaddrAddressAt, sockaddrFamily, sockaddrPort, writeSockaddr } from './socket.ts'

/** IPv6: packet info (40 bytes) and original destination (48); the rest is for what may come. */
const RECEIVED_CONTROL_BYTES = 128
const SENT_CONTROL_BYTES = 48

/**
 * Between packets: at a distance of whole pages their first lines would all fall into one set of the
 * processor's first cache, which holds eight or twelve of them.
 */
const CACHE_LINE_BYTES = 64

export interface BatchOptions {
  /** Messages per call, 1 to 1024 (the kernel's own bound). Default 64: more gains nothing. */
  readonly messages?: number
  /** Room per packet, a multiple of 8. Default 4096: the largest EDNS size that is in use. */
  readonly packetBytes?: number
}

/** What receiving and sending share: the memory and its layout. */
abstract class Batch {
  /** How many messages there is room for. */
  readonly capacity: number
  readonly packetBytesMax: number
  /** All memory of the batch: packets and addresses are at the offsets that the getters return. */
  readonly u8: Uint8Array
  /** The same memory. */
  readonly view: DataView
  protected readonly region: Region
  protected readonly namesAt: number
  protected readonly controlsAt: number
  protected readonly packetsAt: number
  readonly #strideBytes: number
  protected readonly nowhereAt: number

  constructor(options: BatchOptions, controlBytes: number) {
    const { messages = 64, packetBytes = 4096 } = options
    assert(messages >= 1 && messages <= 1024, 'a batch has 1 to 1024 messages')
    assert(packetBytes % 8 === 0, 'room for a packet is a multiple of 8')
    const stride = packetBytes + CACHE_LINE_BYTES
    const iovecsAt = messages * MMSGHDR_BYTES
    this.namesAt = iovecsAt + messages * IOVEC_BYTES
    this.controlsAt = this.namesAt + messages * SOCKADDR_ROOM
    this.packetsAt = this.controlsAt + messages * controlBytes
    this.capacity = messages
    this.packetBytesMax = packetBytes
    this.#strideBytes = stride
    this.nowhereAt = this.packetsAt + messages * stride
    const region = Region.create(this.nowhereAt + 16)
    for (let index = 0; index < messages; index++) {
      const header = index * MMSGHDR_BYTES
      const iovec = iovecsAt + index * IOVEC_BYTES
      writePointer(region, header + MSGHDR_NAME, this.namesAt + index * SOCKADDR_ROOM)
      writePointer(region, header + MSGHDR_IOVEC, iovec)
      region.u32[(header + MSGHDR_IOVEC_COUNT) >> 2] = 1
      writePointer(region, header + MSGHDR_CONTROL, this.controlsAt + index * controlBytes)
      writePointer(region, iovec, this.packetsAt + index * stride)
      region.u32[(iovec + IOVEC_LENGTH) >> 2] = packetBytes
    }
    this.region = region
    this.u8 = region.u8
    this.view = new DataView(region.u8.buffer)
  }

  /** Offset of packet `index` in `u8`. */
  packetAt(index: number): number {
    return this.packetsAt + index * this.#strideBytes
  }
}

export class ReceiveBatch extends Batch {
  readonly #headers: bigint
  readonly #destinationAt: Int32Array
  readonly #destinationPort: Int32Array
  readonly #interfaceIndex: Int32Array
  /** Messages whose headers the kernel has written in the last call. */
  #used: number

  constructor(options: BatchOptions = {}) {
    super(options, RECEIVED_CONTROL_BYTES)
    this.#headers = this.region.pointer(0)
    this.#destinationAt = new Int32Array(this.capacity).fill(this.nowhereAt)
    this.#destinationPort = new Int32Array(this.capacity)
    this.#interfaceIndex = new Int32Array(this.capacity)
    this.#used = this.capacity
  }

  /**
   * Receives what waits, without waiting: at most `limit` datagrams. How many, or -errno:
   * -EAGAIN when there are none. What the batch held before is overwritten.
   * @param limit  1 to `capacity`; a worker that lags takes fewer, so that its peer gets the rest
   */
  receive(fd: number, limit: number): number {
    assert(limit >= 1 && limit <= this.capacity, 'a batch receives 1 to capacity messages')
    this.#reset()
    const count = orErrno(libc.recvmmsg(fd, this.#headers, limit, MSG_DONTWAIT, 0))
    this.#used = count < 0 ? 0 : count
    for (let index = 0; index < count; index++) this.#readControl(index)
    return count
  }

  /** Bytes of packet `index` that are here; of a truncated one, not all that were sent. */
  packetBytes(index: number): number {
    return this.region.i32[(index * MMSGHDR_BYTES + MMSGHDR_LENGTH) >> 2]!
  }

  /** Whether packet `index` was longer than the room for it. */
  isTruncated(index: number): boolean {
    const flags = this.region.i32[(index * MMSGHDR_BYTES + MSGHDR_FLAGS) >> 2]!
    return (flags & MSG_TRUNC) !== 0
  }

  /** 4 or 6. */
  family(index: number): number {
    return sockaddrFamily(this.region, this.namesAt + index * SOCKADDR_ROOM)
  }

  /** Offset in `u8` of the 4 or 16 bytes of the sender's address. */
  sourceAt(index: number): number {
    return sockaddrAddressAt(this.region, this.namesAt + index * SOCKADDR_ROOM)
  }

  sourcePort(index: number): number {
    return sockaddrPort(this.region, this.namesAt + index * SOCKADDR_ROOM)
  }

  /**
   * Offset in `u8` of the 4 or 16 bytes of the address that the sender sent to: ours or, behind
   * TPROXY, the server's that it meant. All zero when the socket does not report it.
   */
  destinationAt(index: number): number {
    return this.#destinationAt[index]!
  }

  /** The port that the sender sent to; 0 when the socket is not transparent: it is its own port. */
  destinationPort(index: number): number {
    return this.#destinationPort[index]!
  }

  /** The interface that the packet came in by; 0 when the socket does not report it. */
  interfaceIndex(index: number): number {
    return this.#interfaceIndex[index]!
  }

  /** The kernel writes sizes into the headers that it uses, and must find room in them next time. */
  #reset(): void {
    const u32 = this.region.u32
    for (let index = 0; index < this.#used; index++) {
      const header = index * MMSGHDR_BYTES
      u32[(header + MSGHDR_NAME_BYTES) >> 2] = SOCKADDR_ROOM
      u32[(header + MSGHDR_CONTROL_BYTES) >> 2] = RECEIVED_CONTROL_BYTES
      u32[(header + MSGHDR_FLAGS) >> 2] = 0
    }
  }

  #readControl(index: number): void {
    const i32 = this.region.i32
    let destinationAt = this.nowhereAt
    let destinationPort = 0
    let interfaceIndex = 0
    let at = this.controlsAt + index * RECEIVED_CONTROL_BYTES
    const end = at + i32[(index * MMSGHDR_BYTES + MSGHDR_CONTROL_BYTES) >> 2]!
    while (at + CMSG_DATA <= end) {
      const length = i32[at >> 2]!
      if (length < CMSG_DATA) break // the kernel never writes this; a loop must end all the same
      const level = i32[(at + CMSG_LEVEL) >> 2]
      const type = i32[(at + CMSG_TYPE) >> 2]
      const data = at + CMSG_DATA
      if (level === SOL_IP && type === IP_PKTINFO) {
        interfaceIndex = i32[(data + IN_PKTINFO_INTERFACE) >> 2]!
        if (destinationPort === 0) destinationAt = data + IN_PKTINFO_DESTINATION
      } else if (level === SOL_IPV6 && type === IPV6_PKTINFO) {
        interfaceIndex = i32[(data + IN6_PKTINFO_INTERFACE) >> 2]!
        if (destinationPort === 0) destinationAt = data + IN6_PKTINFO_ADDRESS
      } else if (level === SOL_IP && type === IP_ORIGDSTADDR) {
        destinationAt = data + SOCKADDR_IN_ADDRESS
        destinationPort = sockaddrPort(this.region, data)
      } else if (level === SOL_IPV6 && type === IPV6_ORIGDSTADDR) {
        destinationAt = data + SOCKADDR_IN6_ADDRESS
        destinationPort = sockaddrPort(this.region, data)
      }
      at += (length + 7) & ~7
    }
    this.#destinationAt[index] = destinationAt
    this.#destinationPort[index] = destinationPort
    this.#interfaceIndex[index] = interfaceIndex
  }
}

export class SendBatch extends Batch {
  /** The address of each header: a batch may be sent from any message on. */
  readonly #headers: readonly bigint[]
  /** The family that each message is prepared for; 0: none yet. */
  readonly #families: Uint8Array

  constructor(options: BatchOptions = {}) {
    super(options, SENT_CONTROL_BYTES)
    const headers: bigint[] = []
    for (let index = 0; index < this.capacity; index++) {
      headers.push(this.region.pointer(index * MMSGHDR_BYTES))
    }
    this.#headers = headers
    this.#families = new Uint8Array(this.capacity)
  }

  /**
   * Addresses message `index`, whose packet the caller has written at `packetAt(index)`.
   * @param toPort  1 to 65535
   * @param from  the address that it leaves from: the one that was asked. All zero: the kernel's
   *              choice. One that is not this machine's needs a transparent socket.
   * @param bytes  of the packet, at most `packetBytesMax`
   * @param interfaceIndex  the one that the query came in by; used for link-local addresses only,
   *                        as any other reply may take another way back
   */
  set(
    index: number,
    family: number,
    to: Uint8Array,
    toAt: number,
    toPort: number,
    from: Uint8Array,
    fromAt: number,
    bytes: number,
    interfaceIndex: number,
  ): void {
    assert(index < this.capacity && bytes <= this.packetBytesMax, 'a message fits its batch')
    const { u32, u8 } = this.region
    const header = index * MMSGHDR_BYTES
    const isScoped = family === 6 && (isLinkLocal(to, toAt) || isLinkLocal(from, fromAt))
    const scope = isScoped ? interfaceIndex : 0
    const name = this.namesAt + index * SOCKADDR_ROOM
    const nameBytes = writeSockaddr(this.region, name, family, to, toAt, toPort, scope)
    u32[(header + MSGHDR_NAME_BYTES) >> 2] = nameBytes
    u32[(this.capacity * MMSGHDR_BYTES + index * IOVEC_BYTES + IOVEC_LENGTH) >> 2] = bytes
    const data = this.controlsAt + index * SENT_CONTROL_BYTES + CMSG_DATA
    if (this.#families[index] !== family) this.#prepare(index, family)
    if (family === 4) {
      for (let n = 0; n < 4; n++) u8[data + IN_PKTINFO_SOURCE + n] = from[fromAt + n]!
    } else {
      for (let n = 0; n < 16; n++) u8[data + IN6_PKTINFO_ADDRESS + n] = from[fromAt + n]!
      u32[(data + IN6_PKTINFO_INTERFACE) >> 2] = scope
    }
  }

  /** Writes what stays the same in a message for as long as it is of one family. */
  #prepare(index: number, family: number): void {
    const u32 = this.region.u32
    const isV4 = family === 4
    const dataBytes = isV4 ? IN_PKTINFO_BYTES : IN6_PKTINFO_BYTES
    const control = this.controlsAt + index * SENT_CONTROL_BYTES
    u32[control >> 2] = controlLength(dataBytes)
    u32[(control + CMSG_LEVEL) >> 2] = isV4 ? SOL_IP : SOL_IPV6
    u32[(control + CMSG_TYPE) >> 2] = isV4 ? IP_PKTINFO : IPV6_PKTINFO
    u32[(control + CMSG_DATA + IN_PKTINFO_INTERFACE) >> 2] = 0
    u32[(index * MMSGHDR_BYTES + MSGHDR_CONTROL_BYTES) >> 2] = controlSpace(dataBytes)
    this.#families[index] = family
  }

  /**
   * Sends messages `from` to `from + count - 1` without waiting. How many went out, at least one,
   * or -errno of message `from`. After a short return, go on behind: the call that then begins
   * with the message which failed tells its errno.
   */
  send(fd: number, from: number, count: number): number {
    assert(from + count <= this.capacity, 'a batch sends what it holds')
    return orErrno(libc.sendmmsg(fd, this.#headers[from]!, count, MSG_DONTWAIT | MSG_NOSIGNAL))
  }
}

/** fe80::/10. Source: RFC 4291 §2.5.6. */
function isLinkLocal(address: Uint8Array, at: number): boolean {
  return address[at] === 0xfe && (address[at + 1]! & 0xc0) === 0x80
}
