/**
 * The ruleset: what the kernel should hold, as plain data that no kernel interface shows through.
 *
 * The main thread compiles it from the last snapshot and from facts about this node, and hands it
 * to a driver (datapath/driver.ts). The nftables driver renders it as text, the in-memory driver
 * interprets it, an eBPF driver would fill maps from it. The same snapshot and facts give the same
 * ruleset, byte for byte, in every process: drivers compare rulesets to decide whether to write.
 *
 * What must stay true:
 * - A governed client is closed unless something here opens it, also when we do not know where it
 *   is attached (`unplaced`): closed before available.
 * - A client is an interface *and* a source address. An address alone passed as somebody else's
 *   even with rp_filter=1 (tried: a neighbour's address, a second IPv6 address).
 * - What a name rule opens appears here as port sets only: the addresses come later, as grants.
 * - `questions` of a subject never become anything here: who may ask which server is decided by
 *   the worker, and a rule about DNS must not turn into a way out by port 53.
 */
import { assert } from '../assert.ts'
import { canonicalAddress } from '../identity/address.ts'
import { type Prefix, formatPrefix, parsePrefix, subtractPrefixes } from '../identity/prefix.ts'
import type {
  ClientEntry,
  DestinationRule,
  PortRange,
  PortSet,
  Snapshot,
  Subject,
} from '../policy/snapshot.ts'

/** Counts up when a driver of the former release would misread the new ruleset. */
export const RULESET_LAYOUT = 1

/**
 * DNS is intercepted on this port only. Our sockets are bound to the same one: a UDP socket can
 * choose the source address of a reply, but its source port is the one it is bound to.
 */
export const DNS_PORT = 53

/** Each process of this node that can write grants has a place. An upgrade needs a third one. */
export const PLACES_MAX = 8

/** Servers that share the questions of a node without us; each is a rule. */
const ENDPOINTS_MAX = 64

/** What the main thread knows about this node, plain data. */
export interface Facts {
  /** 'veth*', 'eth0': where clients without an entry of their own come in; a final * is any end. */
  readonly interfaces: readonly string[]
  /** The bits that are ours in packet marks, and the first value in them. At least 4 bits. */
  readonly mark: { readonly value: number; readonly mask: number }
  /** Routing table that delivers intercepted packets to this node. */
  readonly routingTable: number
  /** Policy routing rules take this priority and the three after it. */
  readonly rulePriority: number
  /** Addresses that we serve DNS on, at DNS_PORT. */
  readonly listen: readonly string[]
  /** Servers whose place we take for ungoverned clients. */
  readonly servers: readonly string[]
  /** Whether processes of the node itself that ask `servers` ask us. At `listen` they always do. */
  readonly isNodeServed: boolean
  /** Where questions to `listen` go while nobody of us is alive: real servers, no ClusterIPs. */
  readonly endpoints: readonly Endpoint[]
  /**
   * Where the sockets are bound that both processes hold, at DNS_PORT: an address of ours that need
   * not exist on the node. A new generation of sockets has another address. null: that family is
   * not served, and DNS of governed clients over it is dropped.
   */
  readonly sockets: { readonly v4: string | null; readonly v6: string | null }
  /** Places of the processes that may write grants, 1 to PLACES_MAX, the free ones too. */
  readonly places: readonly number[]
  /**
   * Client address → the node's end of its link, for clients whose entry does not say: found by
   * asking the kernel for the route.
   */
  readonly interfaceOf: Readonly<Record<string, string>>
  /** NFLOG groups that denials are reported to; one listener each, so one a process. May be empty. */
  readonly nflogGroups: readonly number[]
  readonly denyAction: 'drop' | 'reject'
  /** Grants that one set takes (one port set, one timeout class, one family). */
  readonly grantsMax: number
}

/** Where a DNS server listens. */
export interface Endpoint {
  /** Canonical text. */
  readonly address: string
  readonly port: number
}

export interface Ruleset {
  readonly layout: typeof RULESET_LAYOUT
  readonly mode: 'enforce' | 'audit'
  readonly unknown: 'open' | 'closed'
  readonly denyAction: 'drop' | 'reject'
  readonly interfaces: readonly string[]
  readonly marks: Marks
  readonly routingTable: number
  readonly rulePriority: number
  readonly sockets: Facts['sockets']
  /** Ours and those whose place we take. Canonical, sorted. */
  readonly servers: readonly string[]
  /** Those of `servers` that are ours: this node has them, whatever its interfaces say. */
  readonly listen: readonly string[]
  readonly isNodeServed: boolean
  /** Of both families, in the order given, at most ENDPOINTS_MAX. */
  readonly endpoints: readonly Endpoint[]
  readonly places: readonly number[]
  readonly nflogGroups: readonly number[]
  readonly grantsMax: number
  /** Sorted by interface, then address. */
  readonly clients: readonly PlacedClient[]
  /** Governed clients that can't be told apart by interface and address: closed, and shown so. */
  readonly unplaced: readonly UnplacedClient[]
  /** Those that have a client. Sorted by id. */
  readonly subjects: readonly RulesetSubject[]
  /** Sorted by number. */
  readonly portSets: readonly PortSet[]
}

