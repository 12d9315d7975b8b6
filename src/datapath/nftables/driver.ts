/**
 * The nftables driver: makes the kernel equal to a ruleset, by nft for rules and sets and by ip for
 * what stands outside (routing.ts).
 *
 * The main thread of the process that owns the structure uses it: the agent while it is alive, else
 * the proxy. Calls run one after the other, whoever made them. What must stay true:
 * - Rules change in one transaction. When it fails everything is as before, and the error says so.
 * - What carries marks comes before what asks for them, and goes after (planRouting).
 * - Nothing is written when nothing changes: every commit makes other users of nftables start
 *   their reading anew.
 * - `remove` needs to know no configuration: everything of ours is tagged.
 *
 * Grants are not written here but by the worker, as packets (writer.ts).
 */
import type { Ruleset } from '../../grant/ruleset.ts'
import { parseAddress } from '../../identity/address.ts'
import { NETLINK_NETFILTER, NetlinkSocket, nftGeneration } from '../../linux/netlink.ts'
import { NetworkChanges } from '../../linux/network-changes.ts'
import type { Driver, GrantEntry } from '../driver.ts'
import { type AddressPair, deleteConnections } from './conntrack.ts'
import { readElements } from './elements.ts'
import { TABLE } from './names.ts'
import { ABOUT_CHAIN, planAbout, planTable } from './plan.ts'
import { type ObservedTable, digestOf, readGrantSet, readGrants, readTable } from './reader.ts'
import { pairText, pairsBySet, planDelete, planRevoked } from './revoke.ts'
import {
  type Family,
  type RoutingPlan,
  applyRouting,
  canGuard,
  compareRouting,
  desiredRouting,
  planRouting,
  readRouting,
  removeGuards,
  removeRouting,
} from './routing.ts'
import { type RenderedTable, renderTable } from './ruleset.ts'
import { DEFAULT_TOOLS, type Tools, NftError, runTool } from './tool.ts'

/** What we know for certain to be in the kernel, as long as its fingerprint stays the same. */
interface Known {
  /** Of which the table was rendered. */
  readonly ruleset: Ruleset
  readonly table: RenderedTable
  readonly digest: string
  readonly fingerprint: string
  /** Of the namespace's rules when that was checked; a commit by anybody makes another. */
  readonly generation: number
}

const FAMILIES: readonly Family[] = [4, 6]

/** A revocation fails when one of its grants ends while it is committed and its set is full. */
const REVOKE_ATTEMPTS_MAX = 3

export class NftablesDriver implements Driver, Disposable {
  readonly #tools: Tools
  readonly #netlink: NetlinkSocket
  #known: Known | null = null
  readonly #changes: NetworkChanges
  /** The ruleset whose routing was last found in the kernel; null: look again. */
  #routed: Ruleset | null = null
  #hasGuard: boolean | null = null
  #last: Promise<unknown> = Promise.resolve()

  /** Throws SocketError when netlink can't be opened. Needs CAP_NET_ADMIN, nft and ip. */
  constructor(tools: Tools = DEFAULT_TOOLS) {
    this.#tools = tools
    this.#netlink = new NetlinkSocket(NETLINK_NETFILTER)
    this.#changes = new NetworkChanges()
  }

