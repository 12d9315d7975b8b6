/**
 * Policy as its sources hand it over: what a document says, in Namegate's words and no longer in
 * Cilium's or Kubernetes', before it is known which endpoints there are. policy/sources/ make it,
 * policy/compile.ts turns it into a snapshot, policy/lint.ts looks for surprises in it.
 */
import type { Protocol } from '../identity/endpoint.ts'
import type { Prefix } from '../identity/prefix.ts'
import type { Selector } from '../identity/selector.ts'
import type { NamePattern, PolicyEntry, PolicyFault, PortRange } from './snapshot.ts'

/** Where something stands in a file: a PolicyFault without its file and message. */
export interface Place {
  readonly line: number
  readonly column: number
  readonly field: string
}

export interface PolicyDocument {
  /** 'team-a/allow-google', 'allow-google' (clusterwide), or, unreadable, 'FILE:LINE'. */
  readonly name: string
  readonly kind: PolicyEntry['kind']
  readonly file: string
  readonly line: number
  /** What could be read, also of a document with faults: its rules still say whom it selects. */
  readonly rules: readonly PolicyRule[]
  /** Not empty: none of its rules allows anything, and whom they select is closed. */
  readonly faults: readonly PolicyFault[]
  /**
   * True when the rules are those of an earlier version, kept because the one with these faults
   * cannot be used (policy/sources/policies.ts): then they count.
   */
  readonly isLastGood: boolean
}

export interface PolicyRule {
  readonly place: Place
  /** null: it cannot be read, so nobody knows whom it selects. */
  readonly subject: Selector | null
  /** Whether what no rule allows is denied to the clients it selects. */
  readonly hasDefaultDeny: boolean
  readonly egress: readonly EgressRule[]
  readonly egressDeny: readonly EgressRule[]
}

export interface EgressRule {
  readonly place: Place
  readonly to: Destination
  /** null: every protocol and port. Empty: none. */
  readonly ports: readonly PortGroup[] | null
}

/** Where an egress rule leads. An empty list leads nowhere. */
export type Destination =
  | { readonly kind: 'none' }
  | { readonly kind: 'endpoints'; readonly selectors: readonly Selector[] }
  | { readonly kind: 'networks'; readonly blocks: readonly NetworkBlock[] }
  | { readonly kind: 'entities'; readonly entities: readonly Entity[] }
  | { readonly kind: 'names'; readonly patterns: readonly PlacedPattern[] }

/** 'all': every address. 'world': what is neither an endpoint, a Service nor this node. */
export type Entity = 'all' | 'world'

/** Addresses outside: an endpoint is never selected by its address, as in Cilium. */
export interface NetworkBlock {
  readonly prefix: Prefix
  readonly except: readonly Prefix[]
}

export interface PlacedPattern {
  readonly pattern: NamePattern
  readonly place: Place
  /** As written: what lint is about. */
  readonly text: string
}

export interface PortGroup {
  readonly place: Place
  /** Empty: no port. */
  readonly ports: readonly RulePort[]
  /** `rules.dns`: only DNS for these names, instead of whatever the ports carry. */
  readonly dns: DnsRule | null
}

export interface DnsRule {
  readonly place: Place
  /** null: every name. */
  readonly patterns: readonly PlacedPattern[] | null
}

export type RulePort = PortRange | UnresolvedPort

/** A port named as the destination's containers name it. */
export interface UnresolvedPort {
  readonly name: string
  readonly protocol: Protocol | 'any'
  readonly place: Place
}

export function isNamedPort(port: RulePort): port is UnresolvedPort {
  return 'name' in port
}
