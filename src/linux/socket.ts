/**
 * What every kind of socket shares: errors, addresses, options, plain reading and writing.
 *
 * Opening functions (udp.ts, tcp.ts, unix.ts) run at start and throw a SocketError that tells an
 * operator what to do. Functions that run per query return `-errno` and throw nothing.
 *
 * Families are 4 and 6 throughout; addresses are 4 or 16 bytes in network order.
 */
import { assert } from '../assert.ts'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IPV6_FREEBIND,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  IP_FREEBIND,
  IP_TRANSPARENT,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SO_ERROR,
  SO_MARK,
} from './constants.ts'
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EMFILE,
  EPERM,
  errnoName,
  errnoText,
} from './errno.ts'
import {
  SOCKADDR_IN6_ADDRESS,
  SOCKADDR_IN6_BYTES,
  SOCKADDR_IN6_SCOPE,
  SOCKADDR_IN_ADDRESS,
  SOCKADDR_IN_BYTES,
  SOCKADDR_PORT,
  SOCKADDR_ROOM,
} from './layout.ts'
import * as libc from './libc.ts'
import { type Address, orErrno } from './libc.ts'
import { Region } from './region.ts'

/** A socket that could not be made ready. `code` is the errno's name and stays the same. */
export class SocketError extends Error {
  override name = 'SocketError'
  readonly code: string
  readonly errno: number

  /**
   * @param tried  'open UDP 127.0.0.1:53: bind'
   * @param errno  positive
   */
  constructor(tried: string, errno: number) {
    const advice = ADVICE.get(errno)
    super(`${tried}: ${errnoText(errno)}${advice === undefined ? '' : `; ${advice}`}`)
    this.code = errnoName(errno)
    this.errno = errno
  }
}

const ADVICE = new Map<number, string>([
  [
    EPERM,
    "needs CAP_NET_ADMIN (for a transparent socket CAP_NET_RAW does as well) in the socket's network namespace",
  ],
  [
    EACCES,
    'a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE; a path needs write permission for its directory',
  ],
  [EADDRINUSE, "somebody else has this address and port: 'ss -lntup' shows who"],
  [
    EADDRNOTAVAIL,
    "this machine does not have the address: add it ('ip address add') or choose another",
  ],
  [EAFNOSUPPORT, 'this kernel runs without that address family: leave out its addresses'],
  [EMFILE, 'the process has no file descriptor left: raise its limit (LimitNOFILE, ulimit -n)'],
])

/** `result`, or throws for `-errno`. */
export function mustWork(tried: string, result: number): number {
  if (result < 0) throw new SocketError(tried, -result)
  return result
}

/** '192.0.2.1:53', '[2001:db8:0:0:0:0:0:1]:53'; for messages. */
export function endpointText(address: Uint8Array, port: number): string {
  if (address.length === 4) return `${address.join('.')}:${port}`
  const groups: string[] = []
  for (let at = 0; at < 16; at += 2) {
    groups.push(((address[at]! << 8) | address[at + 1]!).toString(16))
  }
  return `[${groups.join(':')}]:${port}`
}

// One scratch for socket addresses, one for option values: calls are synchronous, and each thread
// has its own module.
const NAME_AT = 0
const VALUE_AT = SOCKADDR_ROOM
const VALUE_BYTES_AT = SOCKADDR_ROOM + 8
const scratch = Region.create(SOCKADDR_ROOM + 16)
const namePointer = scratch.pointer(NAME_AT)
const valuePointer = scratch.pointer(VALUE_AT)
const valueBytesPointer = scratch.pointer(VALUE_BYTES_AT)