  apply(ruleset: Ruleset): Promise<void> {
    return this.#inTurn(async () => {
      const plans = await this.#planRouting(ruleset)
      for (const [family, plan] of plans) {
        await applyRouting(this.#tools, family, plan.before, 'apply routing rules')
        await removeGuards(this.#tools, family, plan.guardsGone)
      }
      await this.#applyTable(ruleset)
      for (const [family, plan] of plans) {
        await applyRouting(this.#tools, family, plan.after, 'apply routing rules')
      }
    })
  }

  verify(ruleset: Ruleset): Promise<'same' | string> {
    return this.#inTurn(async () => {
      const table = await this.#verifyTable(ruleset)
      const differences = table === '' ? [] : [table]
      differences.push(...(await this.#verifyRouting(ruleset)))
      return differences.length === 0 ? 'same' : differences.join('; ')
    })
  }

  readGrants(): Promise<GrantEntry[]> {
    return this.#inTurn(() => readGrants(this.#tools, this.#netlink))
  }

  readAlive(): Promise<number[]> {
    return this.#inTurn(async () =>
      // The key is a port: two bytes in network order, padded to four.
      readElements(this.#netlink, 'alive').map(({ key }) => (key[0]! << 8) | key[1]!),
    )
  }

  revoke(grants: readonly GrantEntry[]): Promise<void> {
    return this.#inTurn(async () => {
      if (grants.length === 0 || (await readTable(this.#tools, this.#netlink)) === null) return
      await this.#deleteGrants(grants)
      try {
        await this.#commit('revoke open connections', planRevoked(grants))
      } finally {
        await deleteConnections(grants.flatMap(pairOf))
      }
    })
  }

  remove(): Promise<void> {
    return this.#inTurn(async () => {
      this.#known = null
      const hasGuard = await this.#canGuard()
      for (const family of FAMILIES) await removeRouting(this.#tools, family, hasGuard)
      // Adding first: deleting works whether or not it was there.
      await this.#commit('remove the table', [
        `add table inet ${TABLE}`,
        `delete table inet ${TABLE}`,
      ])
    })
  }

  [Symbol.dispose](): void {
    this.#changes[Symbol.dispose]()
    this.#netlink[Symbol.dispose]()
  }

  async #applyTable(ruleset: Ruleset): Promise<void> {
    const observed = await readTable(this.#tools, this.#netlink)
    const table = renderTable(ruleset)
    const digest = digestOf(table)
    const known = this.#knownOf(observed, table, digest)
    const lines = planTable(observed, known, table)
    if (lines.length === 0 && observed !== null) {
      this.#know(ruleset, table, digest, observed)
      return
    }
    await this.#commit('apply the ruleset', lines)
    const written = await readTable(this.#tools, this.#netlink)
    if (written === null) throw new NftError('lost', 'apply the ruleset: the table is gone again')
    const isNew = !written.chains.has(ABOUT_CHAIN)
    const about = aboutText(digest, written.fingerprint)
    await this.#commit('apply the ruleset', planAbout(isNew, about))
    this.#know(ruleset, table, digest, written)
  }

  /** What is in the kernel, if it is certain: we wrote it, or its mark says that this was written. */
  #knownOf(
    observed: ObservedTable | null,
    table: RenderedTable,
    digest: string,
  ): RenderedTable | null {
    if (observed === null) return null
    if (observed.about === aboutText(digest, observed.fingerprint)) return table
    const known = this.#known
    return known !== null && known.fingerprint === observed.fingerprint ? known.table : null
  }

  #know(ruleset: Ruleset, table: RenderedTable, digest: string, observed: ObservedTable): void {
    // The generation is read after what it vouches for: a commit in between makes it a later one
    // than was checked, so it counts only when the next verify has looked once.
    const { fingerprint } = observed
    this.#known = { ruleset, table, digest, fingerprint, generation: -1 }
  }

  async #verifyTable(ruleset: Ruleset): Promise<string> {
    const generation = nftGeneration(this.#netlink)
    const known = this.#known
    const isChecked = generation >= 0 && known?.generation === generation
    if (isChecked && known.ruleset === ruleset) return ''
    const table = renderTable(ruleset)
    const digest = digestOf(table)
    if (isChecked && known.digest === digest) {
      this.#known = { ...known, ruleset }
      return ''
    }
    const observed = await readTable(this.#tools, this.#netlink)
    if (observed === null) return `table inet ${TABLE} is missing`
    if (observed.about === aboutText(digest, observed.fingerprint)) {
      const { fingerprint } = observed
      this.#known = { ruleset, table, digest, fingerprint, generation }
      return ''
    }
    return describe(observed, table)
  }

  async #verifyRouting(ruleset: Ruleset): Promise<string[]> {
    const hasChanged = this.#changes.take()
    if (!hasChanged && this.#routed === ruleset) return []
    this.#routed = null
    const hasGuard = await this.#canGuard()
    const differences: string[] = []
    for (const family of FAMILIES) {
      const present = await readRouting(this.#tools, family, hasGuard)
      const text = compareRouting(present, desiredRouting(ruleset, family), family)
      if (text !== '') differences.push(text)
    }
    if (differences.length === 0) this.#routed = ruleset
    return differences
  }

  #canGuard(): Promise<boolean> {
    if (this.#hasGuard !== null) return Promise.resolve(this.#hasGuard)
    return canGuard(this.#tools).then((hasGuard) => (this.#hasGuard = hasGuard))
  }

  async #planRouting(ruleset: Ruleset): Promise<[Family, RoutingPlan][]> {
    const hasGuard = await this.#canGuard()
    const plans: [Family, RoutingPlan][] = []
    for (const family of FAMILIES) {
      const present = await readRouting(this.#tools, family, hasGuard)
      plans.push([family, planRouting(present, desiredRouting(ruleset, family), family)])
    }
    return plans
  }

  async #commit(tried: string, lines: readonly string[]): Promise<void> {
    const { nft, timeoutMs } = this.#tools
    await runTool(nft, ['-f', '-'], `${lines.join('\n')}\n`, tried, timeoutMs)
  }

  async #deleteGrants(grants: readonly GrantEntry[]): Promise<void> {
    const sets = pairsBySet(grants)
    for (let attempt = 1; ; attempt++) {
      const isLast = attempt === REVOKE_ATTEMPTS_MAX
      const lines = [...sets].flatMap(([set, pairs]) =>
        planDelete(set, pairs, this.#held(set), isLast),
      )
      if (lines.length === 0) return
      try {
        return await this.#commit('revoke grants', lines)
      } catch (error) {
        if (isLast || !(error instanceof NftError) || error.code !== 'failed') throw error
      }
    }
  }

  /** What a set of grants holds: pair → ms until it expires. */
  #held(set: string): Map<string, number> {
    const grants = readGrantSet(this.#netlink, set)
    return new Map(
      grants.map((grant) => [pairText(grant.client, grant.address), grant.remainingMs]),
    )
  }

  /** One call after the other: each plans from what the kernel holds and must not be overtaken. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => {})
    return result
  }
}

function pairOf(grant: GrantEntry): AddressPair[] {
  const client = parseAddress(grant.client)
  const address = parseAddress(grant.address)
  return client === null || address === null ? [] : [{ client, address }]
}

function aboutText(digest: string, fingerprint: string): string {
  return `written ${digest}, listed ${fingerprint}`
}

function describe(observed: ObservedTable, table: RenderedTable): string {
  for (const chain of table.chains) {
    if (!observed.chains.has(chain.name)) return `chain ${chain.name} is missing`
  }
  for (const set of table.sets) {
    if (!observed.sets.has(set.name)) return `${set.kind} ${set.name} is missing`
  }
  return 'rules or elements are not those that we wrote'
}
