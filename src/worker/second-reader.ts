/**
 * When a process reads the sockets that it holds together with its peer.
 *
 * Whoever is free could read, without a word between the two: the kernel wakes one of those who
 * wait. But while one is busy with a packet the next one wakes the other, and each pays for a
 * waking (half as much again for each query at 20,000 q/s). So one of the two is the second
 * reader: while the first one reads, it does not wait for the sockets, it looks at them now and
 * then, and takes what lies there. When something lies there at each of several looks in a row,
 * the first one is stopped, hung, starved or has more than it can do; then the second one reads
 * like the first, for a while.
 *
 * What must stay true: nothing depends on being told that the first reader is gone. That only
 * saves the time until the next look.
 */
import { SLEEP_MS } from './control.ts'

/** Looks in a row that must find something. One finds a datagram on its way to a healthy peer. */
const FINDS = 8
/** Between such looks. */
const LOOK_SOON_MS = 2
/** How long the second reader then reads on. */
const READ_ON_MS = 250

export class SecondReader {
  #finds = 0
  #readsUntilMs = 0

  /** Whether to wait for what comes, as anybody does who reads alone. */
  isReading(isPeerReading: boolean, nowMs: number): boolean {
    const isReading = !isPeerReading || nowMs < this.#readsUntilMs
    if (isReading) this.#finds = 0
    return isReading
  }

  /** How long after a look the next one is due, while it does not read. */
  get lookEveryMs(): number {
    return this.#finds > 0 ? LOOK_SOON_MS : SLEEP_MS
  }

  /** It has looked, and taken what was there. */
  looked(hasFound: boolean, nowMs: number): void {
    this.#finds = hasFound ? this.#finds + 1 : 0
    if (this.#finds === FINDS) this.#readsUntilMs = nowMs + READ_ON_MS
  }
}
