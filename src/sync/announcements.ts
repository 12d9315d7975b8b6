/**
 * Who waits for the peer to enforce a policy of ours, and when that waiting may end.
 *
 * A change of policy is done when no process can act on the former one any more: the peer says
 * that it enforces the new one; or nobody is there; or the kernel no longer takes grants from the
 * peer, because its alive element has run out (a process that goes on after that asks what changed
 * before it refreshes the element). That the peer's *main thread* is silent proves nothing: its
 * worker may be answering queries meanwhile. So the kernel is asked; where there is nobody to ask
 * it takes as long as a worker needs to end a process whose main thread is silent.
 *
 * Used by link.ts, which calls `tick` about every 100 ms.
 */
import { AssertionFailure } from '../assert.ts'
import type { AnnounceOutcome } from './peer.ts'
import type { PolicyStamp } from './policy-exchange.ts'

/** The alive element lasts 150 ms; the rest is for a busy machine. */
const ALIVE_MS = 250
/** A worker ends its process after 2 s of silence, and may take a half longer when it is starved. */
const SILENT_MS = 3500

interface Waiter {
  readonly policy: PolicyStamp
  readonly resolve: (outcome: AnnounceOutcome) => void
  /** Running time since it was announced. */
  waitedMs: number
}

export class Announcements {
  /** Whether the kernel still takes the peer's grants; null: nobody knows. */
  readonly #isPeerAlive: (() => Promise<boolean>) | null
  #waiters: Waiter[] = []
  #isAsking = false

  constructor(isPeerAlive: (() => Promise<boolean>) | null) {
    this.#isPeerAlive = isPeerAlive
  }

  get areWaiting(): boolean {
    return this.#waiters.length > 0
  }

  wait(policy: PolicyStamp): Promise<AnnounceOutcome> {
    return new Promise((resolve) => this.#waiters.push({ policy, resolve, waitedMs: 0 }))
  }

  /**
   * The peer says what it enforces. That ends the waiting for just that, and for all that came
   * before when it is the newest that we know.
   */
  peerHolds(held: PolicyStamp, newest: PolicyStamp | null): void {
    const isNewest = held.revision === newest?.revision && held.digest === newest.digest
    this.#finish('acknowledged', ({ policy }) =>
      isNewest ? policy.revision <= held.revision : policy.digest === held.digest,
    )
  }

  /** Nobody is there. */
  gone(): void {
    this.#finish('gone', () => true)
  }

  /**
   * @param passedMs  of our running time since the last tick
   * @param unheardMs  of our running time since the peer was heard; Infinity without a link
   */
  tick(passedMs: number, unheardMs: number): void {
    if (this.#waiters.length === 0) return
    for (const waiter of this.#waiters) waiter.waitedMs += passedMs
    if (this.#isPeerAlive === null) {
      if (unheardMs >= SILENT_MS) this.#finish('silent', ({ waitedMs }) => waitedMs >= SILENT_MS)
    } else if (unheardMs >= ALIVE_MS && !this.#isAsking) void this.#ask(this.#isPeerAlive)
  }

  /** What is announced while the kernel answers waits for the next answer. */
  async #ask(isPeerAlive: () => Promise<boolean>): Promise<void> {
    const asked = this.#waiters.filter(({ waitedMs }) => waitedMs >= ALIVE_MS)
    if (asked.length === 0) return
    this.#isAsking = true
    try {
      if (!(await isPeerAlive())) this.#finish('silent', (waiter) => asked.includes(waiter))
    } catch (error) {
      // The kernel could not be read: then nobody knows, and the next tick asks again.
      if (error instanceof AssertionFailure) throw error
    } finally {
      this.#isAsking = false
    }
  }

  #finish(outcome: AnnounceOutcome, isDone: (waiter: Waiter) => boolean): void {
    const done = this.#waiters.filter(isDone)
    this.#waiters = this.#waiters.filter((waiter) => !done.includes(waiter))
    for (const waiter of done) waiter.resolve(outcome)
  }
}
