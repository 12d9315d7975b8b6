/**
 * TCP sockets: listeners for clients' queries, accepted connections, connections to upstreams.
 *
 * As with UDP, listeners are opened once and held by all processes; an accepted connection belongs
 * to the process that accepted it, and carries that process's mark, so that the kernel can reset
 * it when its owner is gone or hung (`setMark`). Reading, writing and closing: socket.ts.
 * Source: tcp(7), accept(2), connect(2).
 */
import { assert } from '../assert.ts'
import {
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  SOL_TCP,
  SO_REUSEADDR,
  TCP_NODELAY,
} from './constants.ts'
import { EINPROGRESS } from './errno.ts'
import { SOCKADDR_ROOM } from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import {
  type ListenOptions,
  bindListener,
  close,
  configureListener,
  connectTo,
  endpointText,
  mustWork,
  openSocket,
  setMark,
  setOption,
  sockaddrAddressAt,
  sockaddrFamily,
  sockaddrPort,
} from './socket.ts'

export interface TcpOptions extends ListenOptions {
  /** Connections that may wait to be accepted; cut to net.core.somaxconn. Default 1024. */
  readonly backlog?: number
}

/** A listening TCP socket; its descriptor belongs to the caller. Throws SocketError. */
export function listenTcp(options: TcpOptions): number {
  assert(options.address.length === (options.family === 4 ? 4 : 16), 'an address fits its family')
  const tried = `open TCP ${endpointText(options.address, options.port)}`
  const fd = mustWork(tried, openSocket(options.family, SOCK_STREAM))
  try {
    configureListener(fd, options, tried)
    // Connections of the process before us linger in TIME_WAIT and would keep the port for 60 s.
    mustWork(`${tried}: reuse the port`, setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1))
    // A DNS message is written whole; accepted sockets inherit it.
    mustWork(`${tried}: no delay`, setOption(fd, SOL_TCP, TCP_NODELAY, 1))
    bindListener(fd, options, tried)
    mustWork(`${tried}: listen`, orErrno(libc.listen(fd, options.backlog ?? 1024)))
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Accepts connections and tells who is at both ends of the last one. Allocates nothing. */
export class TcpAcceptor {
  /** Holds both addresses, at `peerAt` and `localAt`. */
  readonly u8: Uint8Array
  readonly #region: Region
  readonly #peer: bigint
  readonly #local: bigint
  readonly #bytes: bigint

  constructor() {
    this.#region = Region.create(BYTES_AT + 8)
    this.u8 = this.#region.u8
    this.#peer = this.#region.pointer(PEER_AT)
    this.#local = this.#region.pointer(LOCAL_AT)
    this.#bytes = this.#region.pointer(BYTES_AT)
  }

  /** The next waiting connection's descriptor, the caller's from now on; or -errno (-EAGAIN). */
  accept(listener: number): number {
    const bytesWord = BYTES_AT >> 2
    const flags = SOCK_NONBLOCK | SOCK_CLOEXEC
    this.#region.u32[bytesWord] = SOCKADDR_ROOM
    const fd = orErrno(libc.accept4(listener, this.#peer, this.#bytes, flags))
    if (fd < 0) return fd
    this.#region.u32[bytesWord] = SOCKADDR_ROOM
    const result = orErrno(libc.getsockname(fd, this.#local, this.#bytes))
    if (result === 0) return fd
    close(fd)
    return result
  }

  /** 4 or 6. */
  get family(): number {
    return sockaddrFamily(this.#region, PEER_AT)
  }

  get peerAt(): number {
    return sockaddrAddressAt(this.#region, PEER_AT)
  }

  get peerPort(): number {
    return sockaddrPort(this.#region, PEER_AT)
  }

  /** The address that the client connected to: behind TPROXY the server's that it meant. */
  get localAt(): number {
    return sockaddrAddressAt(this.#region, LOCAL_AT)
  }

  get localPort(): number {
    return sockaddrPort(this.#region, LOCAL_AT)
  }
}

const PEER_AT = 0
const LOCAL_AT = SOCKADDR_ROOM
const BYTES_AT = 2 * SOCKADDR_ROOM

/**
 * Begins to connect to a server; the descriptor is the caller's. It becomes writable when the
 * outcome is known: ask `takeError` then. -errno when it failed at once.
 * @param address  4 or 16 bytes at `addressAt`
 * @param mark  of everything that it sends; 0: none
 * @param interfaceIndex  of a link-local IPv6 server; else 0
 */
export function connectTcp(
  family: number,
  address: Uint8Array,
  addressAt: number,
  port: number,
  mark: number,
  interfaceIndex = 0,
): number {
  const fd = openSocket(family, SOCK_STREAM)
  if (fd < 0) return fd
  setOption(fd, SOL_TCP, TCP_NODELAY, 1)
  let result = mark === 0 ? 0 : setMark(fd, mark)
  if (result === 0) result = connectTo(fd, family, address, addressAt, port, interfaceIndex)
  if (result === 0 || result === -EINPROGRESS) return fd
  close(fd)
  return result
}

/**
 * Says that nothing more will be written; what the peer still writes can be read. 0 or -errno.
 * Only for connections: on a listener that another process holds too it would end both.
 */
export function shutdownWrite(fd: number): number {
  return orErrno(libc.shutdown(fd, SHUT_WR))
}
