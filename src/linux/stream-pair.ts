/**
 * Two ends of one stream inside this process: what one thread writes the other reads, and both can
 * wait for it as for any socket. Source: socketpair(2), unix(7).
 */
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from './constants.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'

export class StreamPair {
  /** After `open`: both descriptors, the caller's from then on. */
  near = -1
  far = -1
  readonly #region = Region.create(8)

  /** 0 or -errno. */
  open(): number {
    const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC
    const result = orErrno(libc.socketpair(AF_UNIX, type, 0, this.#region.address))
    this.near = this.#region.i32[0]!
    this.far = this.#region.i32[1]!
    return result
  }
}
