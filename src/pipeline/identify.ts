/**
 * Identify: the source address becomes a client of the policy table.
 *
 * The address alone is enough here because the kernel has looked at the interface already: on a
 * governed client's own interface only that client's addresses get through, and the same addresses
 * from elsewhere are dropped before they reach a socket (datapath/nftables/interception.ts).
 */
import type { Context } from './context.ts'

export function identify(context: Context, nowMs: number): void {
  const arrival = context.arrival
  const policy = context.policy
  const client = policy.findClient(arrival.family, arrival.addresses, arrival.sourceAt)
  arrival.client = client
  arrival.isGoverned = client >= 0 && policy.isGoverned(client)
  context.shares.find(arrival, policy, nowMs)
}
