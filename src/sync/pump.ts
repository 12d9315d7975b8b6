/**
 * Sends one thing after the other for as long as the peer takes them, without ever holding up the
 * event loop: after a number of messages it goes on in the next turn, and when the peer does not
 * read it tries again a little later, and later still.
 *
 * (There is no "writable" to wait for: the connection's watch tells only what can be read. A retry
 * every 5 to 100 ms moves more than the peer can handle, and costs a stopped peer's other side
 * next to nothing.)
 */
import type { Sent } from './connection.ts'

/** 4 MiB of bulk; less than a millisecond. */
const MESSAGES_MAX = 64
const RETRY_MS_MIN = 5
const RETRY_MS_MAX = 100

export class EventLoopPump {
  /** The last message found no room. */
  isBlocked = false
  readonly #sendNext: () => Sent | null
  #retryMs = RETRY_MS_MIN
  #retry: NodeJS.Timeout | undefined
  #again: NodeJS.Immediate | undefined
  #isRunning = false

  /** @param sendNext  sends one message; null when there is nothing to send */
  constructor(sendNext: () => Sent | null) {
    this.#sendNext = sendNext
  }

  run(): void {
    if (this.#isRunning) return // what is sent makes something due
    clearTimeout(this.#retry)
    this.#isRunning = true
    try {
      this.#sendSome()
    } finally {
      this.#isRunning = false
    }
  }

  stop(): void {
    clearTimeout(this.#retry)
    clearImmediate(this.#again)
    this.isBlocked = false
    this.#retryMs = RETRY_MS_MIN
  }

  #sendSome(): void {
    for (let count = 0; count < MESSAGES_MAX; count++) {
      const sent = this.#sendNext()
      this.isBlocked = sent === 'full'
      if (sent === null || sent === 'gone') return
      if (sent === 'full') {
        this.#retry = setTimeout(() => this.run(), this.#retryMs)
        this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX)
        return
      }
      this.#retryMs = RETRY_MS_MIN
    }
    clearImmediate(this.#again)
    this.#again = setImmediate(() => this.run())
  }
}
