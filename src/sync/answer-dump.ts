/**
 * All answers of our cache on their way to a peer that asked: fetched batch by batch from the
 * worker, handed out in pieces that fit into a message.
 *
 * What must stay true: one batch is held at a time, and the next is fetched only when it has been
 * sent. A worker that does not give its answers (it is away, or busy) delays nobody: the dump then
 * ends early, and the peer's cache is less warm.
 */
import type { Repeats } from '../log.ts'
import { AssertionFailure } from '../assert.ts'
import { endOfPiece } from './frames.ts'

/** The peer takes a second of silence for an answer that will not come. */
const BATCH_MS = 500

export class AnswerDump {
  /** The next piece to send; null while it is being fetched, and when it is over. */
  piece: Uint8Array | null = null
  isOver = false
  readonly #answers: AsyncIterator<Uint8Array>
  readonly #ready: () => void
  readonly #repeats: Repeats
  #batch: Uint8Array = new Uint8Array(0)
  #at = 0

  /** @param ready  called when there is a piece, or it is over */
  constructor(answers: AsyncIterable<Uint8Array>, ready: () => void, repeats: Repeats) {
    this.#answers = answers[Symbol.asyncIterator]()
    this.#ready = ready
    this.#repeats = repeats
    void this.#fetch()
  }

  /** `piece` has been sent. */
  next(): void {
    this.piece = null
    if (this.#at < this.#batch.length) this.#cut()
    else void this.#fetch()
  }

  close(): void {
    if (this.isOver) return
    this.isOver = true
    this.piece = null
    // The worker's answer to what is still open does not interest any more, nor does a failure.
    this.#answers.return?.().catch(() => {})
  }

  async #fetch(): Promise<void> {
    const late = setTimeout(() => this.#fail({ waitedMs: BATCH_MS }), BATCH_MS)
    try {
      const result = await this.#answers.next()
      if (this.isOver) return
      if (result.done === true) this.isOver = true
      else {
        this.#batch = result.value
        this.#at = 0
        this.#cut()
      }
      this.#ready()
    } catch (error) {
      if (error instanceof AssertionFailure) throw error
      this.#fail({ error })
    } finally {
      clearTimeout(late)
    }
  }

  #cut(): void {
    const end = endOfPiece(this.#batch, this.#at)
    if (end === -1) {
      this.#fail({ unexpected: true, bytes: this.#batch.length, at: this.#at })
      return
    }
    this.piece = this.#batch.subarray(this.#at, end)
    this.#at = end
  }

  #fail(fields: object): void {
    if (this.isOver) return
    this.#repeats.warn('answers', fields, 'the peer gets only some of our answers')
    this.close()
    this.#ready()
  }
}
