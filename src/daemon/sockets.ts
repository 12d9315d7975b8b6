/**
 * The sockets that clients' questions come to: made once on a node, by whichever process comes
 * first, and held by all of them afterwards.
 *
 * Without interception they are bound to listen.addresses. With it they are transparent, bound to
 * an address of ours that no interface needs to have, and the kernel steers to them what was sent
 * to any other; a new *generation* (the former sockets are held by somebody who does not answer)
 * gets another such address, and the ruleset points there.
 */
import { readFileSync } from 'node:fs'
import { parseAddress } from '../identity/address.ts'
import { EADDRINUSE } from '../linux/errno.ts'
import { close, SocketError } from '../linux/socket.ts'
import { listenTcp } from '../linux/tcp.ts'
import { openUdp } from '../linux/udp.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import type { SocketSet } from '../sync/peer.ts'

const DNS_PORT = 53
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
const GENERATIONS_MAX = 200

/** Sockets on the configured addresses. Throws SocketError. */
export function openPlainSockets(addresses: readonly string[], port: number): SocketSet {
  const sockets: ListenSocket[] = []
  try {
    for (const text of addresses) sockets.push(...openPair(text, port, { isTransparent: false }))
  } catch (error) {
    closeSockets(sockets)
    throw error
  }
  return { generation: 0, addresses: { v4: null, v6: null }, sockets }
}

/**
 * Transparent sockets of a generation later than any that somebody on this node holds: a process
 * that hangs, and of which we have never heard, must take ours when it goes on, not we its.
 * @param known  the latest generation that the peer told of
 * @param mark   Marks.own of the ruleset: what leaves from them is not looked at again
 * Throws SocketError.
 */
export function openTransparentSockets(known: number, mark: number): SocketSet {
  for (let generation = Math.max(known, latestHeld()) + 1; ; generation++) {
    const v4 = `127.78.71.${generation}`
    const v6 = `fd4e:4700::${generation.toString(16)}`
    const sockets: ListenSocket[] = []
    try {
      sockets.push(...openPair(v4, DNS_PORT, { isTransparent: true, mark }))
      sockets.push(...openPair(v6, DNS_PORT, { isTransparent: true, mark }))
      return { generation, addresses: { v4, v6 }, sockets }
    } catch (error) {
      closeSockets(sockets)
      const isTaken = error instanceof SocketError && error.errno === EADDRINUSE
      if (!isTaken || generation >= GENERATIONS_MAX) throw error
    }
  }
}

/**
 * The latest generation whose socket is there, whoever holds it; 0 when there is none. In the
 * kernel's list an IPv4 address is one word of this machine's byte order, in hex. Source:
 * proc_net(5).
 */
function latestHeld(): number {
  const listed = readFileSync('/proc/net/udp', 'utf8')
  let latest = 0
  for (const [, low] of listed.matchAll(/: ([0-9A-F]{2})474E7F:0035 /g)) {
    latest = Math.max(latest, Number.parseInt(low!, 16))
  }
  return latest
}

/** Our own copies; the peer's go on. Only when no epoll has them any more. */
export function closeSockets(sockets: readonly ListenSocket[]): void {
  for (const { fd } of sockets) close(fd)
}

function openPair(
  text: string,
  port: number,
  options: { isTransparent: boolean; mark?: number },
): ListenSocket[] {
  const address = parseAddress(text)!
  const family = address.length === 4 ? 4 : 6
  const { isTransparent } = options
  const common = { ...options, family, address, port, mayBeMissing: isTransparent } as const
  const udp = openUdp({ ...common, receiveBufferBytes: RECEIVE_BUFFER_BYTES })
  try {
    const tcp = listenTcp(common)
    return [
      { fd: udp, kind: 'udp', family, port, isTransparent },
      { fd: tcp, kind: 'tcp', family, port, isTransparent },
    ]
  } catch (error) {
    close(udp)
    throw error
  }
}