/** A new socket: non-blocking, closed on exec, IPv6 never mixed with IPv4. -errno on failure. */
export function openSocket(family: number, type: number): number {
  const domain = family === 4 ? AF_INET : AF_INET6
  const fd = orErrno(libc.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  if (fd >= 0 && family === 6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1)
  return fd
}

/** Sets an option whose value is an int. 0 or -errno. */
export function setOption(fd: number, level: number, option: number, value: number): number {
  scratch.i32[VALUE_AT >> 2] = value
  return orErrno(libc.setsockopt(fd, level, option, valuePointer, 4))
}

/** An option whose value is an int ≥ 0, or -errno. */
export function getOption(fd: number, level: number, option: number): number {
  scratch.u32[VALUE_BYTES_AT >> 2] = 4
  const result = orErrno(libc.getsockopt(fd, level, option, valuePointer, valueBytesPointer))
  return result < 0 ? result : scratch.i32[VALUE_AT >> 2]!
}

/** The mark of everything that this socket sends from now on. 0 or -errno. */
export function setMark(fd: number, mark: number): number {
  return setOption(fd, SOL_SOCKET, SO_MARK, mark)
}

/** 0, or -errno that the socket met since it was asked last: the outcome of a connect. */
export function takeError(fd: number): number {
  const value = getOption(fd, SOL_SOCKET, SO_ERROR)
  return value > 0 ? -value : value
}

/**
 * Sets a socket buffer's size, past the machine's limit where we may, else up to it: the kernel
 * then cuts it without an error, and a smaller buffer is no reason not to start.
 * @param forceOption  SO_RCVBUFFORCE or SO_SNDBUFFORCE, with its plain twin in `option`
 */
export function setBuffer(fd: number, forceOption: number, option: number, bytes: number): void {
  if (setOption(fd, SOL_SOCKET, forceOption, bytes) === -EPERM) {
    setOption(fd, SOL_SOCKET, option, bytes)
  }
}

export interface ListenOptions {
  readonly family: 4 | 6
  /** 4 or 16 bytes; all zero: every address of the machine. */
  readonly address: Uint8Array
  /** 0: the kernel chooses. */
  readonly port: number
  /**
   * Takes what TPROXY steers here, whatever its destination, and may send from addresses that are
   * not this machine's. Needs CAP_NET_ADMIN or CAP_NET_RAW.
   */
  readonly isTransparent: boolean
  /** Bind even though the machine does not have the address (yet). Default: that is an error. */
  readonly mayBeMissing?: boolean
  /** Interface of a link-local IPv6 address. Default 0: none. */
  readonly interfaceIndex?: number
  /** Mark of everything that it sends; needs CAP_NET_ADMIN. Default 0: leave it. */
  readonly mark?: number
}

/** What a UDP and a TCP listener have in common before they are bound. Throws SocketError. */
export function configureListener(fd: number, options: ListenOptions, tried: string): void {
  const isV4 = options.family === 4
  if (options.isTransparent) mustWork(`${tried}: make it transparent`, makeTransparent(fd, isV4))
  if (options.mayBeMissing === true) {
    const result = isV4
      ? setOption(fd, SOL_IP, IP_FREEBIND, 1)
      : setOption(fd, SOL_IPV6, IPV6_FREEBIND, 1)
    mustWork(`${tried}: allow a missing address`, result)
  }
  if (options.mark !== undefined && options.mark !== 0) {
    mustWork(`${tried}: mark ${options.mark}`, setMark(fd, options.mark))
  }
}

/** bind(2) for both kinds of listener. Throws SocketError. */
export function bindListener(fd: number, options: ListenOptions, tried: string): void {
  const { family, address, port, interfaceIndex = 0 } = options
  const bytes = writeSockaddr(scratch, NAME_AT, family, address, 0, port, interfaceIndex)
  mustWork(`${tried}: bind`, orErrno(libc.bind(fd, namePointer, bytes)))
}

/** 0, or -errno: -EPERM without CAP_NET_ADMIN and CAP_NET_RAW. */
export function makeTransparent(fd: number, isV4: boolean): number {
  return isV4
    ? setOption(fd, SOL_IP, IP_TRANSPARENT, 1)
    : setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1)
}

/** connect(2) to an address. 0 or -errno; -EINPROGRESS for a stream is no failure. */
export function connectTo(
  fd: number,
  family: number,
  address: Uint8Array,
  addressAt: number,
  port: number,
  interfaceIndex: number,
): number {
  const bytes = writeSockaddr(scratch, NAME_AT, family, address, addressAt, port, interfaceIndex)
  return orErrno(libc.connect(fd, namePointer, bytes))
}

