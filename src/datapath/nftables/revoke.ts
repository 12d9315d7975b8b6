/**
 * Plans how grants are taken back: out of their sets, with the shortcut for open connections.
 *
 * driver.ts runs it. What must stay true: one grant that can't be taken back must not keep the
 * others in force. nft aborts a whole transaction for one bad element (a set that is full, one that
 * is gone), so a transaction that fails is halved until the culprit is alone.
 */
import { TIMEOUT_CLASS_SECONDS } from '../../grant/timeout-class.ts'
import type { GrantEntry } from '../driver.ts'
import { TABLE, grantSetName } from './names.ts'

/** nft commands that revoke one grant; `isThere` says which sets exist. */
export function planRevoke(grant: GrantEntry, isThere: (set: string) => boolean): string[] {
  const family = grant.client.includes(':') ? 6 : 4
  const pair = `{ ${grant.client} . ${grant.address} }`
  const lines = [`add element inet ${TABLE} revoked_v${family} ${pair}`]
  for (const classIndex of TIMEOUT_CLASS_SECONDS.keys()) {
    const set = grantSetName(grant.portSet, classIndex, family)
    // Adding first makes deleting work whether or not it was there (`del` alone fails with ENOENT);
    // within one transaction nobody sees it.
    if (isThere(set)) {
      lines.push(`add element inet ${TABLE} ${set} ${pair}`)
      lines.push(`delete element inet ${TABLE} ${set} ${pair}`)
    }
  }
  return lines
}

/** The same one by one, for a grant whose transaction failed: a full set refuses the adding. */
export function planRevokeAlone(grant: GrantEntry, isThere: (set: string) => boolean): string[] {
  return planRevoke(grant, isThere).filter(
    (line) => !line.startsWith('add ') || line.includes(' revoked_'),
  )
}

/**
 * Runs `attempt` for all, and after a failure for each half. The first failure of a single one that
 * `alone` could not mend either is thrown at the end, when everything else is done.
 */
export async function eachHalf<T>(
  items: readonly T[],
  attempt: (items: readonly T[]) => Promise<void>,
  alone: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  const waiting: (readonly T[])[] = [items]
  for (let some = waiting.pop(); some !== undefined; some = waiting.pop()) {
    if (some.length === 0) continue
    try {
      await attempt(some)
    } catch {
      if (some.length === 1) {
        await alone(some[0]!).catch((error: unknown) => failures.push(error))
      } else {
        const middle = some.length >>> 1
        waiting.push(some.slice(0, middle), some.slice(middle))
      }
    }
  }
  if (failures.length > 0) throw failures[0]
}
