/**
 * A set of sockets on its way between processes: cut into messages of a few descriptors each, and
 * put together again.
 *
 * What must stay true: every received descriptor is either in the finished set or closed here.
 */
import type { ListenSocket } from '../linux/listen-socket.ts'
import { close } from '../linux/socket.ts'
import { DESCRIPTORS_MAX } from '../linux/unix.ts'
import type { SocketSet } from './peer.ts'
import type { SocketsPart } from './protocol.ts'

/** The messages for a set, with the descriptors of each. One without sockets is a message too. */
export function cutSockets(
  set: SocketSet,
): { readonly part: SocketsPart; readonly descriptors: readonly number[] }[] {
  const { generation, addresses } = set
  const messages = []
  for (let first = 0; first === 0 || first < set.sockets.length; first += DESCRIPTORS_MAX) {
    const some = set.sockets.slice(first, first + DESCRIPTORS_MAX)
    const sockets = some.map(({ kind, family, port, isTransparent }) => {
      return { kind, family, port, isTransparent }
    })
    const part = { generation, addresses, first, count: set.sockets.length, sockets }
    messages.push({ part, descriptors: some.map(({ fd }) => fd) })
  }
  return messages
}

export class SocketAssembly {
  #generation = -1
  #sockets: ListenSocket[] = []

  /**
   * Takes one message. The whole set when this was its last, null when more must come.
   * @param descriptors  emptied when they are taken
   */
  take(part: SocketsPart, descriptors: number[]): SocketSet | null | 'malformed' {
    if (part.first === 0) this.drop()
    const isNext = part.first === this.#sockets.length && part.sockets.length === descriptors.length
    if (!isNext || (part.first > 0 && part.generation !== this.#generation)) return 'malformed'
    this.#generation = part.generation
    for (const socket of part.sockets) this.#sockets.push({ fd: descriptors.shift()!, ...socket })
    if (this.#sockets.length < part.count) return part.sockets.length === 0 ? 'malformed' : null
    const { generation, addresses } = part
    const sockets = this.#sockets
    this.#sockets = []
    return { generation, addresses, sockets }
  }

  /** Closes what has come of a set whose rest will not. */
  drop(): void {
    closeAll(this.#sockets)
    this.#sockets = []
  }
}

export function closeAll(sockets: readonly ListenSocket[]): void {
  for (const { fd } of sockets) close(fd)
}