/**
 * Values of the packet mark, one a purpose, all within `mask`. Other bits of a mark belong to
 * other people (kube-proxy 0x4000 and 0x8000, AWS 0x80, …): they are neither looked at nor changed.
 */
export interface Marks {
  readonly mask: number
  /** A packet on its way to our sockets. */
  readonly intercepted: number
  /** What our own sockets send: listening sockets, accepted ones before they have an owner, upstreams. */
  readonly own: number
  /** A packet that writes a grant or says that a worker is alive. */
  readonly write: number
  /** A packet of a governed client that our first chain has seen. */
  readonly seen: number
  /** By place: accepted TCP connections of that process. Index 0 is unused. */
  readonly owners: readonly number[]
  /** DNS of the node's own processes on its way to our sockets. */
  readonly node: number
}

export interface PlacedClient {
  /** 'team-a/client' */
  readonly name: string
  readonly address: string
  readonly interface: string
  /** RulesetSubject.id; null: ungoverned. */
  readonly subject: string | null
}

export interface UnplacedClient {
  readonly name: string
  readonly address: string
  /** What to tell an operator. */
  readonly reason: string
}

export interface RulesetSubject {
  readonly id: string
  readonly policies: readonly string[]
  /** Deny before allow. */
  readonly destinations: readonly RulesetDestination[]
  readonly opens: readonly OpenedPortSet[]
}

export interface RulesetDestination {
  /** Index into Subject.destinations: a denial names it. */
  readonly index: number
  readonly policy: string
  readonly verdict: 'allow' | 'deny'
  /** Exceptions are taken out already. One of the two may be empty, not both. */
  readonly v4: readonly string[]
  readonly v6: readonly string[]
  /** Empty: every protocol and port. */
  readonly ports: readonly PortRange[]
}

/** A port set that this subject's name rules open, and for whoever reads the ruleset, by which names. */
export interface OpenedPortSet {
  /** PortSet.id */
  readonly portSet: string
  readonly names: readonly string[]
}

/** What the kernel should hold on this node for this policy. Pure; facts of the wrong shape assert. */
export function compileRuleset(snapshot: Snapshot, facts: Facts): Ruleset {
  assert(
    facts.places.length > 0 && facts.places.every((place) => place >= 1 && place <= PLACES_MAX),
    'places count from 1 to PLACES_MAX',
  )
  const { placed, unplaced } = placeClients(snapshot, facts)
  const used = new Set(placed.map((client) => client.subject))
  return {
    layout: RULESET_LAYOUT,
    mode: snapshot.mode,
    unknown: snapshot.unknown,
    denyAction: facts.denyAction,
    interfaces: facts.interfaces.toSorted(),
    marks: compileMarks(facts.mark),
    routingTable: facts.routingTable,
    rulePriority: facts.rulePriority,
    sockets: facts.sockets,
    servers: canonicalList([...facts.listen, ...facts.servers]),
    listen: canonicalList(facts.listen),
    isNodeServed: facts.isNodeServed,
    endpoints: facts.endpoints.slice(0, ENDPOINTS_MAX),
    places: facts.places.toSorted((a, b) => a - b),
    nflogGroups: facts.nflogGroups.toSorted((a, b) => a - b),
    grantsMax: facts.grantsMax,
    clients: placed,
    unplaced,
    subjects: snapshot.subjects
      .filter((subject) => used.has(subject.id))
      .map((subject) => compileSubject(subject, snapshot.portSets)),
    portSets: snapshot.portSets,
  }
}

/**
 * The values of each purpose. They follow the configured one and wrap around within the mask, past
 * 0, which stands for "not ours": 4 bits hold 15 values, and 5 + PLACES_MAX are needed.
 */
export function compileMarks(mark: Facts['mark']): Marks {
  const bits: number[] = []
  for (let bit = 0; bit < 32; bit++) if ((mark.mask >>> bit) & 1) bits.push(2 ** bit)
  const values = 2 ** bits.length - 1
  assert(values >= 5 + PLACES_MAX, 'a mark mask has at least 4 bits')
  let first = 0
  for (const [index, bit] of bits.entries()) if ((mark.value & bit) !== 0) first += 2 ** index
  assert(first > 0, 'a mark value has a bit inside its mask')
  const value = (purpose: number): number => {
    let number = ((first - 1 + purpose) % values) + 1
    let scattered = 0
    for (const bit of bits) {
      if (number % 2 === 1) scattered += bit
      number = Math.floor(number / 2)
    }
    return scattered
  }
  const owners = [0]
  for (let place = 1; place <= PLACES_MAX; place++) owners.push(value(3 + place))
  return {
    mask: mark.mask >>> 0,
    intercepted: value(0),
    own: value(1),
    write: value(2),
    seen: value(3),
    owners,
    node: value(4 + PLACES_MAX),
  }
}

