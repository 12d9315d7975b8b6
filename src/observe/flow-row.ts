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
  /**
   * Resolves to a look-up that knows every answer up to now. The first time it reads the whole
   * history, in slices; so it is asked for only when a name is wanted.
   */
  names(): Promise<NamesOf>
}

/**
 * Names under which a client (any of its addresses) was given `address`, without final dots and
 * the latest first; empty when unknown.
 */
export type NamesOf = (client: string, address: string) => readonly string[]

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

/**
 * Looks up who took part in `flow`.
 * @param names  of the destination, for a connection: whom a question went to was not looked up
 */
export function flowRow(
  flow: Flow,
  names: readonly string[],
  directory: Directory,
  node: string,
): FlowRow {
  return {
    time: new Date(flow.timeMs).toISOString(),
    node,
    flow,
    source: party(flow.source.address, directory, []),
    destination: party(flow.destination.address, directory, names),
  }
}

function party(address: string, directory: Directory, names: readonly string[]): Party {
  const endpoint = directory.endpoint(address)
  if (!endpoint) return { namespace: '', name: '', identity: IDENTITY_WORLD, names }
  return { ...endpoint, names }
}
