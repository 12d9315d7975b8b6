/**
 * The one set of sockets as this process holds it: taken from the peer when it has some, made here
 * when nobody does, and exchanged for a later generation whenever one comes (ADR 003).
 *
 * What must stay true: a socket that comes in is either in the set or closed; the former set is
 * closed only when the worker reads the later one.
 */
import { closeSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config/load.ts'
import { lockFile } from '../linux/process.ts'
import type { Log } from '../log.ts'
import type { PeerLink } from '../sync/link.ts'
import type { CatchUpOutcome, SocketSet } from '../sync/peer.ts'
import { closeSockets, openPlainSockets, openTransparentSockets } from './sockets.ts'
import { StartError } from './start-error.ts'
import { marksOf } from './structure.ts'

/** How long the other process may take to make the sockets. */
const LOCK_MS = 5000
const LOCK_LOOK_MS = 50

export interface SharedSocketsOptions {
  readonly config: Config
  readonly log: Log
  /** Has the worker read from the set, and from no other. */
  readonly read: (set: SocketSet) => Promise<void>
  /** Has the kernel steer to it. */
  readonly steer: (set: SocketSet) => Promise<void>
}

export class SharedSockets {
  readonly #options: SharedSocketsOptions
  #set: SocketSet | null = null

  constructor(options: SharedSocketsOptions) {
    this.#options = options
  }

  /** null until there are any. */
  get set(): SocketSet | null {
    return this.#set
  }

  /**
   * Makes a set if there is none. Two processes that begin at once must not both make one: a lock
   * decides who does. Throws StartError or SocketError.
   */
  async obtain(link: PeerLink): Promise<void> {
    if (this.#set !== null) return
    const file = path.join(this.#options.config.run, 'sockets.lock')
    let lock = lockFile(file)
    for (let waitedMs = 0; lock === null && waitedMs < LOCK_MS; waitedMs += LOCK_LOOK_MS) {
      await sleep(LOCK_LOOK_MS)
      lock = lockFile(file)
    }
    try {
      const outcome = await link.catchUp({ want: 'changes' })
      if (this.#set !== null) return
      this.#set = this.#open(outcome, link.peer?.generation ?? 0)
      link.announceSockets()
    } finally {
      // Not taken in all that time: its holder was stopped, and is mute to us.
      if (lock !== null) closeSync(lock)
    }
  }

  /** Takes the peer's, whose descriptors are ours from then on; those of an older set are closed. */
  take(set: SocketSet): void {
    const { config, log } = this.#options
    const former = this.#set
    const isIntercepting = set.addresses.v4 !== null || set.addresses.v6 !== null
    if (isIntercepting !== (config.intercept !== null)) {
      log.error({}, 'the peer runs with another `intercept`: its sockets are of no use here')
      closeSockets(set.sockets)
      return
    }
    if (former !== null && former.generation >= set.generation) {
      closeSockets(set.sockets)
      return
    }
    this.#set = set
    log.info({ generation: set.generation }, 'sockets taken from the peer')
    if (former !== null) void this.#exchange(former, set)
  }

  /** Our copies; the peer's go on. Only when the worker has ended. */
  close(): void {
    if (this.#set !== null) closeSockets(this.#set.sockets)
  }

  #open(outcome: CatchUpOutcome, knownGeneration: number): SocketSet {
    const { listen, intercept } = this.#options.config
    if (intercept !== null) {
      return openTransparentSockets(Math.max(knownGeneration, 0), marksOf(intercept).own)
    }
    if (outcome !== 'mute') return openPlainSockets(listen.addresses, listen.port)
    throw new StartError(
      'take the sockets of the running process: it did not answer within 1 s; ' +
        'end it (kill -9), it is stopped or hung',
    )
  }

  /**
   * The peer reads the later set. So the kernel is steered to it first, at once, while we go on
   * reading the former: whatever has the kernel's rules repaired meanwhile wants the later one, too.
   */
  async #exchange(former: SocketSet, set: SocketSet): Promise<void> {
    // The structure is looked at every second, and steered again then.
    await this.#options.steer(set).catch((error: unknown) => this.#notYet(error as Error))
    try {
      await this.#options.read(set)
      closeSockets(former.sockets)
    } catch (error) {
      this.#notYet(error as Error)
    }
  }

  #notYet(error: Error): void {
    this.#options.log.error({ error: error.message }, 'new sockets are not in use yet')
  }
}
