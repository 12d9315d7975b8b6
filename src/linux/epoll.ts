/**
 * Epoll: waits for many descriptors at once. The worker's loop sleeps here and nowhere else.
 *
 * Each descriptor is registered with a token, a 32-bit signed integer of the caller's, which comes
 * back with its events. Sockets that two processes hold are registered with EPOLLEXCLUSIVE, so
 * that the kernel wakes one waiter for a packet, and must be removed before they are closed.
 *
 * The array of events is written by the kernel and lies in a Region; `wait` and the getters
 * allocate nothing. Source: epoll(7), epoll_ctl(2), epoll_wait(2).
 */
import { assert } from '../assert.ts'
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD } from './constants.ts'
import { EINTR } from './errno.ts'
import { EPOLL_EVENT_BYTES, EPOLL_EVENT_DATA } from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { mustWork } from './socket.ts'

/** Events per waking; what is left over comes with the next one. */
const EVENTS_MAX = 64

const EVENT_WORDS = EPOLL_EVENT_BYTES >> 2
const TOKEN_WORD = EPOLL_EVENT_DATA >> 2
/** One event more than the array: what `add` and `modify` hand to the kernel. */
const CONTROL_WORD = EVENTS_MAX * EVENT_WORDS

export class Epoll implements Disposable {
  readonly fd: number
  readonly #words: Int32Array
  readonly #events: bigint
  readonly #control: bigint
  #isOpen = true

  constructor() {
    this.fd = mustWork('create an epoll instance', orErrno(libc.epoll_create1(EPOLL_CLOEXEC)))
    const region = Region.create((EVENTS_MAX + 1) * EPOLL_EVENT_BYTES)
    this.#words = region.i32
    this.#events = region.pointer(0)
    this.#control = region.pointer(CONTROL_WORD * 4)
  }

  /**
   * Registers a descriptor. 0 or -errno: -EEXIST when it is registered, -EPERM when it is a file
   * that can't be waited for.
   * @param events  EPOLLIN | …; errors and hang-ups are always reported
   * @param token  comes back from `token`; a 32-bit signed integer
   */
  add(fd: number, events: number, token: number): number {
    return this.#change(EPOLL_CTL_ADD, fd, events, token)
  }

  /** Changes events and token of a registered descriptor (never of an EPOLLEXCLUSIVE one: EINVAL). */
  modify(fd: number, events: number, token: number): number {
    return this.#change(EPOLL_CTL_MOD, fd, events, token)
  }

  /** 0 or -errno. Events of it that the last `wait` returned may still be in the array. */
  remove(fd: number): number {
    return this.#change(EPOLL_CTL_DEL, fd, 0, 0)
  }

  /**
   * Waits for events. How many there are (0: the time is over, or a signal came), or -errno.
   * @param timeoutMs  whole milliseconds; 0 looks without waiting, -1 waits for ever
   */
  wait(timeoutMs: number): number {
    const count = orErrno(libc.epoll_wait(this.fd, this.#events, EVENTS_MAX, timeoutMs))
    return count === -EINTR ? 0 : count
  }

  /** Token of event `index` of the last `wait`. */
  token(index: number): number {
    return this.#words[index * EVENT_WORDS + TOKEN_WORD]!
  }

  /** Event bits of event `index` of the last `wait`. */
  events(index: number): number {
    return this.#words[index * EVENT_WORDS]!
  }

  close(): void {
    assert(this.#isOpen, 'an epoll instance is closed once')
    this.#isOpen = false
    libc.close(this.fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #change(operation: number, fd: number, events: number, token: number): number {
    this.#words[CONTROL_WORD] = events
    this.#words[CONTROL_WORD + TOKEN_WORD] = token
    return orErrno(libc.epoll_ctl(this.fd, operation, fd, this.#control))
  }
}
