/**
 * Who there is: endpoints, namespaces, Services, as the sources say (policy/sources/clients.ts) and
 * as policy selects them (policy/compile.ts). Plain data; addresses in canonical text.
 *
 * An endpoint is everything that policy can select by labels: the clients of this node and the
 * pods elsewhere that a rule may name as a destination.
 */

export type Protocol = 'tcp' | 'udp' | 'sctp'
export type Labels = Readonly<Record<string, string>>

export interface Endpoint {
  readonly namespace: string
  readonly name: string
  readonly labels: Labels
  readonly addresses: readonly string[]
  /** The node's end of its link; null: unknown. */
  readonly interface: string | null
  /** False for a pod of another node: it can be a destination, but its traffic is not ours. */
  readonly isClient: boolean
  readonly ports: readonly NamedPort[]
}

/** A port that the endpoint's containers declare: what a named port of a policy resolves to. */
export interface NamedPort {
  readonly name: string
  readonly port: number
  readonly protocol: Protocol
}

export interface NamespaceEntry {
  readonly name: string
  readonly labels: Labels
}

export interface ServiceEntry {
  readonly namespace: string
  readonly name: string
  /** Labels of its pods; null: somebody else writes its EndpointSlices. */
  readonly selector: Labels | null
  /** ClusterIPs; none for a headless Service. */
  readonly addresses: readonly string[]
  readonly ports: readonly ServicePort[]
}

export interface ServicePort {
  readonly name: string
  readonly port: number
  readonly protocol: Protocol
  /** A number, or the name of a container's port. */
  readonly target: number | string
}

/** Some of a Service's backends: one EndpointSlice. */
export interface BackendSlice {
  readonly namespace: string
  readonly service: string
  readonly addresses: readonly string[]
  /** By the name of the Service's port. */
  readonly ports: readonly NamedPort[]
}

/** Everything that the sources know. */
export interface Inventory {
  readonly endpoints: readonly Endpoint[]
  readonly namespaces: readonly NamespaceEntry[]
  readonly services: readonly ServiceEntry[]
  readonly slices: readonly BackendSlice[]
}

export const EMPTY_INVENTORY: Inventory = {
  endpoints: [],
  namespaces: [],
  services: [],
  slices: [],
}
