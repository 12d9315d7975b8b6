/**
 * A flow with names: what `observe` sends and prints, one row each.
 *
 * Records hold addresses; who had them is looked up when somebody asks, in the directory of the
 * daemon that answers.
 */
import type { Flow } from '../flow/decode.ts'

export interface FlowRow {
  /** ISO 8601, UTC. */
  readonly time: string
  readonly node: string
  readonly flow: Flow
  readonly source: Party
  readonly destination: Party
}

/** A row of the stream that is no flow: so many could not be shown because the reader was slow. */
export interface LostRow {
  readonly lost: number
}

export interface Party {
  /** '' when it is no known client or Service. */
  readonly namespace: string
  readonly name: string
  readonly identity: number
  /** Names that the client looked up and got this address for; without final dots. */
  readonly names: readonly string[]
}

/** Who has an address. The daemons implement it over their clients, Services and answers. */
export interface Directory {
  /** The client, pod or Service with this address; null: nobody known. */
  endpoint(address: string): { namespace: string; name: string; identity: number } | null
  /** Names under which `client` was given `address`; empty when unknown. */
  names(client: string, address: string): readonly string[]
}

/** Cilium's reserved identities, by number. Others are printed as (ID:n). */
export const RESERVED_IDENTITIES = [
  'unknown',
  'host',
  'world',
  'unmanaged',
  'health',
  'init',
  'remote-node',
  'kube-apiserver',
  'ingress',
  'world-ipv4',
  'world-ipv6',
] as const
export const IDENTITY_WORLD = 2

/** Looks up who took part in `flow`. */
export function flowRow(flow: Flow, directory: Directory, node: string): FlowRow {
  const client = flow.source.address
  return {
    time: new Date(flow.timeMs).toISOString(),
    node,
    flow,
    source: party(client, directory, []),
    destination: party(
      flow.destination.address,
      directory,
      directory.names(client, flow.destination.address),
    ),
  }
}

function party(address: string, directory: Directory, names: readonly string[]): Party {
  const endpoint = directory.endpoint(address)
  if (!endpoint) return { namespace: '', name: '', identity: IDENTITY_WORLD, names }
  return { ...endpoint, names }
}
