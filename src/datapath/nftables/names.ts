/**
 * Names and spellings that the files of this folder share: what things are called in the kernel,
 * and how text gets into nft.
 *
 * What must stay true: a name that stands in the kernel keeps its meaning for as long as
 * TABLE_LAYOUT keeps its number, because the other process on the node may be another release.
 */
import type { PortRange } from '../../policy/snapshot.ts'

/**
 * Counts up when a release would misread or break what the former one left in the kernel. It
 * stands in the table's name from 2 on, so that two releases work side by side during an upgrade.
 */
const TABLE_LAYOUT: number = 1
export const TABLE = TABLE_LAYOUT === 1 ? 'namegate' : `namegate_${TABLE_LAYOUT}`

/** UDP destination ports of packets that write no grant; port sets begin at 16. */
export const ALIVE_PORT = 1
/** Refused for as long as our rules are there: see writer.ts. */
export const PROBE_PORT = 2
/** The same from a worker that leaves: no more packets for its sake. */
export const LEAVING_PORT = 3

/** 'grants_1a2b3c4d_35_v4': readers of the kernel's state know the content by the name. */
export function grantSetName(portSetId: string, seconds: number, family: 4 | 6): string {
  return `grants_${portSetId}_${seconds}_v${family}`
}

/** What `grantSetName` said; null: the set is not one of grants. */
export function parseGrantSetName(
  name: string,
): { portSet: string; seconds: number; family: 4 | 6 } | null {
  const match = /^grants_([0-9a-f]{8})_(\d{1,6})_v([46])$/.exec(name)
  if (match === null) return null
  return { portSet: match[1]!, seconds: Number(match[2]), family: match[3] === '4' ? 4 : 6 }
}

/** Whether packets or revocations write this set: its elements are no part of the structure. */
export function isLiveSet(name: string): boolean {
  return /^(alive|owners|anybody|revoked_v[46])$/.test(name) || parseGrantSetName(name) !== null
}

/** A string as nft reads it: no quotes or control characters inside, at most 120 characters. */
export function quoted(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]|["\\]/g, '?')
  return clean.length <= 120 ? `"${clean}"` : `"${clean.slice(0, 117)}..."`
}

/** 'tcp 80, tcp 443-445'; 'every protocol and port'. */
export function portsText(ports: readonly PortRange[]): string {
  if (ports.length === 0) return 'every protocol and port'
  return ports.map((range) => `${range.protocol} ${rangeText(range)}`).join(', ')
}

export function rangeText(range: PortRange): string {
  return range.first === range.last ? String(range.first) : `${range.first}-${range.last}`
}
