/**
 * The kernel's structure, kept as the snapshot wants it: applied when policy or sockets change,
 * looked at every second, repaired when somebody has changed it. By one process at a time: the
 * agent while it is alive, else the proxy (`isOwner`).
 *
 * What must stay true: when the kernel may have lost grants (a flush, a table made anew), the
 * workers hear of it before the next answer relies on one (`onGrantsLost`).
 */
import { existsSync } from 'node:fs'
import type { InterceptConfig } from '../config/load.ts'
import type { Driver, GrantEntry } from '../datapath/driver.ts'
import { runToolForOutput } from '../datapath/nftables/tool.ts'
import {
  compileMarks,
  compileRuleset,
  type Endpoint,
  type Facts,
  type Ruleset,
} from '../grant/ruleset.ts'
import { lookEvery } from '../linux/looks.ts'
import { NetworkChanges } from '../linux/network-changes.ts'
import type { Log } from '../log.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import type { SocketSet } from '../sync/peer.ts'
import { fallThroughOf } from './endpoints.ts'

/** Places of the processes that write grants; an upgrade may use the third. */
export const PLACES = { agent: 1, proxy: 2 } as const
const PLACES_KNOWN = [1, 2, 3]

const LOOK_MS = 1000
const ROUTE_MS = 5000
/** Of one set: one port set, one timeout class, one family. */
const GRANTS_MAX = 65_536

export interface StructureOptions {
  readonly driver: Driver
  readonly intercept: InterceptConfig
  readonly listen: readonly string[]
  /** Who is asked for names of no other zone, now. */
  readonly rootServers: () => readonly Endpoint[]
  readonly log: Log
  readonly isOwner: () => boolean
  /** The kernel's grants may be gone. */
  readonly onGrantsLost: () => void
  /** Asks the peer what changed; when it resolves, that is wanted here too. */
  readonly catchUp: () => Promise<unknown>
}

export type StructureState = 'unknown' | 'same' | 'differs'

/** NFLOG group of a place: one listener a group. */
export function nflogGroup(intercept: InterceptConfig, place: number): number {
  return (intercept.routingTable + place) & 0xffff || 1
}

/** Mark values, for the sockets and the worker. */
export function marksOf(intercept: InterceptConfig): Ruleset['marks'] {
  return compileMarks(intercept.mark)
}

interface Wanted {
  readonly snapshot: Snapshot
  readonly sockets: SocketSet
}

export class Structure {
  readonly #options: StructureOptions
  #wanted: Wanted | null = null
  readonly #changes = new NetworkChanges()
  #ruleset: Ruleset | null = null
  /** What it was compiled for. */
  #compiled: Wanted | null = null
  #state: StructureState = 'unknown'
  #detail = ''
  #last: Promise<unknown> = Promise.resolve()
  #looks: Disposable | null = null
  #isKeeping = false
  /** What was said of where our addresses lead without us. */
  #saidEndpoints = ''

  constructor(options: StructureOptions) {
    this.#options = options
  }

  get state(): StructureState {
    return this.#state
  }

  /** What differs, or why it could not be applied. */
  get detail(): string {
    return this.#detail
  }

  /** Governed clients that the kernel can't tell apart: closed, and to be shown. */
  get unplaced(): Ruleset['unplaced'] {
    return this.#ruleset?.unplaced ?? []
  }

  /** Makes the kernel so, if it is ours to make. Rejects when it could not be done. */
  apply(snapshot: Snapshot, sockets: SocketSet): Promise<void> {
    this.#wanted = { snapshot, sockets }
    return this.#inTurn(() => this.#apply())
  }

  /** From now on it is looked after. */
  watch(): void {
    this.#looks = lookEvery(LOOK_MS, () => void this.#keep())
  }

  readGrants(): Promise<GrantEntry[]> {
    return this.#options.driver.readGrants()
  }