/** Distinct, sorted. */
function canonicalList(texts: readonly string[]): string[] {
  const addresses = texts.map((text) => {
    const address = canonicalAddress(text)
    assert(address !== null, 'a server is an address')
    return address
  })
  return [...new Set(addresses)].toSorted(compareText)
}

/**
 * Sorts clients into those that the kernel can know by interface and address, and those that it
 * can't: no interface known, a name that nft would read as a pattern, or an address that two
 * clients claim. Grants are keyed by address, so an address that two interfaces claim would open
 * for one client what the other asked for: both are closed.
 */
function placeClients(
  snapshot: Snapshot,
  facts: Facts,
): { placed: PlacedClient[]; unplaced: UnplacedClient[] } {
  const claims = new Map<string, number>()
  for (const client of snapshot.clients) {
    for (const address of client.addresses) claims.set(address, (claims.get(address) ?? 0) + 1)
  }
  const placed: PlacedClient[] = []
  const unplaced: UnplacedClient[] = []
  for (const client of snapshot.clients) {
    for (const address of client.addresses) {
      const name = `${client.namespace}/${client.name}`
      const subject = subjectOf(snapshot, client)
      const found = client.interface ?? facts.interfaceOf[address] ?? null
      const reason = reasonAgainst(found, claims.get(address)!)
      if (reason === null) placed.push({ name, address, interface: found!, subject })
      else if (subject !== null) unplaced.push({ name, address, reason })
    }
  }
  const order = (a: { address: string; interface?: string }): string =>
    `${a.interface ?? ''} ${a.address}`
  const sorted = <T extends { address: string; interface?: string }>(list: T[]): T[] =>
    list.toSorted((a, b) => compareText(order(a), order(b)))
  return { placed: sorted(placed), unplaced: distinct(sorted(unplaced)) }
}

/** Two clients that claim one address are told once each; the kernel needs the address once. */
function distinct(unplaced: readonly UnplacedClient[]): UnplacedClient[] {
  const seen = new Set<string>()
  return unplaced.filter((client) => {
    const key = `${client.name} ${client.address}`
    if (seen.has(key)) return false
    seen.add(key)
    return true
  })
}

function reasonAgainst(device: string | null, claims: number): string | null {
  if (claims > 1) return 'two clients have this address'
  if (device === null) return 'no route of this node says by which interface it is reached'
  if (!/^[\w.:@-]{1,15}$/.test(device)) return `nft has no way to write the interface '${device}'`
  return null
}

function subjectOf(snapshot: Snapshot, client: ClientEntry): string | null {
  return client.subject < 0 ? null : snapshot.subjects[client.subject]!.id
}

function compileSubject(subject: Subject, portSets: readonly PortSet[]): RulesetSubject {
  const destinations = subject.destinations
    .map(compileDestination)
    .filter((rule) => rule.v4.length + rule.v6.length > 0)
  const names = new Map<number, Set<string>>()
  for (const rule of subject.names) {
    const known = names.get(rule.portSet) ?? new Set<string>()
    names.set(rule.portSet, known.add(rule.pattern.text))
  }
  return {
    id: subject.id,
    policies: subject.policies,
    destinations: [
      ...destinations.filter((rule) => rule.verdict === 'deny'),
      ...destinations.filter((rule) => rule.verdict === 'allow'),
    ],
    opens: portSets
      .filter((portSet) => names.has(portSet.number))
      .map((portSet) => ({
        portSet: portSet.id,
        names: [...names.get(portSet.number)!].toSorted(),
      })),
  }
}

function compileDestination(rule: DestinationRule, index: number): RulesetDestination {
  const left = subtractPrefixes(rule.prefixes.map(prefixOf), rule.except.map(prefixOf))
  const texts = (family: 4 | 6): string[] =>
    [...new Set(left.filter((prefix) => prefix.family === family).map(formatPrefix))].toSorted()
  const { policy, verdict, ports } = rule
  return { index, policy, verdict, v4: texts(4), v6: texts(6), ports }
}

function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text)
  assert(prefix !== null, 'a snapshot holds prefixes that can be read')
  return prefix
}

/** By code units: the same order on every machine, whatever its locale. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
