/** Sockets on localhost for the tests of this folder, and what waits in them. */
import { localPort, receive } from '../linux/socket.ts'
import { Region } from '../linux/region.ts'
import { listenTcp, TcpAcceptor } from '../linux/tcp.ts'
import { openUdp } from '../linux/udp.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'
import type { SocketSet } from './peer.ts'

const LOCALHOST = new Uint8Array([127, 0, 0, 1])
const ANY_PORT = { family: 4, address: LOCALHOST, port: 0, isTransparent: false } as const

/** One UDP and one TCP socket, on ports that the kernel chose. */
export function openLocalSet(generation: number, pairs = 1): SocketSet {
  const sockets: ListenSocket[] = []
  for (let n = 0; n < pairs; n++) {
    for (const kind of ['udp', 'tcp'] as const) {
      const fd = kind === 'udp' ? openUdp(ANY_PORT) : listenTcp(ANY_PORT)
      sockets.push({ fd, kind, family: 4, port: localPort(fd), isTransparent: false })
    }
  }
  return { generation, addresses: { v4: '127.0.0.1', v6: null }, sockets }
}

/** The datagrams that wait, as text, and how many TCP connections do. */
export function readAll(set: SocketSet): { datagrams: string[]; connections: number } {
  const region = Region.create(4096)
  const acceptor = new TcpAcceptor()
  const datagrams: string[] = []
  let connections = 0
  for (const { fd, kind } of set.sockets) {
    if (kind === 'tcp') while (acceptor.accept(fd) >= 0) connections++
    else {
      for (let bytes = receive(fd, region.address, 4096); bytes >= 0; ) {
        datagrams.push(Buffer.from(region.u8.subarray(0, bytes)).toString())
        bytes = receive(fd, region.address, 4096)
      }
    }
  }
  return { datagrams, connections }
}
