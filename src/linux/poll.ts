/**
 * Poll: which of a few descriptors have something, found out in one call and without waiting.
 *
 * The worker's loop asks it of the sockets that it shares, at each waking that nobody woke it for.
 * Reading each of them instead costs a call a socket, and an accept that finds nobody has made a
 * socket first and throws it away. `look` and `isReady` allocate nothing. Source: poll(2).
 */
import { assert } from '../assert.ts'
import { POLLIN } from './constants.ts'
import { POLLFD_BYTES, POLLFD_EVENTS, POLLFD_RETURNED } from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'

const DESCRIPTORS_MAX = 512

export class PollSet {
  readonly #region = Region.create(DESCRIPTORS_MAX * POLLFD_BYTES)
  readonly #halves: Uint16Array
  readonly #address: bigint
  #count = 0

  constructor() {
    this.#halves = new Uint16Array(this.#region.u8.buffer)
    this.#address = this.#region.pointer(0)
  }

  /** From now on these are asked about; they are still their owner's to close. */
  watch(descriptors: readonly number[]): void {
    assert(descriptors.length <= DESCRIPTORS_MAX, 'a bounded number of descriptors')
    this.#count = descriptors.length
    for (const [index, fd] of descriptors.entries()) {
      this.#region.i32[(index * POLLFD_BYTES) >> 2] = fd
      this.#halves[(index * POLLFD_BYTES + POLLFD_EVENTS) >> 1] = POLLIN
    }
  }

  /** How many have something to read, or an error; -errno. */
  look(): number {
    return orErrno(libc.poll(this.#address, this.#count, 0))
  }

  /** Whether that one of `watch` did when `look` looked last. */
  isReady(index: number): boolean {
    return this.#halves[(index * POLLFD_BYTES + POLLFD_RETURNED) >> 1] !== 0
  }
}
