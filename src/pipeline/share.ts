/**
 * Shares: what each client holds of that which all clients use, so that none can take it all.
 *
 * A *share* is a row in here, and stands for a client. Who is known to the policy table has one for
 * all its addresses, kept under the first of them, so that it outlives a change of the table. Anybody
 * else has one for each address and interface. The pipeline finds it for every query (limit.ts);
 * SlotTable takes and gives back.
 *
 * THE RULE: a client may hold as many as are left free. Alone it gets half of all, of two each gets
 * a third, of n each 1/(n+1), and whoever comes next finds as much free as any of them holds. So a
 * busy pod on an idle node is refused nothing that anybody else would need, nobody is starved, and
 * no number has to be chosen. (Switches share their buffers so: Choudhury and Hahne, "Dynamic queue
 * length thresholds for shared-memory packet switches", 1998, with α = 1.)
 *
 * Whoever forges source addresses is as many clients as it likes. The kernel lets nobody forge those
 * of a client that it can place; of the others, all that come by one interface hold together at most
 * LINK_PARTS times what is left free, which is seven eighths. So they never take the last eighth from
 * known clients and other interfaces. Those who share their interface with them are not protected:
 * nothing tells them apart. (TCP has no interface here, and needs none: its handshake proves the
 * address.)
 *
 * RATE: a client asks at most so many questions a second, one second's worth of them at once. For each
 * share a *due* time is kept, which every question moves on by its part of a second; when it lies
 * a second ahead the next question comes too soon. (ATM's "virtual scheduling", GCRA.) One number,
 * no timer, and a client that was silent starts anew by itself.
 *
 * GRANTS are bounded in the same way, for each timeout class apart: in the time that a grant of the class
 * lasts, as many new ones as one client may have; so there are never more than twice as many in force.
 * Nothing has to be counted down when they end.
 *
 * LAYOUT: three tables of rows, each a power of two; a row's *tag* is the hash of its key, 0 if it was
 * never used. A key lies in one of WINDOW rows from where its hash points, and a row that holds
 * nothing, and whose due times are over, can be another's. When all of the window are in use one of them serves two clients: that
 * is the bound on memory, and takes thousands of clients at a time to meet.
 */
import { assert } from '../assert.ts'
import { hashAddress } from '../identity/address.ts'
import { CLASS_COUNT, TIMEOUT_CLASS_SECONDS } from '../grant/timeout-class.ts'
import type { PolicyTable } from '../policy/table.ts'
import type { Arrival } from './arrival.ts'

export const NO_SHARE = -1

/** Rows for clients of the policy table: kubelets run 110 pods, some 250. */
const KNOWN_ROWS = 2048
const UNKNOWN_ROWS = 2048
const LINK_ROWS = 512
const KNOWN_AT = 0
const UNKNOWN_AT = KNOWN_AT + KNOWN_ROWS
const LINKS_AT = UNKNOWN_AT + UNKNOWN_ROWS
const ROWS = LINKS_AT + LINK_ROWS

/** How far ahead of time a client may be. */
const BURST_MS = 1000
/** Sums of fractions come out a little high. */
const ROUNDING_MS = 0.01

const WINDOW = 8
const LINK_PARTS = 7
/** So that a count fits its 16 bits. */
const HELD_MAX = 0xffff

export class ShareTable {
  readonly #seed: number
  readonly #tags = new Int32Array(ROWS)
  readonly #held = new Uint16Array(ROWS)
  readonly #dueMs = new Float64Array(ROWS)
  /** What one question costs; 0: there is no bound. */
  readonly #questionMs: number
  /** Of known clients; CLASS_COUNT each. */
  readonly #grantDueMs = new Float64Array(KNOWN_ROWS * CLASS_COUNT)
  readonly #grantsMax: number

  /**
   * @param options.seed  of the hashes: unknown outside, so that nobody can choose whom it shares
   *   its row with
   * @param options.queriesPerSecond  0: no bound
   * @param options.grantsMax  new grants of one client and class in the time that they last
   */
  constructor(options: { seed: number; queriesPerSecond: number; grantsMax: number }) {
    this.#seed = options.seed | 0
    this.#grantsMax = options.grantsMax
    this.#questionMs = options.queriesPerSecond === 0 ? 0 : 1000 / options.queriesPerSecond
  }

