/**
 * Netlink: questions to the kernel's network side that no tool answers well.
 *
 * Used by the main thread only, for little: the generation of the nftables rules, conntrack entries
 * of revoked grants, NFLOG (nflog.ts). Structure goes through nft and ip, whose words an operator
 * can repeat. What must stay true: nothing of this is called from the worker: netlink shares locks
 * with everybody else who changes rules (seen: 0.5 to 1 s).
 *
 * Messages and attributes are in host byte order, which is little-endian on x86-64 and arm64;
 * nfnetlink's own payloads are big-endian. What the kernel says is bounds-checked like anything
 * else from outside. Source: netlink(7), rfc 3549, <linux/netfilter/nfnetlink.h>.
 *
 * A MESSAGE                                    AN ATTRIBUTE
 *      0  length, header included  4 bytes          0  length, header included  2 bytes
 *      4  type                     2 bytes          2  type; bit 15: nested, bit 14: big-endian
 *      6  flags                    2 bytes          4  value, padded to 4 bytes
 *      8  sequence                 4 bytes
 *     12  port                     4 bytes
 *     16  payload, padded to 4 bytes
 */
import { assert } from '../assert.ts'
import { SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, SO_RCVBUF, SO_RCVBUFFORCE } from './constants.ts'
import { EAGAIN, EINTR } from './errno.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { mustWork, receive, send, setOption } from './socket.ts'

// <linux/netlink.h>
const AF_NETLINK = 16
const SOCK_RAW = 3
export const NETLINK_NETFILTER = 12
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP = 0x300
const NLM_F_DUMP_INTR = 0x10
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NLA_TYPE_MASK = 0x3fff

const SOCKADDR_NL_BYTES = 12
const HEADER_BYTES = 16
const ATTRIBUTE_BYTES = 4
/** Source: <linux/netlink.h>, NETLINK_GET_STRICT_CHK aside: dumps come in pieces of at most 32 KiB. */
const RECEIVE_BYTES = 65536
const SEND_BYTES = 4096

/** Gets the payload of one message, valid until the next call: `bytes` from `at` to `end`. */
export type OnMessage = (type: number, bytes: Uint8Array, at: number, end: number) => void

export class NetlinkSocket implements Disposable {
  readonly fd: number
  readonly #region: Region
  readonly #view: DataView
  #sequence = 0
  #isInterrupted = false
  #isOpen = true

  /** Throws SocketError. */
  constructor(protocol: number) {
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC
    this.fd = mustWork('open a netlink socket', orErrno(libc.socket(AF_NETLINK, type, protocol)))
    this.#region = Region.create(SEND_BYTES + RECEIVE_BYTES)
    this.#view = new DataView(this.#region.u8.buffer)
    this.#bind()
  }