/**
 * Undoes a connect of a datagram socket that was never bound: its port is given back, and the next
 * connect draws another. What has come until now stays to be read. 0 or -errno.
 * Source: connect(2), AF_UNSPEC; net/ipv4/udp.c, __udp_disconnect.
 */
export function disconnect(fd: number): number {
  scratch.u16[NAME_AT >> 1] = AF_UNSPEC
  return orErrno(libc.connect(fd, namePointer, SOCKADDR_IN_BYTES))
}

/** The port that an Internet socket has, for one that the kernel chose; or -errno. */
export function localPort(fd: number): number {
  scratch.u32[VALUE_BYTES_AT >> 2] = SOCKADDR_ROOM
  const result = orErrno(libc.getsockname(fd, namePointer, valueBytesPointer))
  return result < 0 ? result : sockaddrPort(scratch, NAME_AT)
}

/**
 * Writes a sockaddr_in or sockaddr_in6 and returns its size.
 * @param at  offset in the region, a multiple of 4; SOCKADDR_ROOM bytes are ours
 * @param interfaceIndex  scope of a link-local IPv6 address; else 0
 */
export function writeSockaddr(
  region: Region,
  at: number,
  family: number,
  address: Uint8Array,
  addressAt: number,
  port: number,
  interfaceIndex: number,
): number {
  const u8 = region.u8
  u8[at + SOCKADDR_PORT] = port >> 8
  u8[at + SOCKADDR_PORT + 1] = port & 0xff
  region.u32[(at + 4) >> 2] = 0 // IPv6: flow information; IPv4: the address follows
  if (family === 4) {
    region.u16[at >> 1] = AF_INET
    const to = at + SOCKADDR_IN_ADDRESS
    for (let n = 0; n < 4; n++) u8[to + n] = address[addressAt + n]!
    return SOCKADDR_IN_BYTES
  }
  assert(family === 6, 'a family is 4 or 6')
  region.u16[at >> 1] = AF_INET6
  const to = at + SOCKADDR_IN6_ADDRESS
  for (let n = 0; n < 16; n++) u8[to + n] = address[addressAt + n]!
  region.u32[(at + SOCKADDR_IN6_SCOPE) >> 2] = interfaceIndex
  return SOCKADDR_IN6_BYTES
}

/** 4 or 6, of the socket address at `at`. */
export function sockaddrFamily(region: Region, at: number): number {
  return region.u16[at >> 1] === AF_INET ? 4 : 6
}

/** Offset of the 4 or 16 bytes of address in the socket address at `at`. */
export function sockaddrAddressAt(region: Region, at: number): number {
  return at + (region.u16[at >> 1] === AF_INET ? SOCKADDR_IN_ADDRESS : SOCKADDR_IN6_ADDRESS)
}

export function sockaddrPort(region: Region, at: number): number {
  return (region.u8[at + SOCKADDR_PORT]! << 8) | region.u8[at + SOCKADDR_PORT + 1]!
}

/**
 * Sends `bytes` at `address` on a connected socket, of any kind, without waiting.
 * Bytes sent (a stream may take fewer), or -errno: -EAGAIN when it has no room.
 */
export function send(fd: number, address: Address, bytes: number): number {
  return orErrno(libc.send(fd, address, bytes, MSG_DONTWAIT | MSG_NOSIGNAL))
}

/**
 * Receives at most `bytesMax` bytes to `address` from a connected socket, of any kind, without
 * waiting. Bytes received (0: a stream's peer has finished), or -errno: -EAGAIN when there is
 * nothing. Of a datagram that is longer, the rest is lost and nothing says so: have room for one
 * byte more than you accept.
 */
export function receive(fd: number, address: Address, bytesMax: number): number {
  return orErrno(libc.recv(fd, address, bytesMax, MSG_DONTWAIT))
}

/**
 * Closes a descriptor. 0 or -errno. A socket that another process holds too must be taken out of
 * epoll first: closed but registered it swallowed wake-ups meant for the other (seen: 83 of 150
 * datagrams 17 ms late).
 */
export function close(fd: number): number {
  return orErrno(libc.close(fd))
}