  /** Says in `arrival.share` and `arrival.link` under which rows this query counts. */
  find(arrival: Arrival, policy: PolicyTable, nowMs: number): void {
    const client = arrival.client
    if (client >= 0) {
      const family = policy.addressCount(client, 4) > 0 ? 4 : 6
      const hash = hashAddress(
        policy.bytes,
        policy.addressAt(client, family, 0),
        family,
        this.#seed,
      )
      arrival.share = this.#row(KNOWN_AT, KNOWN_ROWS - 1, hash, nowMs)
      arrival.link = NO_SHARE
      return
    }
    const link = arrival.interfaceIndex
    const seed = this.#seed ^ Math.imul(link, 0x9e3779b1)
    const hash = hashAddress(arrival.addresses, arrival.sourceAt, arrival.family, seed)
    arrival.share = this.#row(UNKNOWN_AT, UNKNOWN_ROWS - 1, hash, nowMs)
    arrival.link = this.#row(LINKS_AT, LINK_ROWS - 1, link + 1, nowMs)
  }

  /** 32 bits that stand for the client, for longer than the row is its own. */
  clientOf(share: number): number {
    return this.#tags[share]!
  }

  /** Counts one question of a client; false when it comes too soon after those before it. */
  pace(share: number, nowMs: number): boolean {
    if (this.#questionMs === 0) return true
    const dueMs = this.#dueMs[share]!
    const nextMs = (dueMs < nowMs ? nowMs : dueMs) + this.#questionMs
    if (nextMs > nowMs + BURST_MS + ROUNDING_MS) return false
    this.#dueMs[share] = nextMs
    return true
  }

  /**
   * Counts one new grant of a known client; false when it has as many as it may.
   * @param timeout  index of a timeout class
   */
  paceGrant(share: number, timeout: number, nowMs: number): boolean {
    assert(share < KNOWN_ROWS, 'grants are given to known clients')
    const at = share * CLASS_COUNT + timeout
    const lastsMs = TIMEOUT_CLASS_SECONDS[timeout]! * 1000
    const dueMs = this.#grantDueMs[at]!
    const nextMs = (dueMs < nowMs ? nowMs : dueMs) + lastsMs / this.#grantsMax
    if (nextMs > nowMs + lastsMs + ROUNDING_MS) return false
    this.#grantDueMs[at] = nextMs
    return true
  }

  /**
   * Takes one for a client, if it may have one more.
   * @param room  how many are free, this one included
   */
  take(share: number, link: number, room: number): boolean {
    const held = this.#held
    if (held[share]! >= room) return false
    if (link !== NO_SHARE) {
      if (held[link]! >= LINK_PARTS * room) return false
      held[link]!++
    }
    held[share]!++
    assert(held[share]! < HELD_MAX, 'what one client holds fits its count')
    return true
  }

  giveBack(share: number, link: number): void {
    assert(this.#held[share]! > 0, 'nobody gives back what it does not hold')
    this.#held[share]!--
    if (link !== NO_SHARE) this.#held[link]!--
  }

  /** The row of a key: the one that has its tag, else one that holds nothing, else the first. */
  #row(tableAt: number, mask: number, hash: number, nowMs: number): number {
    const tags = this.#tags
    const tag = hash === 0 ? 1 : hash
    for (let step = 0; step < WINDOW; step++) {
      const row = tableAt + ((hash + step) & mask)
      if (tags[row] === tag) return row
    }
    for (let step = 0; step < WINDOW; step++) {
      const row = tableAt + ((hash + step) & mask)
      if (!this.#isAtRest(row, nowMs)) continue
      tags[row] = tag
      return row
    }
    return tableAt + (hash & mask)
  }

  /** Whether nothing would be forgotten of its client if the row were another's. */
  #isAtRest(row: number, nowMs: number): boolean {
    if (this.#held[row] !== 0 || this.#dueMs[row]! > nowMs) return false
    if (row >= KNOWN_ROWS) return true
    const end = (row + 1) * CLASS_COUNT
    for (let at = end - CLASS_COUNT; at < end; at++) {
      if (this.#grantDueMs[at]! > nowMs) return false
    }
    return true
  }
}
