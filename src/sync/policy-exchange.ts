/**
 * Whose policy is newer, and how it gets from one process to the other.
 *
 * A policy is a revision and a text that is not looked at. The higher revision wins. The same
 * revision with another text should not exist; if it does (a process that had lost its disk could
 * not ask anybody), the agent's wins, because two processes must never both think that they agree
 * while they enforce different things.
 *
 * What must stay true: a revision is told as held only when it is in force; one text at a time is
 * being enforced, and of those that arrive meanwhile only the newest is kept; of a text that
 * arrives in pieces no more is kept than came.
 *
 * Used by link.ts, which sends what this says is due.
 */
import { hash } from 'node:crypto'
import { AssertionFailure, assert } from '../assert.ts'
import type { Repeats } from '../log.ts'
import type { PeerHandlers, PolicyText, Role } from './peer.ts'
import { POLICY_BYTES_MAX, type PolicyChunk, textOf } from './protocol.ts'

/** How long after a policy could not be enforced it is tried again. */
const RETRY_MS = 1000

/** A policy by name: revision 0 and '' for none. */
export interface PolicyStamp {
  readonly revision: number
  /** SHA-256 of the text, hexadecimal. */
  readonly digest: string
}

export type StampedPolicy = PolicyText & PolicyStamp

const NOTHING: PolicyStamp = { revision: 0, digest: '' }

export type ExchangeHandlers = Pick<PeerHandlers, 'snapshot' | 'takeSnapshot'>

export class PolicyExchange {
  readonly #role: Role
  readonly #handlers: ExchangeHandlers
  readonly #repeats: Repeats
  /** Called when a policy of the peer has come into force: it wants to know. */
  readonly #enforced: () => void
  #held: StampedPolicy | null = null
  /** Of this process, perhaps not yet in force here; until `snapshot` gives it or a newer one. */
  #announced: StampedPolicy | null = null
  /** Of the peer: being enforced, and the newest that came meanwhile. */
  #taking: StampedPolicy | null = null
  #next: StampedPolicy | null = null
  #arriving: { readonly chunk: PolicyChunk; readonly pieces: Uint8Array[]; bytes: number } | null =
    null
  #settled: (() => void)[] = []
  #isClosed = false
  #wakeEarly: (() => void) | null = null

  constructor(role: Role, handlers: ExchangeHandlers, repeats: Repeats, enforced: () => void) {
    this.#role = role
    this.#handlers = handlers
    this.#repeats = repeats
    this.#enforced = enforced
  }

  /**
   * Asks what is in force here. (While a policy of the peer is being enforced that is what was in
   * force before, whatever the daemon says already.) Its text may be large: not for every beat.
   */
  refresh(): void {
    if (this.#taking !== null) return
    const current = this.#handlers.snapshot()
    if (current === null) this.#held = null
    else if (current.revision !== this.#held?.revision || current.text !== this.#held.text) {
      this.#held = stamp(current)
    }
    if (!isNewer(this.#announced, this.#held, 'agent')) this.#announced = null
  }

  /** What was in force when it was asked last. */
  get held(): PolicyStamp {
    return this.#held ?? NOTHING
  }

  /** Of that and what this process has announced. */
  get newest(): StampedPolicy | null {
    return this.#announced ?? this.#held
  }

  /** A policy of this process, which it enforces itself. */
  announce(policy: PolicyText): PolicyStamp {
    assert(policy.revision > 0 && policy.text.length > 0, 'a policy has a revision and a text')
    const announced = stamp(policy)
    assert(
      Buffer.byteLength(policy.text) <= POLICY_BYTES_MAX,
      'a snapshot fits into the table that is made of it',
    )
    this.#announced = announced
    this.refresh()
    return announced
  }

  /** The newest that we could send, if it is newer than the peer's. */
  dueTo(peer: PolicyStamp): StampedPolicy | null {
    const newest = this.newest
    return isNewer(newest, peer, this.#role) ? newest : null
  }

  /**
   * A piece of the peer's policy. 'unwanted': what is here, or on its way, is as new; 'malformed':
   * it does not follow what came before.
   */
  take(chunk: PolicyChunk, peerRole: Role): 'fine' | 'unwanted' | 'malformed' {
    const { digest, offset, bytes, textBytes } = chunk
    if (offset === 0) {
      this.#arriving = null
      if (!this.#isWanted(chunk, peerRole)) return 'unwanted'
      this.#arriving = { chunk: { ...chunk, bytes: new Uint8Array(0) }, pieces: [], bytes: 0 }
    }
    const arriving = this.#arriving
    if (arriving === null) return 'fine' // the rest of one that was not wanted
    const isNext = arriving.bytes === offset && arriving.chunk.textBytes === textBytes
    if (!isNext || arriving.chunk.digest !== digest) return 'malformed'
    arriving.pieces.push(bytes.slice())
    arriving.bytes += bytes.length
    if (arriving.bytes < textBytes) return 'fine'
    this.#arriving = null
    const whole = Buffer.concat(arriving.pieces)
    const text = textOf(whole)
    if (text === null || hash('sha256', whole) !== digest) return 'malformed'
    this.#next = { revision: arriving.chunk.revision, digest, text }
    if (this.#taking === null) void this.#enforce()
    else this.#wakeEarly?.()
    return 'fine'
  }

  /** The link has gone: the rest of what was arriving will not come. */
  unlinked(): void {
    this.#arriving = null
  }

  /** Resolves when everything that has arrived is in force. */
  async settled(): Promise<void> {
    if (this.#taking === null) return
    await new Promise<void>((resolve) => this.#settled.push(resolve))
  }

  close(): void {
    this.#isClosed = true
    this.#wakeEarly?.()
  }

  #isWanted(offered: PolicyStamp, peerRole: Role): boolean {
    this.refresh()
    const coming = this.#next ?? this.#taking
    return isNewer(offered, this.newest, peerRole) && isNewer(offered, coming, peerRole)
  }

  /** One after the other, the newest first, until nothing is left. */
  async #enforce(): Promise<void> {
    while (this.#next !== null && !this.#isClosed) {
      this.#taking = this.#next
      this.#next = null
      const taken = await this.#tryOnce(this.#taking)
      if (taken) {
        this.#held = this.#taking
        this.#taking = null
        this.refresh()
        this.#enforced()
      } else {
        // Tell nobody that it is held; and try the newest there is then.
        this.#next ??= this.#taking
        await this.#pause()
      }
    }
    this.#taking = null
    for (const resolve of this.#settled.splice(0)) resolve()
  }

  async #tryOnce({ revision, text }: StampedPolicy): Promise<boolean> {
    try {
      await this.#handlers.takeSnapshot(revision, text)
      return true
    } catch (error) {
      if (error instanceof AssertionFailure) throw error
      this.#repeats.warn(
        'take snapshot',
        { revision, error },
        "the peer's policy could not be enforced; it is tried again",
      )
      return false
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS)
      this.#wakeEarly = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/**
 * @param firstRole  whose `first` is, for two texts of one revision
 */
export function isNewer(
  first: PolicyStamp | null,
  second: PolicyStamp | null,
  firstRole: Role,
): boolean {
  if (first === null || first.revision === 0) return false
  if (second === null || first.revision !== second.revision) {
    return first.revision > (second?.revision ?? 0)
  }
  return firstRole === 'agent' && first.digest !== second.digest
}

function stamp(policy: PolicyText): StampedPolicy {
  const { revision, text } = policy
  return { revision, text, digest: hash('sha256', text) }
}
