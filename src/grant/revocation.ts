/**
 * Revocation: which grants a new policy no longer gives.
 *
 * The kernel's chains change with the policy, so a port set that no rule of a client opens any more
 * is closed at once. What is left is a port set that other names still open: an address that was
 * granted for a name which is no longer allowed. The kernel does not know names; the answers that
 * clients were given do. Called by the process that owns the structure, once the peer decides by
 * the new policy too, so that no worker gives anew what is taken.
 *
 * Closed before available: of a client whose rules have changed, a grant for which no allowed name is known is taken back.
 * The client's next lookup gives it again, if it is still allowed.
 */
import { wireName } from '../policy/pattern.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import type { PolicyTable } from '../policy/table.ts'

/** As the kernel holds it: canonical addresses, PortSet.id. */
export interface HeldGrant {
  readonly client: string
  readonly address: string
  readonly portSet: string
}

/**
 * @param table  encoded from `present`
 * @param namesOf  names for which a client was given an address; those that are still known
 */
export function findUnjustified<Grant extends HeldGrant>(
  grants: readonly Grant[],
  former: Snapshot,
  present: Snapshot,
  table: PolicyTable,
  namesOf: (client: string, address: string) => readonly string[],
): Grant[] {
  const before = subjectsByAddress(former)
  const after = subjectsByAddress(present)
  const numbers = new Map(present.portSets.map(({ id, number }) => [id, number]))
  const opened = new Int32Array(table.portSetsMax)
  return grants.filter((grant) => {
    const subject = after.get(grant.client)
    // An ungoverned client needs no grant, and has none that closes anything.
    if (subject === undefined || subject.index < 0) return false
    if (before.get(grant.client)?.id === subject.id) return false
    const number = numbers.get(grant.portSet)
    if (number === undefined) return true
    return !namesOf(grant.client, grant.address).some((name) => {
      const wire = wireName(name)
      if (wire === null) return false
      const count = table.matchGrants(subject.index, wire, 0, wire.length, opened)
      return opened.subarray(0, count).includes(number)
    })
  })
}

function subjectsByAddress(snapshot: Snapshot): Map<string, { id: string; index: number }> {
  return new Map(
    snapshot.clients.flatMap((client) => {
      const id = client.subject < 0 ? '' : snapshot.subjects[client.subject]!.id
      return client.addresses.map((address) => [address, { id, index: client.subject }] as const)
    }),
  )
}
