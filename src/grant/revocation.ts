/**
 * Revocation: which grants a new policy no longer gives.
 *
 * The kernel's chains change with the policy, so a port set that no rule of a client opens any more
 * is closed at once. What is left is a port set that other names still open: an address that was
 * granted for a name which is no longer allowed. The kernel does not know names; the answers that
 * clients were given do. Called by the process that owns the structure, once the peer decides by
 * the new policy too, so that no worker gives anew what is taken.
 *
 * What must stay true:
 * - A grant belongs to the client that it was given to, not to an address and not to a policy: who
 *   has got an address that was another's inherits nothing, also if the same policies select both.
 *   What it was answered itself meanwhile stays open: a new pod asks before we come to this.
 * - Closed before available: of a client whose rules or addresses have changed, a grant for which
 *   no allowed name is known is taken back. Its next lookup gives it again, if it is still allowed.
 */
import { wireName } from '../policy/pattern.ts'
import { scanName } from '../policy/scanned-name.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import type { PolicyTable } from '../policy/table.ts'

/** As the kernel holds it: canonical addresses, PortSet.id. */
export interface HeldGrant {
  readonly client: string
  readonly address: string
  readonly portSet: string
}

/** Says of a grant whether it is to be taken back. */
export type RevocationJudge = (grant: HeldGrant) => boolean

/**
 * @param former  under which the grants were given
 * @param table  encoded from `present`
 * @param namesOf  names for which the client that now has the first address, and nobody before it,
 *   was given the second; those that are still known
 */
export function judgeRevocation(
  former: Snapshot,
  present: Snapshot,
  table: PolicyTable,
  namesOf: (client: string, address: string) => readonly string[],
): RevocationJudge {
  const before = holdersByAddress(former)
  const after = holdersByAddress(present)
  const numbers = new Map(present.portSets.map(({ id, number }) => [id, number]))
  const opened = new Int32Array(table.portSetsMax)
  return (grant) => {
    const holder = after.get(grant.client)
    // An ungoverned client needs no grant, and has none that closes anything.
    if (holder === undefined || holder.index < 0) return false
    const { client, subject } = before.get(grant.client) ?? NOBODY
    if (client === holder.client && subject === holder.subject) return false
    const number = numbers.get(grant.portSet)
    if (number === undefined) return true
    return !namesOf(grant.client, grant.address).some((name) => {
      const wire = wireName(name)
      if (wire === null) return false
      const count = table.matchGrants(holder.index, scanName(wire), opened)
      return opened.subarray(0, count).includes(number)
    })
  }
}

interface Holder {
  /** 'team-a/client' */
  readonly client: string
  /** Subject.id; '' when it is ungoverned. */
  readonly subject: string
  readonly index: number
}

const NOBODY: Holder = { client: '', subject: '', index: -1 }

function holdersByAddress({ clients, subjects }: Snapshot): Map<string, Holder> {
  return new Map(
    clients.flatMap(({ namespace, name, addresses, subject }) => {
      const id = subject < 0 ? '' : subjects[subject]!.id
      const holder = { client: `${namespace}/${name}`, subject: id, index: subject }
      return addresses.map((address) => [address, holder] as const)
    }),
  )
}