  /** Whether the kernel still takes grants from that place. */
  async isAlive(place: number): Promise<boolean> {
    return (await this.#options.driver.readAlive()).includes(place)
  }

  revoke(grants: readonly GrantEntry[]): Promise<void> {
    return this.#options.driver.revoke(grants)
  }

  async close(): Promise<void> {
    this.#looks?.[Symbol.dispose]()
    this.#looks = null
    await this.#last.catch(() => {})
    this.#changes[Symbol.dispose]()
  }

  async #apply(): Promise<void> {
    const { driver, isOwner, log } = this.#options
    if (this.#wanted === null) return
    const ruleset = await this.#compile()
    if (!isOwner()) return
    const startedMs = performance.now()
    await driver.apply(ruleset)
    this.#state = 'same'
    this.#detail = ''
    log.info(
      {
        revision: this.#wanted.snapshot.revision,
        clients: ruleset.clients.length,
        subjects: ruleset.subjects.length,
        unplaced: ruleset.unplaced.length,
        tookMs: Math.round(performance.now() - startedMs),
      },
      'ruleset applied',
    )
  }

  /**
   * Looks, and repairs. Before a repair the peer is asked what changed: we may have stood still, and
   * what we want is then what others have replaced. Asked between turns, for what it tells is
   * applied in a turn of its own.
   */
  async #keep(): Promise<void> {
    if (this.#isKeeping) return
    this.#isKeeping = true
    try {
      const isRepairDue = await this.#inTurn(() => this.#look())
      if (isRepairDue) {
        await this.#options.catchUp()
        await this.#inTurn(() => this.#repair())
      }
    } catch (error) {
      this.#failed(error as Error)
    }
    this.#isKeeping = false
  }

  /** Clients come and go on their interfaces, and other people flush tables. */
  async #look(): Promise<boolean> {
    if (this.#wanted === null) return false
    const ruleset = await this.#compile()
    if (await this.#isInForce(ruleset)) return false
    // Whoever repairs it, what was lost with it is lost for us. And first of all: while it can't be
    // applied, no answer may lean on what was there before.
    this.#options.onGrantsLost()
    return this.#options.isOwner()
  }

  async #repair(): Promise<void> {
    const { driver, isOwner, log, onGrantsLost } = this.#options
    if (this.#looks === null) return
    const ruleset = await this.#compile()
    if ((await this.#isInForce(ruleset)) || !isOwner()) return
    log.warn(
      { difference: this.#detail },
      'the kernel does not hold the ruleset; it is applied again',
    )
    onGrantsLost()
    await driver.apply(ruleset)
    this.#state = 'same'
    this.#detail = ''
  }

  /** The same object as long as nothing has changed: the driver knows it again. */
  async #compile(): Promise<Ruleset> {
    const wanted = this.#wanted!
    const former = this.#saidEndpoints
    const endpoints = this.#endpoints(wanted.snapshot)
    const hasChanged = this.#changes.take() || former !== this.#saidEndpoints
    if (this.#ruleset !== null && this.#compiled === wanted && !hasChanged) return this.#ruleset
    this.#compiled = null
    this.#ruleset = compileRuleset(wanted.snapshot, await this.#facts(wanted, endpoints))
    this.#compiled = wanted
    return this.#ruleset
  }

  async #isInForce(ruleset: Ruleset): Promise<boolean> {
    const difference = await this.#options.driver.verify(ruleset)
    this.#state = difference === 'same' ? 'same' : 'differs'
    this.#detail = difference === 'same' ? '' : difference
    return difference === 'same'
  }

  #failed(error: Error): void {
    if (this.#detail !== error.message) {
      this.#options.log.error({ error: error.message }, 'the ruleset cannot be kept')
    }
    this.#state = 'unknown'
    this.#detail = error.message
  }

  async #facts(wanted: Wanted, endpoints: readonly Endpoint[]): Promise<Facts> {
    const { intercept, listen } = this.#options
    const { snapshot, sockets } = wanted
    return {
      interfaces: intercept.interfaces,
      mark: intercept.mark,
      routingTable: intercept.routingTable,
      rulePriority: intercept.rulePriority,
      listen,
      servers: intercept.servers,
      isNodeServed: intercept.node,
      endpoints,
      sockets: sockets.addresses,
      places: PLACES_KNOWN,
      interfaceOf: await interfacesOf(snapshot, intercept.interfaces),
      nflogGroups: [PLACES.agent, PLACES.proxy].map((place) => nflogGroup(intercept, place)),
      denyAction: 'drop',
      grantsMax: GRANTS_MAX,
    }
  }

  #endpoints({ places }: Snapshot): readonly Endpoint[] {
    const { intercept, listen, rootServers, log } = this.#options
    const { endpoints, assumed } = fallThroughOf(places, intercept.servers, rootServers(), listen)
    const said = JSON.stringify([endpoints, assumed])
    if (said === this.#saidEndpoints) return endpoints
    this.#saidEndpoints = said
    const texts = endpoints.map(({ address, port }) => `${address} ${port}`)
    log.info({ listen, endpoints: texts }, 'while nobody is alive, our addresses lead there')
    if (assumed.length > 0) {
      const advice = 'if one is a ClusterIP, give its Service and endpoints in clients.file'
      log.warn({ servers: assumed }, `no Service is known by these addresses: ${advice}`)
    }
    return endpoints
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step, step)
    this.#last = result.catch(() => {})
    return result
  }
}

/**
 * The node's end of the link of each client whose entry does not name it: where the kernel would
 * send a packet for it, if that is an interface that we intercept on and no bridge. (Pods of one
 * bridge reach each other without passing the forward hook: nothing there can be governed.)
 */
async function interfacesOf(
  snapshot: Snapshot,
  patterns: readonly string[],
): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const addresses = snapshot.clients
    .filter((client) => client.interface === null)
    .flatMap((client) => client.addresses)
  if (addresses.length === 0) return found
  const input = addresses.map((address) => `route get ${address}\n`).join('')
  // One line an address. With -force an unreachable one does not keep the others from being asked,
  // but ip then exits with 1 all the same: what it printed counts.
  const output = await runToolForOutput(
    ['ip', '-force', '-oneline', '-batch', '-'],
    input,
    ROUTE_MS,
  )
  for (const line of output.split('\n')) {
    const match = /^(?:\S+ )?([0-9a-f.:]+) (?:from \S+ )?(?:via \S+ )?dev (\S+)/.exec(line)
    if (match === null) continue
    const [, address = '', device = ''] = match
    const isOurs = patterns.some((pattern) => isInterface(pattern, device))
    if (isOurs && !existsSync(`/sys/class/net/${device}/bridge`)) found[address] = device
  }
  return found
}

/** 'veth*' stands for every name that begins so. */
function isInterface(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name
}
