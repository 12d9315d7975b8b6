/**
 * What main thread and worker tell each other at any moment: words in shared memory.
 *
 * Everything that must get through although the other thread is busy goes by these words, and is
 * read at every turn of the worker's loop. What may wait a turn of the event loop goes by messages
 * (worker/message.ts).
 *
 * LAYOUT, 32-bit words; beside each who stores it
 *     0  MAIN_BEAT     main     counts up while the main thread runs
 *     1  WORKER_BEAT   worker   counts up while the worker runs
 *     2  MODE          main     what the worker shall do: MODE_*
 *     3  STATE         worker   what it does: STATE_*
 *     4  TABLE         main     counts policy tables; table n lies in table memory n & 1
 *     5  TABLE_TAKEN   worker   the last it has opened: the other memory is free to write
 *     6  FORGET        main     counts up when the kernel may have lost or lost on purpose grants
 *     7  AWAY          worker   counts up when its loop stood still longer than `alive` lasts
 *     8  BACK          main     = AWAY when what changed meanwhile is known: it may go on
 *     9  TURNS         worker   turns of the loop, for `status`
 *    10  WAITING       worker   queries that wait for an upstream
 *    11  CONNECTIONS   worker   TCP connections of clients
 *    12  CACHE_ENTRIES worker
 *    13  CACHE_KIB     worker
 *    14  LAG_MS        worker   longest time that the loop stood still since start
 *    15  MAIN_ASLEEP   both     main: 1, it looks seldom now; worker: 0, it has woken main
 *    16  PEER          main     who is there besides us: PEER_*
 *    17  counters      worker   pipeline/counters.ts
 */
import { COUNTER_COUNT } from '../pipeline/counters.ts'

export const MAIN_BEAT = 0
export const WORKER_BEAT = 1
export const MODE = 2
export const STATE = 3
export const TABLE = 4
export const TABLE_TAKEN = 5
export const FORGET = 6
export const AWAY = 7
export const BACK = 8
export const TURNS = 9
export const WAITING = 10
export const CONNECTIONS = 11
export const CACHE_ENTRIES = 12
export const CACHE_KIB = 13
export const LAG_MS = 14
export const MAIN_ASLEEP = 15
export const PEER = 16
export const COUNTERS_AT = 17
export const CONTROL_WORDS = COUNTERS_AT + COUNTER_COUNT

// MODE 0, before any other: looks after what is in flight, but reads no socket and does not say that
// it is alive.
export const MODE_SERVE = 1
/**
 * Serves on for the moment in which questions still come because we said that we are there. Then
 * reads nothing new, answers what is in hand, and is STATE_DRAINED.
 */
export const MODE_DRAIN = 2

export const PEER_NONE = 0
/** Is to be told what is learned. */
export const PEER_LINKED = 1
/** And reads the sockets: we are the second reader of them. */
export const PEER_READING = 2

export const STATE_HOLDING = 0
export const STATE_SERVING = 1
/** Stood still too long; waits for BACK. */
export const STATE_AWAY = 2
export const STATE_DRAINING = 3
export const STATE_DRAINED = 4

/** How often the loop says that it is alive, which lasts for ALIVE_MS (datapath/driver.ts). */
export const ALIVE_EVERY_MS = 50
/** The longest sleep of the loop: signals, exits and swallowed wake-ups wait no longer … */
export const SLEEP_MS = 20
/** … but for this when nothing has come for IDLE_AFTER_MS: a waking costs 0.1 ms of processor. */
export const SLEEP_IDLE_MS = ALIVE_EVERY_MS
export const IDLE_AFTER_MS = 1000
/** How often the main thread looks while nothing wakes it, and the worker reports … */
export const MAIN_LOOK_MS = 500
export const WORKER_REPORT_MS = 100
/** … while nothing has come for IDLE_AFTER_MS. */
export const WORKER_REPORT_IDLE_MS = MAIN_LOOK_MS
/** A thread that is silent for this long while the other runs ends the process. */
export const SILENT_MS = 2000
/** Until its first beat: loading code on a node that starts everything at once takes a while. */
const SILENT_AT_START_MS = 30_000

/**
 * Judges whether another thread still runs, by its beat and by one's own running time: while the
 * whole process was stopped nobody is to blame.
 */
export class Watchdog {
  readonly #words: Int32Array
  readonly #word: number
  readonly #lookEveryMs: number
  #beat = 0
  #silentMs = 0
  #lookedMs = 0

  /** @param lookEveryMs  how often `look` is called: more than that is not one's running time */
  constructor(words: Int32Array, word: number, lookEveryMs: number, nowMs: number) {
    this.#words = words
    this.#word = word
    this.#lookEveryMs = lookEveryMs
    this.#lookedMs = nowMs
  }

  /** False when the other was silent for too long. */
  look(nowMs: number): boolean {
    const beat = Atomics.load(this.#words, this.#word)
    const passedMs = nowMs - this.#lookedMs
    this.#lookedMs = nowMs
    if (beat !== this.#beat) {
      this.#beat = beat
      this.#silentMs = 0
      return true
    }
    this.#silentMs += passedMs < this.#lookEveryMs ? passedMs : this.#lookEveryMs
    return this.#silentMs < (beat === 0 ? SILENT_AT_START_MS : SILENT_MS)
  }
}
