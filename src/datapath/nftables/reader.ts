/**
 * Reads the table back: its structure for comparison, its grants for the peer and for people.
 *
 * Reading takes no lock that writers wait for. What must stay true: a set that goes while we read
 * is no error, for another process of ours may change the structure meanwhile.
 */
import { createHash } from 'node:crypto'
import { formatAddress } from '../../identity/address.ts'
import type { NetlinkSocket } from '../../linux/netlink.ts'
import type { GrantEntry } from '../driver.ts'
import { type SetElement, readElements } from './elements.ts'
import { TABLE, isLiveSet, parseGrantSetName } from './names.ts'
import { ABOUT_CHAIN, type PresentTable } from './plan.ts'
import type { RenderedTable } from './ruleset.ts'
import { type Tools, NftError, runTool } from './tool.ts'

/** The present table, and two words about what it holds. */
export interface ObservedTable extends PresentTable {
  /** Comment of the rule in the chain `about`; '' when it is not there. */
  readonly about: string
  /** Changes when rules, set definitions or elements of fixed sets change; not with grants. */
  readonly fingerprint: string
}

/** null: there is no table of ours. */
export async function readTable(
  tools: Tools,
  socket: NetlinkSocket,
): Promise<ObservedTable | null> {
  const objects = await listTable(tools)
  if (objects === null) return null
  const sets = new Map<string, 'set' | 'map'>()
  const chains = new Set<string>()
  let about = ''
  for (const object of objects) {
    if (object.set !== undefined) sets.set(object.set.name, 'set')
    if (object.map !== undefined) sets.set(object.map.name, 'map')
    if (object.chain !== undefined) chains.add(object.chain.name)
    if (object.rule?.chain === ABOUT_CHAIN) about = object.rule.comment ?? ''
  }
  const fixed = [...sets.keys()].filter((name) => !isLiveSet(name)).toSorted()
  const elements = fixed.map((name) => `${name}: ${elementsText(readElements(socket, name))}`)
  return { sets, chains, about, fingerprint: digest([structureText(objects), ...elements]) }
}

/** Every grant in the kernel, in no order. */
export async function readGrants(tools: Tools, socket: NetlinkSocket): Promise<GrantEntry[]> {
  const objects = (await listTable(tools)) ?? []
  return objects.flatMap(({ set }) => (set === undefined ? [] : readGrantSet(socket, set.name)))
}

/** Those of one set; none when it is no set of grants or does not exist. */
export function readGrantSet(socket: NetlinkSocket, set: string): GrantEntry[] {
  const name = parseGrantSetName(set)
  if (name === null) return []
  const { portSet, seconds: timeoutSeconds, family } = name
  const bytes = family === 4 ? 4 : 16
  return readElements(socket, set)
    .filter(({ key }) => key.length === 2 * bytes)
    .map(({ key, expiresMs }) => ({
      client: formatAddress(key, 0, family),
      address: formatAddress(key, bytes, family),
      portSet,
      timeoutSeconds,
      remainingMs: expiresMs,
    }))
}

/** Two rendered tables have the same digest when they are the same. */
export function digestOf(table: RenderedTable): string {
  return digest([JSON.stringify(table)])
}

interface NftObject {
  readonly metainfo?: unknown
  readonly set?: { readonly name: string }
  readonly map?: { readonly name: string }
  readonly chain?: { readonly name: string }
  readonly rule?: { readonly chain: string; readonly comment?: string }
}

/** Terse: without the elements, which for grants would be long. null: no such table. */
async function listTable(tools: Tools): Promise<NftObject[] | null> {
  let listed: string
  try {
    const words = ['-t', '-j', 'list', 'table', 'inet', TABLE]
    listed = await runTool(tools.nft, words, '', 'read the table', tools.timeoutMs)
  } catch (error) {
    if (error instanceof NftError && /No such file or directory/.test(error.message)) return null
    throw error
  }
  try {
    return (JSON.parse(listed) as { nftables: NftObject[] }).nftables
  } catch (cause) {
    const message = 'read the table: nft printed no JSON that can be read'
    throw new NftError('unreadable', message, { cause })
  }
}

/** Counters count, handles tell who came when, and `about` holds the digest itself. */
function structureText(objects: readonly NftObject[]): string {
  const structure = objects.filter(
    ({ metainfo, chain, rule }) =>
      metainfo === undefined && chain?.name !== ABOUT_CHAIN && rule?.chain !== ABOUT_CHAIN,
  )
  const changing = new Set(['handle', 'packets', 'bytes'])
  return JSON.stringify(structure, (key, value: unknown) => (changing.has(key) ? 0 : value))
}

/** Elements come in the order of their hashes: sort them. */
function elementsText(elements: readonly SetElement[]): string {
  return elements
    .map(({ raw }) => Buffer.from(raw).toString('hex'))
    .toSorted()
    .join(' ')
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 16)
}
