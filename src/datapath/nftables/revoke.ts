/**
 * Plans how grants are taken back: out of the sets they lie in, with the shortcut for open
 * connections.
 *
 * driver.ts runs it. nft aborts a whole transaction for one element that is not there or does not
 * fit, so what is deleted is what the set was just seen to hold, and everything goes in one
 * transaction. What must stay true: one that can't be taken back does not keep the others in force.
 */
import type { GrantEntry } from '../driver.ts'
import { TABLE, grantSetName } from './names.ts'
import { pushElements } from './plan.ts'

/**
 * An element that lasts no longer than this may expire between reading and the commit, which waits
 * for other users of nftables.
 */
const ENDING_MS = 2000

/** By set: the pairs 'client . address' to take out of it. */
export function pairsBySet(grants: readonly GrantEntry[]): Map<string, Set<string>> {
  const sets = new Map<string, Set<string>>()
  for (const grant of grants) {
    const set = grantSetName(grant.portSet, grant.timeoutSeconds, familyOf(grant))
    const pairs = sets.get(set) ?? new Set()
    sets.set(set, pairs.add(pairText(grant.client, grant.address)))
  }
  return sets
}

/**
 * nft commands that take pairs out of a set.
 * @param held  what it holds: pair → ms until it expires
 * @param isSure  leaves out what may refuse the transaction, and ends by itself within ENDING_MS
 */
export function planDelete(
  set: string,
  pairs: ReadonlySet<string>,
  held: ReadonlyMap<string, number>,
  isSure: boolean,
): string[] {
  const name = `inet ${TABLE} ${set}`
  const here = [...pairs].filter((pair) => held.has(pair))
  const isLasting = (pair: string): boolean => held.get(pair)! > ENDING_MS
  const lines: string[] = []
  pushElements(lines, 'delete', name, here.filter(isLasting))
  for (const pair of here) {
    if (isSure || isLasting(pair)) continue
    // Adding first makes deleting work whether or not it is there (`delete` alone fails with
    // ENOENT). One by one, behind the others: in a full set each needs the room that one deletion
    // made.
    lines.push(`add element ${name} { ${pair} }`, `delete element ${name} { ${pair} }`)
  }
  return lines
}

/** nft commands after which open connections of these pairs are judged afresh. */
export function planRevoked(grants: readonly GrantEntry[]): string[] {
  const lines: string[] = []
  for (const family of [4, 6] as const) {
    const mine = grants.filter((grant) => familyOf(grant) === family)
    const pairs = new Set(mine.map(({ client, address }) => pairText(client, address)))
    pushElements(lines, 'add', `inet ${TABLE} revoked_v${family}`, [...pairs])
  }
  return lines
}

/** An element as nft reads it. */
export function pairText(client: string, address: string): string {
  return `${client} . ${address}`
}

function familyOf(grant: GrantEntry): 4 | 6 {
  return grant.client.includes(':') ? 6 : 4
}
