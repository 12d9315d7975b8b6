/**
 * Our questions to the peer, 'what do you have that I lack?', and who waits for the answer.
 *
 * What must stay true: an answer counts only for those who asked before the question that it
 * answers was sent. (A process that stood still may find an old answer waiting for it, from before
 * the change that it is asking about.) Silence is measured in our own running time, and only
 * silence: a peer that is sending us a large cache is not mute.
 */
import type { CatchUpOutcome } from './peer.ts'
import type { Want } from './protocol.ts'

export const ANSWER_MS = 1000
/** However much comes: a peer that never says that it is done is as good as mute. */
const TIMEOUTS_MAX = 10

interface Waiter {
  readonly id: number
  readonly want: Want
  readonly timeoutMs: number
  readonly resolve: (outcome: CatchUpOutcome) => void
  /** Running time since it asked, and since something came for it. */
  waitedMs: number
  silentMs: number
  isDone: boolean
}

export class Asks {
  #lastId = 0
  #waiters: Waiter[] = []

  get areWaiting(): boolean {
    return this.#waiters.length > 0
  }

  wait(want: Want, timeoutMs: number): Promise<CatchUpOutcome> {
    const id = ++this.#lastId
    return new Promise((resolve) => {
      this.#waiters.push({ id, want, timeoutMs, resolve, waitedMs: 0, silentMs: 0, isDone: false })
    })
  }

  /** The one question that answers all that is not answered yet; null: there is none. */
  get due(): { readonly id: number; readonly want: Want } | null {
    const open = this.#waiters.filter(({ isDone }) => !isDone)
    if (open.length === 0) return null
    const want = open.some((waiter) => waiter.want === 'everything') ? 'everything' : 'changes'
    return { id: this.#lastId, want }
  }

  /** Something that was asked for is coming. */
  progress(): void {
    for (const waiter of this.#waiters) waiter.silentMs = 0
  }

  /** Everything for question `id` has come; `settled`: and is in force here. */
  async answered(id: number, settled: () => Promise<void>): Promise<void> {
    const answered = this.#waiters.filter((waiter) => waiter.id <= id && !waiter.isDone)
    for (const waiter of answered) waiter.isDone = true
    if (answered.length === 0) return
    await settled()
    this.#finish('caught-up', (waiter) => answered.includes(waiter))
  }

  /** Nobody is there; what has been answered stays answered. */
  nobody(): void {
    this.#finish('nobody', ({ isDone }) => !isDone)
  }

  /** @param passedMs  of our running time */
  tick(passedMs: number): void {
    for (const waiter of this.#waiters) {
      waiter.silentMs += passedMs
      waiter.waitedMs += passedMs
    }
    this.#finish('mute', ({ isDone, waitedMs, silentMs, timeoutMs }) => {
      return !isDone && (silentMs >= timeoutMs || waitedMs >= timeoutMs * TIMEOUTS_MAX)
    })
  }

  close(): void {
    this.#finish('nobody', () => true)
  }

  #finish(outcome: CatchUpOutcome, isOver: (waiter: Waiter) => boolean): void {
    const over = this.#waiters.filter(isOver)
    this.#waiters = this.#waiters.filter((waiter) => !over.includes(waiter))
    for (const waiter of over) waiter.resolve(outcome)
  }
}
