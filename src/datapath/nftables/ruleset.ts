/**
 * Renders a ruleset as one nftables table, `inet namegate`, that an operator can read.
 *
 * driver.ts calls `renderTable`; plan.ts makes transactions from its parts. chains.ts,
 * interception.ts and own-node.ts hold the rules. What must stay true:
 * - Sets that hold grants are named by their content (port set, timeout class, family), so that a
 *   change of structure never makes them anew, and what lies in them stays.
 * - Everything follows from the ruleset alone: the same ruleset gives the same text.
 * - Timed sets that packets write are sized with headroom: expired elements count as full until the
 *   kernel collects them (an alive set of size 3 stayed closed for 0.66 s).
 * - Nothing here says `flags interval` for a set that packets write: those sets can't be dynamic.
 *
 * Source: nft(8); what was tried is said where it matters.
 */
import type { PlacedClient, Ruleset, UnplacedClient } from '../../grant/ruleset.ts'
import { TIMEOUT_CLASS_SECONDS, setPort } from '../../grant/timeout-class.ts'
import { renderChains } from './chains.ts'
import { TABLE, grantSetName, portsText, quoted } from './names.ts'
import type { RenderedChain } from './rules.ts'

/**
 * A revoked pair loses its shortcut for this long. A TCP flow whose server sends outlives the
 * deletion of grant and conntrack entry: the next segment makes a new entry, in which the client's
 * packets are replies (tried). After an hour both ends have long given up.
 */
export const REVOKED_SECONDS = 3600
const REVOKED_MAX = 65536
const ALIVE_MAX = 1024

export interface RenderedTable {
  readonly sets: readonly RenderedSet[]
  readonly chains: readonly RenderedChain[]
}

export interface RenderedSet {
  readonly kind: 'set' | 'map'
  readonly name: string
  /** What stands between the braces, without the elements. */
  readonly definition: string
  /** Ours to fill; empty for those that packets fill. */
  readonly elements: readonly string[]
  /** Packets or revocations write it: its elements are no part of the structure. */
  readonly isLive: boolean
}

export function renderTable(ruleset: Ruleset): RenderedTable {
  return {
    sets: [
      ...livenessSets(),
      ...clientSets(ruleset),
      ...serverSets(ruleset),
      ...revokedSets(),
      ...grantSets(ruleset),
      writersMap(ruleset),
    ],
    chains: renderChains(ruleset),
  }
}

/** The whole table as a file that `nft -f` takes; for people and for the golden file. */
export function formatTable(table: RenderedTable): string {
  const lines = [`table inet ${TABLE} {`]
  for (const set of table.sets) {
    lines.push(`\t${set.kind} ${set.name} {`)
    for (const part of set.definition.split('; ')) lines.push(`\t\t${part.replace(/;$/, '')}`)
    if (set.elements.length > 0) {
      lines.push('\t\telements = {', ...set.elements.map((element) => `\t\t\t${element},`), '\t\t}')
    }
    lines.push('\t}', '')
  }
  for (const chain of table.chains) {
    lines.push(`\tchain ${chain.name} {`)
    if (chain.comment !== '') lines.push(`\t\tcomment ${quoted(chain.comment)}`)
    if (chain.hook !== '') lines.push(`\t\t${chain.hook}`)
    lines.push(...chain.rules.map((rule) => `\t\t${rule}`), '\t}', '')
  }
  lines[lines.length - 1] = '}'
  return `${lines.join('\n')}\n`
}

/** Who is alive: by place, by owner's mark, and anybody at all. Written by packets. */
function livenessSets(): RenderedSet[] {
  const size = `size ${ALIVE_MAX}`
  return [
    live(
      'alive',
      `type inet_service; flags dynamic,timeout; ${size}`,
      'places whose worker said so',
    ),
    live(
      'owners',
      `type mark; flags dynamic,timeout; ${size}`,
      'marks of the TCP connections of alive places',
    ),
    live(
      'anybody',
      `type mark; flags dynamic,timeout; ${size}`,
      'holds 0 while any place is alive',
    ),
  ]
}

/**
 * Clients by interface and source. `governed` and `ungoverned` decide about interception,
 * `clients` about everything else; a map to verdicts would serve only one of the hooks.
 * `governed_addresses` are told from those that pass as them on another link.
 */
