/**
 * UDP sockets: those that clients' queries come to, and those that ask upstreams.
 *
 * A listening socket is opened once, at start, by whichever process comes first, and then held by
 * all (passed over the sync connection); what it is set to here therefore holds for every holder.
 * An upstream socket is opened per query, so that the kernel draws a fresh random port.
 *
 * What must stay true: options that decide what may be bound (transparent, free) are set before
 * bind; every listening socket reports the local address of each datagram, because the reply must
 * leave from it. Datagrams go in and out by udp-batch.ts. Source: udp(7), ip(7), ipv6(7).
 */
import { assert } from '../assert.ts'
import {
  IPV6_ORIGDSTADDR,
  IPV6_RECVPKTINFO,
  IP_MTU_DISCOVER,
  IP_ORIGDSTADDR,
  IP_PKTINFO,
  IP_PMTUDISC_OMIT,
  SOCK_DGRAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEPORT,
} from './constants.ts'
import {
  type ListenOptions,
  bindListener,
  close,
  configureListener,
  connectTo,
  endpointText,
  mustWork,
  openSocket,
  setBuffer,
  setMark,
  setOption,
} from './socket.ts'

export interface UdpOptions extends ListenOptions {
  /**
   * Bytes of datagrams that may wait; a full buffer loses the newest. The kernel counts its own
   * overhead too (about 800 bytes a query) and, without CAP_NET_ADMIN, caps it at
   * net.core.rmem_max. Default: the kernel's.
   */
  readonly receiveBufferBytes?: number
  /** Other sockets of this user may bind the same port, and get a share of its datagrams. */
  readonly isShared?: boolean
}

/** A bound UDP socket; its descriptor belongs to the caller. Throws SocketError. */
export function openUdp(options: UdpOptions): number {
  assert(options.address.length === (options.family === 4 ? 4 : 16), 'an address fits its family')
  const tried = `open UDP ${endpointText(options.address, options.port)}`
  const fd = mustWork(tried, openSocket(options.family, SOCK_DGRAM))
  try {
    configureListener(fd, options, tried)
    mustWork(`${tried}: report local addresses`, reportLocalAddresses(fd, options))
    // Replies fragment where they must, but nobody's ICMP may tell us to: a forged "fragmentation
    // needed" is how spoofed second fragments get in. Source: ip(7), IP_PMTUDISC_OMIT.
    if (options.family === 4) setOption(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
    if (options.receiveBufferBytes !== undefined) {
      setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBufferBytes)
    }
    if (options.isShared === true) {
      mustWork(`${tried}: share the port`, setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1))
    }
    bindListener(fd, options, tried)
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

function reportLocalAddresses(fd: number, options: UdpOptions): number {
  const isV4 = options.family === 4
  const level = isV4 ? SOL_IP : SOL_IPV6
  const result = setOption(fd, level, isV4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1)
  if (result < 0 || !options.isTransparent) return result
  return setOption(fd, level, isV4 ? IP_ORIGDSTADDR : IPV6_ORIGDSTADDR, 1)
}

/**
 * A UDP socket connected to a server: it receives from there only, and its port is a random one of
 * the kernel's choice. Its descriptor belongs to the caller. -errno on failure.
 * @param address  4 or 16 bytes at `addressAt`
 * @param mark  of everything that it sends; 0: none
 * @param interfaceIndex  of a link-local IPv6 server; else 0
 */
export function connectUdp(
  family: number,
  address: Uint8Array,
  addressAt: number,
  port: number,
  mark: number,
  interfaceIndex = 0,
): number {
  const fd = openSocket(family, SOCK_DGRAM)
  if (fd < 0) return fd
  let result = mark === 0 ? 0 : setMark(fd, mark)
  if (result === 0) result = connectTo(fd, family, address, addressAt, port, interfaceIndex)
  if (result === 0) return fd
  close(fd)
  return result
}
