/**
 * Watching a descriptor from the main thread's event loop: sync connections, netlink, NFLOG.
 *
 * The worker has its own epoll (epoll.ts) and does not use this. What the library's poll does not
 * do by itself, all seen:
 * - On a descriptor that epoll refuses (closed, or a regular file) or that it watches already, it
 *   aborts the whole process, uncatchably. So all three are found out first.
 * - It calls back outside of Node's own scope: a promise settled there went on only when the next
 *   timer fired, 30 s later. So callbacks run from setImmediate, in the same turn of the loop.
 * - After an error on the socket (ECONNREFUSED, netlink's ENOBUFS) libuv has stopped watching and
 *   says so by a status, which the library's types do not mention. So the watch is started again,
 *   once the callback has had its chance to take the error.
 */
import koffi from 'koffi'
import { assert } from '../assert.ts'
import { EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, F_GETFD } from './constants.ts'
import { EPOLL_EVENT_BYTES } from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { mustWork } from './socket.ts'

const READABLE = { readable: true }

type PollHandle = ReturnType<typeof koffi.node.poll>

/** By descriptor; keeps the library's handles alive when a caller drops its watch. */
const watched = new Map<number, PollHandle>()

/** One watched descriptor; keeps the process running until it is closed. */
export class Watch implements Disposable {
  readonly #fd: number
  #handle: PollHandle | null
  #isPending = false

  constructor(fd: number, callback: () => void) {
    this.#fd = fd
    const onReady = (status: unknown): void => {
      if (this.#isPending) return
      this.#isPending = true
      setImmediate(() => {
        this.#isPending = false
        if (this.#handle !== null) callback()
        if (status !== 0) this.#handle?.start(READABLE, onReady)
      })
    }
    this.#handle = koffi.node.poll(fd, READABLE, onReady)
    watched.set(fd, this.#handle)
  }

  /** Ends the watch; must come before the descriptor is closed. A second call does nothing. */
  close(): void {
    if (this.#handle === null) return
    this.#handle.close()
    this.#handle = null
    watched.delete(this.#fd)
  }

  /** Lets the process end although this is watched. */
  unref(): void {
    this.#handle?.unref()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Calls `callback` from the event loop for as long as something can be read from `fd`, or its peer
 * has hung up: read until -EAGAIN. Throws SocketError for a descriptor that can't be watched.
 */
export function watchReadable(fd: number, callback: () => void): Watch {
  assert(!watched.has(fd), 'a descriptor is watched once, and its watch closed before it is')
  mustWork(`watch descriptor ${fd}`, tryEpoll(fd))
  return new Watch(fd, callback)
}

const scratch = Region.create(EPOLL_EVENT_BYTES)

/** 0 when epoll takes the descriptor, or -errno. */
function tryEpoll(fd: number): number {
  // First, because the epoll instance below may get the number of a descriptor that is closed.
  const flags = orErrno(libc.fcntl(fd, F_GETFD, 0))
  if (flags < 0) return flags
  const epoll = orErrno(libc.epoll_create1(EPOLL_CLOEXEC))
  if (epoll < 0) return epoll
  scratch.i32[0] = EPOLLIN
  const result = orErrno(libc.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, scratch.address))
  libc.close(epoll) // and with it the registration
  return result
}