function clientSets(ruleset: Ruleset): RenderedSet[] {
  const sets: RenderedSet[] = []
  for (const family of [4, 6] as const) {
    const type = `type ifname . ipv${family}_addr`
    const mine = ruleset.clients.filter((client) => familyOf(client.address) === family)
    const governed = mine.filter((client) => client.subject !== null)
    const ungoverned = mine.filter((client) => client.subject === null)
    sets.push(
      fixed('set', `governed_v${family}`, type, governed.map(clientKey)),
      fixed(
        'set',
        `governed_addresses_v${family}`,
        `type ipv${family}_addr`,
        governed.map(addressKey),
      ),
      fixed('set', `ungoverned_v${family}`, type, ungoverned.map(clientKey)),
      fixed('map', `clients_v${family}`, `${type} : verdict`, mine.map(clientVerdict)),
      fixed('set', `unplaced_v${family}`, `type ipv${family}_addr`, unplaced(ruleset, family)),
    )
  }
  const interfaces = ruleset.clients
    .filter((client) => client.subject !== null)
    .map((client) => `"${client.interface}"`)
  sets.push(fixed('set', 'governed_interfaces', 'type ifname', [...new Set(interfaces)]))
  return sets
}

function serverSets(ruleset: Ruleset): RenderedSet[] {
  return ([4, 6] as const).flatMap((family) =>
    (['servers', 'listen'] as const).map((name) => {
      const mine = ruleset[name].filter((address) => familyOf(address) === family)
      return fixed('set', `${name}_v${family}`, `type ipv${family}_addr`, mine)
    }),
  )
}

function revokedSets(): RenderedSet[] {
  return ([4, 6] as const).map((family) =>
    live(
      `revoked_v${family}`,
      `${pairType(family)}; flags timeout; timeout ${REVOKED_SECONDS}s; size ${REVOKED_MAX}`,
      'client and address, judged afresh for an hour',
    ),
  )
}

function grantSets(ruleset: Ruleset): RenderedSet[] {
  return ruleset.portSets.flatMap((portSet) =>
    TIMEOUT_CLASS_SECONDS.flatMap((seconds) =>
      ([4, 6] as const).map((family) =>
        live(
          grantSetName(portSet.id, seconds, family),
          `${pairType(family)}; flags dynamic,timeout; timeout ${seconds}s; size ${ruleset.grantsMax}`,
          `client and address: ${portsText(portSet.ports)}`,
        ),
      ),
    ),
  )
}

/** Which set a packet writes: its UDP destination port says so (grant/timeout-class.ts). */
function writersMap(ruleset: Ruleset): RenderedSet {
  const elements = ruleset.portSets.flatMap((portSet) =>
    TIMEOUT_CLASS_SECONDS.map((seconds, classIndex) => {
      const port = setPort(portSet.number, classIndex)
      return `${port} : jump write_${portSet.id}_${seconds}`
    }),
  )
  return fixed('map', 'writers', 'type inet_service : verdict', elements)
}

function clientKey(client: PlacedClient): string {
  return `"${client.interface}" . ${addressKey(client)}`
}

function addressKey(client: PlacedClient | UnplacedClient): string {
  return `${client.address} comment ${quoted(client.name)}`
}

function clientVerdict(client: PlacedClient): string {
  const verdict = client.subject === null ? 'accept' : `goto subject_${client.subject}`
  return `${clientKey(client)} : ${verdict}`
}

function unplaced(ruleset: Ruleset, family: 4 | 6): string[] {
  const byAddress = new Map<string, UnplacedClient>()
  for (const client of ruleset.unplaced) {
    if (familyOf(client.address) === family) byAddress.set(client.address, client)
  }
  return [...byAddress.values()].map(addressKey)
}

function pairType(family: 4 | 6): string {
  return `type ipv${family}_addr . ipv${family}_addr`
}

function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4
}

function live(name: string, definition: string, comment: string): RenderedSet {
  const whole = `${definition}; comment ${quoted(comment)}`
  return { kind: 'set', name, definition: whole, elements: [], isLive: true }
}

function fixed(
  kind: 'set' | 'map',
  name: string,
  definition: string,
  elements: readonly string[],
): RenderedSet {
  return { kind, name, definition, elements, isLive: false }
}
