/**
 * What a datapath is: the part that makes the kernel equal to a ruleset.
 *
 * It has two sides. The *structure* (chains, rules, set definitions, revocation, reading back) is
 * changed by the main thread, a few times a second at most, through `Driver`. *Grants* are written
 * by the worker while it handles packets, through `GrantWriter`, and never wait.
 *
 * The drivers are folders beside this file; each passes datapath/conformance.ts.
 */
import type { Ruleset } from '../grant/ruleset.ts'

/** How long one refresh speaks for its worker, which sends one every 50 ms. */
export const ALIVE_MS = 150

export interface Driver {
  /**
   * Makes the kernel equal to `ruleset`. Grants that both the old and the new one have room for stay.
   *
   * After a loss (`verify` did not say 'same', `GrantWriter.refreshAlive` said false) the caller
   * first makes its worker forget the grants that it remembers, and only then applies: from the
   * moment that the table is back nothing shows that it was away, and an answer from the cache
   * would leave on a grant that went with the old one. Every process does so for itself; whose
   * worker hears nothing notices at its next refresh.
   */
  apply(ruleset: Ruleset): Promise<void>
  /** What the kernel holds of the ruleset's structure: 'same', or what differs, in words. */
  verify(ruleset: Ruleset): Promise<'same' | string>
  /** Every grant in force, in no order. */
  readGrants(): Promise<GrantEntry[]>
  /** Places of the processes whose workers may write grants now: their alive elements stand. */
  readAlive(): Promise<number[]>
  /**
   * Takes grants back at once, each out of the one set that it was read from, and breaks what flows
   * through them. Those that have ended meanwhile are no fault.
   */
  revoke(grants: readonly GrantEntry[]): Promise<void>
  /** Removes every trace of ours. */
  remove(): Promise<void>
}

export interface GrantEntry {
  /** Canonical text (RFC 5952). */
  readonly client: string
  readonly address: string
  /** PortSet.id. */
  readonly portSet: string
  /** Of TIMEOUT_CLASS_SECONDS: with address family and port set, which kernel set it lies in. */
  readonly timeoutSeconds: number
  /** Milliseconds until the kernel forgets it. */
  readonly remainingMs: number
}

/**
 * Writes grants from the worker's loop. One batch is open at a time: `push` up to `capacity`
 * grants, `flush` once, then ask `isInForce` for each. A grant that is not in force after `flush`
 * is not in the kernel: its answer must not leave.
 */
export interface GrantWriter {
  readonly capacity: number
  /**
   * Adds one grant to the open batch; returns its index in the batch.
   * @param family  4 or 6; both addresses are of it, 4 or 16 bytes at the offsets given
   * @param setPort  grant/timeout-class.ts
   */
  push(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    setPort: number,
  ): number
  /** Writes the batch; returns how many of it are not in force. The batch is then closed. */
  flush(): number
  /** Whether grant `index` of the batch flushed last is in the kernel. */
  isInForce(index: number): boolean
  /**
   * Nothing of ours judged the batch flushed last: our rules are gone, and with them maybe all
   * grants. (Not so when it was refused: a full set, or a worker that is late, says nothing about
   * the grants that are there.)
   */
  readonly isUnproven: boolean
  /**
   * Tells the kernel that this process's worker is alive, for the next ALIVE_MS. False: since the
   * last refresh the kernel did not hold our rules and sets all the time, or may not have; nor when
   * that refresh is too long ago, or this is the first. Grants that were in force may be gone, also
   * when everything stands again: remembered ones are to be forgotten.
   * @param isLeaving  the worker finishes what it has: its grants count, its connections are its
   *   own, but nobody's questions are intercepted for its sake any more. Those of ungoverned clients
   *   go on to the cluster's DNS ALIVE_MS after the last refresh of any worker that stays.
   */
  refreshAlive(isLeaving?: boolean): boolean
}