  /** Sends one message. Its sequence number, or -errno. */
  send(type: number, flags: number, payload: Uint8Array): number {
    const bytes = HEADER_BYTES + payload.length
    assert(bytes <= SEND_BYTES, 'a netlink request is small')
    this.#sequence = (this.#sequence + 1) & 0x7fffffff
    this.#isInterrupted = false
    this.#view.setUint32(0, bytes, true)
    this.#view.setUint16(4, type, true)
    this.#view.setUint16(6, flags, true)
    this.#view.setUint32(8, this.#sequence, true)
    this.#view.setUint32(12, 0, true)
    this.#region.u8.set(payload, HEADER_BYTES)
    const sent = send(this.fd, this.#region.pointer(0), bytes)
    return sent < 0 ? sent : this.#sequence
  }

  /**
   * Reads one piece of what waits. 1: there may be more; 0: the answer is complete; -errno: the
   * kernel refused (-EAGAIN: nothing waits; -EINTR: the answer is complete, but what it lists was
   * changed meanwhile: ask again). Answers to an earlier request are passed over.
   * @param sequence  what `send` returned; 0: whatever comes
   */
  receive(sequence: number, onMessage: OnMessage): number {
    const got = receive(this.fd, this.#region.pointer(SEND_BYTES), RECEIVE_BYTES)
    if (got < 0) return got === -EINTR ? 1 : got
    const view = this.#view
    const end = SEND_BYTES + got
    let at = SEND_BYTES
    while (at + HEADER_BYTES <= end) {
      const length = view.getUint32(at, true)
      if (length < HEADER_BYTES || at + length > end) break
      const type = view.getUint16(at + 4, true)
      if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) this.#isInterrupted = true
      const isOurs = sequence === 0 || view.getUint32(at + 8, true) === sequence
      const payload = at + HEADER_BYTES
      if (isOurs && type === NLMSG_DONE) return this.#isInterrupted ? -EINTR : 0
      if (isOurs && type === NLMSG_ERROR) return length < 20 ? 0 : view.getInt32(payload, true)
      if (isOurs) onMessage(type, this.#region.u8, payload, at + length)
      at += (length + 3) & ~3
    }
    return 1
  }

  /**
   * Asks and reads until the answer is complete: 0, or -errno. The kernel answers while it takes
   * the question, so nothing is waited for: -EAGAIN means that it did not.
   * @param flags  beside NLM_F_REQUEST: NLM_F_ACK or NLM_F_DUMP, which end an answer
   */
  request(type: number, flags: number, payload: Uint8Array, onMessage: OnMessage): number {
    const sequence = this.send(type, NLM_F_REQUEST | flags, payload)
    if (sequence < 0) return sequence
    for (;;) {
      const result = this.receive(sequence, onMessage)
      if (result !== 1) return result
    }
  }

  /** Asks the kernel to keep more for us before it drops: bytes of its own accounting. */
  setReceiveBuffer(bytes: number): void {
    if (setOption(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) < 0) {
      setOption(this.fd, SOL_SOCKET, SO_RCVBUF, bytes)
    }
  }

  /**
   * Gets a port of its own: what the kernel multicasts by itself comes from port 0, and is not told
   * to a socket that has the same. Source: do_one_broadcast in net/netlink/af_netlink.c.
   */
  #bind(): void {
    // struct sockaddr_nl: family, padding, port (0: one of the kernel's choice), groups.
    this.#view.setUint16(0, AF_NETLINK, true)
    this.#region.u8.fill(0, 2, SOCKADDR_NL_BYTES)
    const address = this.#region.pointer(0)
    mustWork('bind a netlink socket', orErrno(libc.bind(this.fd, address, SOCKADDR_NL_BYTES)))
  }

  [Symbol.dispose](): void {
    assert(this.#isOpen, 'a netlink socket is closed once')
    this.#isOpen = false
    libc.close(this.fd)
  }
}

/** One attribute with its padding. */
export function attribute(type: number, ...values: readonly Uint8Array[]): Uint8Array {
  const size = values.reduce((sum, value) => sum + value.length, ATTRIBUTE_BYTES)
  const bytes = new Uint8Array((size + 3) & ~3)
  new DataView(bytes.buffer).setUint16(0, size, true)
  new DataView(bytes.buffer).setUint16(2, type, true)
  let at = ATTRIBUTE_BYTES
  for (const value of values) {
    bytes.set(value, at)
    at += value.length
  }
  return bytes
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** struct nfgenmsg: family, version 0, resource in big-endian. */
export function nfgenmsg(family: number, resource: number): Uint8Array {
  return Uint8Array.of(family, 0, resource >> 8, resource & 0xff)
}

/** Offset of an nfnetlink message's first attribute, behind its nfgenmsg. */
export const NFGENMSG_BYTES = 4

/**
 * Offset of the value of the first attribute of that type between `at` and `end`, or -1; its end is
 * `attributeEnd`. Attributes that do not fit end the search.
 */
export function findAttribute(bytes: Uint8Array, at: number, end: number, type: number): number {
  while (at + ATTRIBUTE_BYTES <= end) {
    const size = bytes[at]! | (bytes[at + 1]! << 8)
    if (size < ATTRIBUTE_BYTES || at + size > end) return -1
    const found = (bytes[at + 2]! | (bytes[at + 3]! << 8)) & NLA_TYPE_MASK
    if (found === type) return at + ATTRIBUTE_BYTES
    at += (size + 3) & ~3
  }
  return -1
}

/** End of the value that `findAttribute` found at `valueAt`. */
export function attributeEnd(bytes: Uint8Array, valueAt: number): number {
  const at = valueAt - ATTRIBUTE_BYTES
  return at + (bytes[at]! | (bytes[at + 1]! << 8))
}

// <linux/netfilter/nf_tables.h>
const NFT_MSG_GETGEN = (10 << 8) | 16
const NFT_MSG_NEWGEN = (10 << 8) | 15
const NFTA_GEN_ID = 1

/**
 * The generation of the nftables rules of this network namespace: another number after each commit
 * by anybody. -errno on failure. It takes no lock and costs some microseconds.
 */
export function nftGeneration(socket: NetlinkSocket): number {
  let generation = -EAGAIN
  const result = socket.request(
    NFT_MSG_GETGEN,
    NLM_F_ACK,
    nfgenmsg(0, 0),
    (type, bytes, at, end) => {
      if (type !== NFT_MSG_NEWGEN) return
      const value = findAttribute(bytes, at + NFGENMSG_BYTES, end, NFTA_GEN_ID)
      if (value < 0 || attributeEnd(bytes, value) - value < 4) return
      generation = new DataView(bytes.buffer).getUint32(value, false)
    },
  )
  return result < 0 ? result : generation
}
