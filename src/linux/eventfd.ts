/**
 * Event descriptors: one thread wakes another that sleeps in epoll.
 *
 * The one that made it closes it; another thread of the process attaches by its number. Signals
 * add up until they are cleared: a reader that is late sees one readable descriptor, not a queue,
 * so what there is to do must be found in shared memory. Source: eventfd(2).
 */
import { EFD_CLOEXEC, EFD_NONBLOCK } from './constants.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { mustWork } from './socket.ts'

export class EventFd {
  /** For epoll (EPOLLIN), and for `attach` in another thread. */
  readonly fd: number
  readonly #one: bigint
  readonly #count: bigint

  private constructor(fd: number) {
    const region = Region.create(16)
    region.u32[0] = 1
    this.fd = fd
    this.#one = region.pointer(0)
    this.#count = region.pointer(8)
  }

  static create(): EventFd {
    const fd = orErrno(libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))
    return new EventFd(mustWork('create an event descriptor', fd))
  }

  /** The same in another thread of this process. */
  static attach(fd: number): EventFd {
    return new EventFd(fd)
  }

  /** Makes it readable. Never waits; at 2⁶⁴-2 unread signals it does nothing, and is readable. */
  signal(): void {
    libc.write(this.fd, this.#one, 8)
  }

  /** Makes it unreadable; whether it had been signalled. */
  clear(): boolean {
    return libc.read(this.fd, this.#count, 8) === 8
  }

  /** Nobody may signal it afterwards: its number may soon be another file's. */
  close(): void {
    libc.close(this.fd)
  }
}
