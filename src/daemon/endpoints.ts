/**
 * Where questions to our own addresses go while no process of ours is alive: to what stands behind
 * the servers whose place we take, in the packet's family. A DNAT rule leads there, and the kernel
 * translates a packet once; so what the rule names must be a server and no ClusterIP.
 *
 * structure.ts makes a fact of it for the ruleset. What must stay true: where Services are known,
 * their endpoints count; an address that is no Service's is taken for a server, and said to be.
 */
import type { Endpoint } from '../grant/ruleset.ts'
import type { KnownPlace } from '../policy/snapshot.ts'
import { DNS_PORT } from '../policy/stand-ins.ts'

export interface FallThrough {
  /** Those of IPv4 first. */
  readonly endpoints: readonly Endpoint[]
  /** Addresses among them that no Service is known to have: should one be a ClusterIP, it is dead. */
  readonly assumed: readonly string[]
}

/**
 * @param servers  intercept.servers, canonical
 * @param others  servers of the zone '.': for a family in which there are none of the former
 * @param own  listen.addresses: never led to themselves
 */
export function fallThroughOf(
  places: readonly KnownPlace[],
  servers: readonly string[],
  others: readonly Endpoint[],
  own: readonly string[],
): FallThrough {
  const first = servers.map((address) => ({ address, port: DNS_PORT }))
  const found = [first, others.filter(({ address }) => !isLoopback(address))].map((list) =>
    list
      .filter(({ address }) => !own.includes(address))
      .flatMap((server) => resolve(places, server)),
  )
  const chosen = [false, true].flatMap((isV6) => {
    const mine = found.map((list) =>
      list.filter(({ endpoint }) => endpoint.address.includes(':') === isV6),
    )
    return mine.find((list) => list.length > 0) ?? []
  })
  const assumed = chosen.filter(({ isAssumed }) => isAssumed)
  return {
    endpoints: distinct(chosen.map(({ endpoint }) => endpoint)),
    assumed: [...new Set(assumed.map(({ endpoint }) => endpoint.address))],
  }
}

function resolve(
  places: readonly KnownPlace[],
  server: Endpoint,
): { endpoint: Endpoint; isAssumed: boolean }[] {
  const place = places.find(({ addresses }) => addresses.includes(server.address))
  if (place?.dns === undefined) return [{ endpoint: server, isAssumed: place === undefined }]
  return place.dns.map((endpoint) => ({ endpoint, isAssumed: false }))
}

function distinct(endpoints: readonly Endpoint[]): Endpoint[] {
  const byText = new Map(endpoints.map((endpoint) => [JSON.stringify(endpoint), endpoint]))
  return [...byText.values()]
}

/** A resolver of the node for the node: no packet of a pod gets there. */
function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}
