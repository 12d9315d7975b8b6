/**
 * Raw IP packets that a thread sends to its own machine: header and all, many in one call.
 *
 * The nftables datapath writes grants with it (datapath/nftables/writer.ts): an output rule reads
 * the header, and what becomes of the packet afterwards does not matter. So every packet is routed
 * to loopback, whatever destination its header names: the socket is connected to 127.0.0.1 or ::1,
 * and no packet ever reaches another device, also when the rules that swallow it are gone.
 *
 * Packets lie in a Region, message headers beside them, made once; sending allocates nothing.
 * Source: raw(7), ipv6(7) (IPV6_HDRINCL, Linux 4.5), sendmmsg(2).
 */
import { assert } from '../assert.ts'
import {
  AF_INET,
  AF_INET6,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_IPV6,
} from './constants.ts'
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MSGHDR_IOVEC,
  MSGHDR_IOVEC_COUNT,
  writePointer,
} from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { connectTo, mustWork, setMark, setOption } from './socket.ts'

// <sys/socket.h>, <netinet/in.h>: the same on x86-64 and arm64.
const SOCK_RAW = 3
const IPPROTO_RAW = 255
const IPV6_HDRINCL = 36

const LOOPBACK_V4 = Uint8Array.of(127, 0, 0, 1)
const LOOPBACK_V6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)

export interface RawSenderOptions {
  readonly family: 4 | 6
  /** Packets of one batch, 1 to 1024: the most that the kernel takes in one call. */
  readonly packets: number
  /** Size of every packet, header included. */
  readonly packetBytes: number
  /** SO_MARK of all of them. */
  readonly mark: number
}

export class RawSender implements Disposable {
  /** Holds packet n from `packetAt(n)` on; the caller writes it. */
  readonly u8: Uint8Array
  readonly #fd: number
  readonly #stride: number
  readonly #packetsAt: number
  readonly #messages: bigint[] = []
  #isOpen = true

  /** Throws SocketError: needs CAP_NET_RAW, and CAP_NET_ADMIN for the mark. */
  constructor(options: RawSenderOptions) {
    const { family, packets, packetBytes } = options
    assert(packets >= 1 && packets <= 1024, 'a batch has 1 to 1024 packets')
    this.#fd = open(family, options.mark)
    this.#stride = (packetBytes + 7) & ~7
    const vectorsAt = packets * MMSGHDR_BYTES
    this.#packetsAt = vectorsAt + packets * IOVEC_BYTES
    const region = Region.create(this.#packetsAt + packets * this.#stride)
    for (let index = 0; index < packets; index++) {
      const message = index * MMSGHDR_BYTES
      const vector = vectorsAt + index * IOVEC_BYTES
      writePointer(region, message + MSGHDR_IOVEC, vector)
      region.u32[(message + MSGHDR_IOVEC_COUNT) >> 2] = 1
      writePointer(region, vector, this.packetAt(index))
      region.u32[(vector + IOVEC_LENGTH) >> 2] = packetBytes
      this.#messages.push(region.pointer(message))
    }
    this.u8 = region.u8
  }

  /** Offset of packet `index` in `u8`. */
  packetAt(index: number): number {
    return this.#packetsAt + index * this.#stride
  }

  /**
   * Sends `count` packets from packet `from` on, without waiting. How many were sent, or -errno
   * when the first was not. Fewer than `count`: the one behind them failed, and its errno is lost.
   * -EPERM: a rule of netfilter dropped it.
   */
  send(from: number, count: number): number {
    return orErrno(libc.sendmmsg(this.#fd, this.#messages[from]!, count, MSG_DONTWAIT))
  }

  [Symbol.dispose](): void {
    assert(this.#isOpen, 'a raw socket is closed once')
    this.#isOpen = false
    libc.close(this.#fd)
  }
}

function open(family: 4 | 6, mark: number): number {
  const tried = `open a raw IPv${family} socket`
  const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC
  const domain = family === 4 ? AF_INET : AF_INET6
  const fd = mustWork(tried, orErrno(libc.socket(domain, type, IPPROTO_RAW)))
  try {
    mustWork(`${tried}: mark`, setMark(fd, mark))
    // IPv4 implies it by the protocol.
    if (family === 6) mustWork(`${tried}: own header`, setOption(fd, SOL_IPV6, IPV6_HDRINCL, 1))
    const loopback = family === 4 ? LOOPBACK_V4 : LOOPBACK_V6
    mustWork(`${tried}: connect to loopback`, connectTo(fd, family, loopback, 0, 0, 0))
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}
