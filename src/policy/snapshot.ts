/**
 * A snapshot: everything that policy says about this node, as plain data.
 *
 * The agent compiles policy files and clients into one (policy/compile.ts); it travels to the
 * proxy, lies on disk as the last policy, becomes the worker's table (policy/table.ts) and the
 * kernel's ruleset (grant/ruleset.ts). The same files give the same snapshot, byte for byte, in
 * every process and every release of the same layout, whatever the order they were read in.
 *
 * It is JSON: no class instances, no undefined, no functions.
 */

/** Counts up when a reader of the former layout would misread the new one. */
export const SNAPSHOT_LAYOUT = 1

export interface Snapshot {
  readonly layout: typeof SNAPSHOT_LAYOUT
  /** Counts policy changes of this node; a later one replaces an earlier one. From 1. */
  readonly revision: number
  readonly mode: 'enforce' | 'audit'
  /** What a denied question is answered with. */
  readonly denyResponse: 'refused' | 'nxdomain' | 'nodata'
  /** What a source on an intercepted interface gets that is no known client. */
  readonly unknown: 'open' | 'closed'
  /** Sorted by namespace, then name. */
  readonly clients: readonly ClientEntry[]
  /** Whom clients may ask or connect to, for people who read flows. Sorted by namespace, then name. */
  readonly places: readonly KnownPlace[]
  /** Distinct rule lists; two clients under the same policies share one. Sorted by id. */
  readonly subjects: readonly Subject[]
  /** Distinct port sets that name rules open. Sorted by number. */
  readonly portSets: readonly PortSet[]
  /** Every policy that was read, in the order of its name: for `policy list`. */
  readonly policies: readonly PolicyEntry[]
}

export interface ClientEntry {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** Canonical text: '10.0.0.7', '2001:db8::7' (RFC 5952). At least one. */
  readonly addresses: readonly string[]
  /** The node's end of the client's link; null: found by asking the kernel for the route. */
  readonly interface: string | null
  /** Index into `subjects`; -1: no policy selects this client, it is ungoverned. */
  readonly subject: number
}

/** A Service that has ClusterIPs, or a pod that is no client of this node. */
export interface KnownPlace {
  readonly namespace: string
  readonly name: string
  /** Canonical text, sorted. At least one. */
  readonly addresses: readonly string[]
  /** Of a Service with port 53 over UDP: who answers there, as far as known. Absent: nobody does. */
  readonly dns?: readonly { readonly address: string; readonly port: number }[]
}

export interface Subject {
  /** 12 hexadecimal digits of a hash over the content: names the client's chain in the kernel. */
  readonly id: string
  /** 'team-a/allow-google', sorted: which policies these rules come from. */
  readonly policies: readonly string[]
  /**
   * True when a policy that selects these clients could not be read as a whole: until it can,
   * they may ask us nothing but what the good policies allow, and nobody knows what it allowed.
   */
  readonly isFaulty: boolean
  /** Which names may be asked of which servers. */
  readonly questions: readonly QuestionRule[]
  /** Which names open their addresses, on which ports. */
  readonly names: readonly NameRule[]
  /** Which addresses are open without any name. */
  readonly destinations: readonly DestinationRule[]
}

/** Names that may be asked of a server. An empty subject.questions refuses every question. */
export interface QuestionRule {
  readonly policy: string
  /**
   * Absent: allow. 'deny': nothing may be asked of these servers on these ports, whatever other
   * rules allow; `names` is null.
   */
  readonly verdict?: 'deny'
  /** Prefixes ('10.96.0.10/32', '::/0') of servers this rule is about; empty: matches nothing. */
  readonly servers: readonly string[]
  /** As the client sees them: of the Service, not of its backends. Empty: matches nothing. */
  readonly ports: readonly PortRange[]
  /** null: every name, also one with unusual bytes in it. Otherwise a name that matches any. */
  readonly names: readonly NamePattern[] | null
}

export interface NameRule {
  readonly policy: string
  readonly pattern: NamePattern
  /** PortSet.number. */
  readonly portSet: number
}

export interface DestinationRule {
  readonly policy: string
  readonly verdict: 'allow' | 'deny'
  /** Prefixes; empty: matches nothing. */
  readonly prefixes: readonly string[]
  readonly except: readonly string[]
  /** Empty: every protocol and port. */
  readonly ports: readonly PortRange[]
}

/**
 * `matchName` or `matchPattern` as written; how they match is said in policy/pattern.ts.
 * Canonical: lower case, no final dot (but '.' for the root).
 */
export interface NamePattern {
  readonly kind: 'name' | 'pattern'
  readonly text: string
}

export interface PortRange {
  /** 'any' is TCP, UDP and SCTP, as Cilium says. */
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'any'
  /** 1 to 65535; 0 to 65535 for every port of the protocol. */
  readonly first: number
  readonly last: number
}

/** What a name rule opens at the addresses of a name. Its sets in the kernel are named by `id`. */
export interface PortSet {
  /**
   * 1 to PORT_SETS_MAX: stands in the packets that write grants, so a number keeps its content
   * for as long as any process or kernel set knows it (policy/port-set-numbers in the snapshot
   * before is where the next compilation takes them from).
   */
  readonly number: number
  /** 8 hexadecimal digits of a hash over the ports: the same content has the same id everywhere. */
  readonly id: string
  /** Sorted, merged. Empty: every protocol and port. */
  readonly ports: readonly PortRange[]
}

/** Port set number and timeout class share the 16 bits of a UDP port: see grant/timeout-class.ts. */
export const PORT_SETS_MAX = 4095

export interface PolicyEntry {
  readonly name: string
  /** 'unknown': the document could not be read far enough to tell. */
  readonly kind: 'CiliumNetworkPolicy' | 'CiliumClusterwideNetworkPolicy' | 'unknown'
  readonly file: string
  readonly clientCount: number
  /** Empty when the policy was accepted. */
  readonly faults: readonly PolicyFault[]
}

/** One thing wrong in a file, at the place where a person must change it. */
export interface PolicyFault {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly column: number
  /** 'spec.egress[0].toFQDNs[1].matchName'; '' for the document. */
  readonly field: string
  /** What is wrong and what to do. */
  readonly message: string
}
