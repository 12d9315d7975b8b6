/**
 * One egress rule, compiled against the endpoints and Services that there are: question rules, name
 * rules and destination rules of a snapshot. Called by policy/compile.ts for each rule of each
 * policy, once, whatever the number of clients it selects.
 *
 *     where to           with rules.dns     without
 *     endpoints, CIDR    question rules     destination rules, and every name where port 53 is open
 *     names              (a fault)          name rules
 *
 * What must stay true: an empty list gives nothing. Questions are taken before the kernel sees a
 * connection, so `rules.dns` opens no destination.
 */
import { assert } from '../assert.ts'
import type { Endpoint, Inventory, NamedPort } from '../identity/endpoint.ts'
import {
  coversPrefix,
  formatPrefix,
  mergePrefixes,
  type Prefix,
  parsePrefix,
  prefixOfAddress,
  subtractPrefixes,
} from '../identity/prefix.ts'
import { isImplied, isSelected, type LabelView, type Selector } from '../identity/selector.ts'
import { ALL_PORTS, compareText, hasPort, normalPorts } from './port-set.ts'
import {
  type EgressRule,
  isNamedPort,
  type NetworkBlock,
  type PortGroup,
  type UnresolvedPort,
} from './rule.ts'
import type { Backend, Frontend } from './services.ts'
import type { DestinationRule, NamePattern, PortRange, QuestionRule } from './snapshot.ts'
import { DNS_PORT } from './stand-ins.ts'

const EVERYWHERE = ['0.0.0.0/0', '::/0'].map(prefixOf)

/** What rules are compiled against. */
export interface World {
  readonly inventory: Inventory
  /** By 'namespace/name' of the endpoint. */
  readonly views: ReadonlyMap<string, LabelView>
  readonly frontends: readonly Frontend[]
  /** Every address of every endpoint, merged: no network rule is about them. */
  readonly endpointPrefixes: readonly Prefix[]
  /** Addresses of this node, which are not the world. */
  readonly nodePrefixes: readonly Prefix[]
  /** What was worked out so far. */
  readonly outside: Map<string, OutsideBlock>
}

/** What rules say, before port sets have their numbers. */
export interface Fragment {
  readonly questions: readonly QuestionRule[]
  readonly names: readonly NameFragment[]
  readonly destinations: readonly DestinationRule[]
}

export interface NameFragment {
  readonly policy: string
  readonly pattern: NamePattern
  readonly ports: readonly PortRange[]
}

/** @param unresolved  gets the named ports that no selected endpoint has */
export function compileRule(
  rule: EgressRule,
  policy: string,
  verdict: 'allow' | 'deny',
  world: World,
  unresolved: UnresolvedPort[],
): Fragment {
  const { to } = rule
  switch (to.kind) {
    case 'none':
      return { questions: [], names: [], destinations: [] }
    case 'names': {
      const ports = rule.ports === null ? [] : rangesOf(rule.ports.flatMap((group) => group.ports))
      const opensNothing = rule.ports !== null && ports.length === 0
      const patterns = opensNothing ? [] : to.patterns
      const names = patterns.map(({ pattern }) => ({ policy, pattern, ports }))
      return { questions: [], names, destinations: [] }
    }
    case 'endpoints':
      return compileEndpoints(rule, to.selectors, { policy, verdict }, world, unresolved)
    case 'networks':
      return compileNetworks(rule, to.blocks, { policy, verdict }, world)
    case 'entities': {
      if (to.entities.includes('all')) return compileAll(rule, { policy, verdict })
      const blocks = to.entities.flatMap(() =>
        EVERYWHERE.map((prefix) => {
          const except = world.nodePrefixes.filter((hole) => coversPrefix(prefix, hole))
          return { prefix, except }
        }),
      )
      return compileNetworks(rule, blocks, { policy, verdict }, world)
    }
  }
}

/** Whose rule it is and what it says; goes into each rule made of it. */
interface Head {
  readonly policy: string
  readonly verdict: 'allow' | 'deny'
}

/** Every address, of endpoints and this node too: nothing behind a Service can be missing. */
function compileAll(rule: EgressRule, head: Head): Fragment {
  const prefixes = EVERYWHERE.map(formatPrefix)
  return joinFragments(
    groupsOf(rule).map((group) => {
      const ports = group.ports === null ? null : rangesOf(group.ports)
      const questions = questionRule(head, prefixes, ports, group)
      const destinations = destinationRule(head, prefixes, [], ports, group)
      return { questions, names: [], destinations }
    }),
  )
}

function compileNetworks(
  rule: EgressRule,
  blocks: readonly NetworkBlock[],
  head: Head,
  world: World,
): Fragment {
  const outside = blocks.map((block) => outsideOf(block, world))
  const fragments = groupsOf(rule).flatMap((group) =>
    outside.map((block): Fragment => {
      const ports = group.ports === null ? null : rangesOf(group.ports)
      const servers = isAboutQuestions(ports, group) ? block.servers() : []
      return {
        questions: [
          ...questionRule(head, servers, ports, group),
          ...frontendRules(head, frontendsInBlock(block, ports, group, head, world), group),
        ],
        names: [],
        destinations: destinationRule(head, block.prefixes, block.except, ports, group),
      }
    }),
  )
  return joinFragments(fragments)
}

/** A block without the endpoints in it. Many rules have the same, so each is worked out once. */
export class OutsideBlock {
  readonly prefix: Prefix
  readonly holes: readonly Prefix[]
  /** Empty when the block holds nothing but holes. */
  readonly prefixes: readonly string[]
  readonly except: readonly string[]
  readonly #clusterAddresses: readonly Prefix[]
  #servers: readonly string[] | null = null

  constructor(block: NetworkBlock, world: World) {
    // Merged, an endpoint's prefix may also be larger than the block.
    const inside = world.endpointPrefixes.filter(
      (inner) => coversPrefix(block.prefix, inner) || coversPrefix(inner, block.prefix),
    )
    this.prefix = block.prefix
    this.holes = mergePrefixes([...block.except, ...inside])
    const isAllHoles = this.holes.some((hole) => coversPrefix(hole, block.prefix))
    this.prefixes = isAllHoles ? [] : [formatPrefix(block.prefix)]
    this.except = sortedTexts(this.holes.map(formatPrefix))
    this.#clusterAddresses = world.frontends
      .filter(({ backends }) => backends.length > 0)
      .flatMap(({ addresses }) => addresses.map(prefixOfAddress).map(prefixOf))
  }

  /** What is left without ClusterIPs either: what counts there is what is behind them. */
  servers(): readonly string[] {
    if (this.#servers !== null) return this.#servers
    const taken = mergePrefixes([...this.holes, ...this.#clusterAddresses])
    this.#servers = subtractPrefixes([this.prefix], taken).map(formatPrefix)
    return this.#servers
  }

  holds(address: string): boolean {
    const inner = prefixOf(prefixOfAddress(address))
    return coversPrefix(this.prefix, inner) && !this.holes.some((hole) => coversPrefix(hole, inner))
  }
}

function outsideOf(block: NetworkBlock, world: World): OutsideBlock {
  const key = JSON.stringify([block.prefix, ...block.except].map(formatPrefix))
  const known = world.outside.get(key)
  if (known !== undefined) return known
  const outside = new OutsideBlock(block, world)
  world.outside.set(key, outside)
  return outside
}

function frontendsInBlock(
  block: OutsideBlock,
  ports: readonly PortRange[] | null,
  group: Group,
  head: Head,
  world: World,
): Frontend[] {
  return world.frontends.filter(
    (frontend) =>
      isAskable(frontend, group) &&
      frontend.backends.length > 0 &&
      areCovered(
        frontend,
        head,
        ({ address, port }) =>
          (ports === null || hasPort(ports, frontend.protocol, port)) && block.holds(address),
      ),
  )
}

function compileEndpoints(
  rule: EgressRule,
  selectors: readonly Selector[],
  head: Head,
  world: World,
  unresolved: UnresolvedPort[],
): Fragment {
  const selected = world.inventory.endpoints.filter((endpoint) => {
    const view = world.views.get(`${endpoint.namespace}/${endpoint.name}`)
    return view !== undefined && selectors.some((selector) => isSelected(selector, view))
  })
  const fragments = groupsOf(rule).map((group): Fragment => {
    const translated = world.frontends.filter(
      (frontend) =>
        isAskable(frontend, group) &&
        isFrontendSelected(frontend, group, head, { selectors, endpoints: selected }),
    )
    const parts = resolvePorts(group, selected, translated, unresolved).map(
      ({ addresses, ports }): Fragment => ({
        questions: questionRule(head, addresses, ports, group),
        names: [],
        destinations: destinationRule(head, addresses, [], ports, group),
      }),
    )
    const { questions, names, destinations } = joinFragments(parts)
    const own = frontendRules(head, translated, group)
    return { questions: [...questions, ...own], names, destinations }
  })
  return joinFragments(fragments)
}

/** `toPorts`, or one group that is every port. */
interface Group {
  readonly ports: PortGroup['ports'] | null
  readonly dns: PortGroup['dns']
}

function groupsOf(rule: EgressRule): readonly Group[] {
  return rule.ports ?? [{ ports: null, dns: null }]
}

function questionRule(
  head: Head,
  servers: readonly string[],
  ports: readonly PortRange[] | null,
  group: Group,
): QuestionRule[] {
  if (servers.length === 0 || !isAboutQuestions(ports, group)) return []
  const names = namesOf(group)
  const ranges = ports ?? [ALL_PORTS]
  return [{ ...questionHead(head), servers: sortedTexts(servers), ports: ranges, names }]
}

/** Without `rules.dns` a rule is about questions only where it opens port 53. */
function isAboutQuestions(ports: readonly PortRange[] | null, group: Group): boolean {
  if (ports === null) return true
  if (group.dns !== null) return ports.length > 0
  return hasPort(ports, 'udp', DNS_PORT) || hasPort(ports, 'tcp', DNS_PORT)
}

function isAskable({ port, protocol }: Frontend, group: Group): boolean {
  return protocol !== 'sctp' && (group.dns !== null || port === DNS_PORT)
}

/** Rules about ClusterIPs, on the Services' own ports. */
function frontendRules(head: Head, frontends: readonly Frontend[], group: Group): QuestionRule[] {
  return frontends.map(({ addresses, port, protocol }) => ({
    ...questionHead(head),
    servers: sortedTexts(addresses.map(prefixOfAddress)),
    ports: [{ protocol, first: port, last: port }],
    names: namesOf(group),
  }))
}

function questionHead({ policy, verdict }: Head): { policy: string; verdict?: 'deny' } {
  return verdict === 'deny' ? { policy, verdict } : { policy }
}

function namesOf(group: Group): NamePattern[] | null {
  return group.dns?.patterns?.map(({ pattern }) => pattern) ?? null
}

function destinationRule(
  head: Head,
  prefixes: readonly string[],
  except: readonly string[],
  ports: readonly PortRange[] | null,
  group: Group,
): DestinationRule[] {
  const opensNothing = prefixes.length === 0 || ports?.length === 0 || group.dns !== null
  if (opensNothing) return []
  return [{ ...head, prefixes: sortedTexts(prefixes), except, ports: ports ?? [] }]
}

interface Selected {
  readonly selectors: readonly Selector[]
  readonly endpoints: readonly Endpoint[]
}

/** Whether the backends are selected, and the group holds the port that they are reached on. */
function isFrontendSelected(
  frontend: Frontend,
  group: Group,
  head: Head,
  { selectors, endpoints }: Selected,
): boolean {
  const { labels, backends, protocol, target } = frontend
  const isNamed = (group.ports ?? []).some(
    (port) =>
      isNamedPort(port) &&
      port.name === target &&
      (port.protocol === 'any' || port.protocol === protocol),
  )
  const isImpliedByLabels =
    labels !== null && selectors.some((selector) => isImplied(selector, labels))
  if (backends.length === 0) {
    const isOpenTarget = typeof target === 'number' && isGroupOpen(group, frontend, target, [])
    return isImpliedByLabels && (isNamed || isOpenTarget)
  }
  const isSelectedAddress = (address: string) =>
    endpoints.some((endpoint) => endpoint.addresses.includes(address))
  return areCovered(
    frontend,
    head,
    ({ address, port }) =>
      (isNamed || isGroupOpen(group, frontend, port, endpoints)) &&
      (isImpliedByLabels || isSelectedAddress(address)),
  )
}

/** Every backend for a rule that allows, one for a rule that denies. */
function areCovered(
  { backends }: Frontend,
  head: Head,
  isCoveredBackend: (backend: Backend) => boolean,
): boolean {
  return head.verdict === 'deny'
    ? backends.some(isCoveredBackend)
    : backends.every(isCoveredBackend)
}

function isGroupOpen(
  group: Group,
  frontend: Frontend,
  port: number,
  selected: readonly Endpoint[],
): boolean {
  if (group.ports === null) return true
  const named = group.ports.filter(isNamedPort)
  const resolved = named.flatMap((wanted) =>
    selected.flatMap((endpoint) => endpoint.ports.filter((own) => isPortNamed(own, wanted))),
  )
  const ranges = resolved.map(
    ({ protocol, port: number }): PortRange => ({ protocol, first: number, last: number }),
  )
  return hasPort([...rangesOf(group.ports), ...ranges], frontend.protocol, port)
}

interface ResolvedPorts {
  readonly addresses: readonly string[]
  /** null: every protocol and port. */
  readonly ports: readonly PortRange[] | null
}

/** Endpoints whose names mean the same ports stay together. */
function resolvePorts(
  group: Group,
  selected: readonly Endpoint[],
  translated: readonly Frontend[],
  unresolved: UnresolvedPort[],
): ResolvedPorts[] {
  const ports = group.ports
  const named = ports?.filter(isNamedPort) ?? []
  if (ports === null || named.length === 0) {
    const addresses = selected.flatMap((endpoint) => endpoint.addresses.map(prefixOfAddress))
    return [{ addresses, ports: ports === null ? null : rangesOf(ports) }]
  }
  for (const port of named) {
    const isKnown =
      selected.some((endpoint) => endpoint.ports.some((own) => isPortNamed(own, port))) ||
      translated.some(({ target }) => target === port.name)
    if (!isKnown && selected.length > 0) unresolved.push(port)
  }
  const parts = new Map<string, { addresses: string[]; ports: PortRange[] }>()
  for (const endpoint of selected) {
    const own = endpoint.ports.filter((port) => named.some((wanted) => isPortNamed(port, wanted)))
    const ranges = own.map(
      ({ protocol, port }): PortRange => ({ protocol, first: port, last: port }),
    )
    const all = normalPorts([...rangesOf(ports), ...ranges])
    const key = JSON.stringify(all)
    const part = parts.get(key) ?? { addresses: [], ports: all }
    part.addresses.push(...endpoint.addresses.map(prefixOfAddress))
    parts.set(key, part)
  }
  return [...parts.values()]
}

function isPortNamed(own: NamedPort, wanted: UnresolvedPort): boolean {
  const isSameProtocol = wanted.protocol === 'any' || wanted.protocol === own.protocol
  return own.name.toLowerCase() === wanted.name && isSameProtocol
}

/** The ports that have numbers. */
function rangesOf(ports: PortGroup['ports']): PortRange[] {
  return normalPorts(ports.filter((port): port is PortRange => !isNamedPort(port)))
}

function joinFragments(fragments: readonly Fragment[]): Fragment {
  return {
    questions: fragments.flatMap(({ questions }) => questions),
    names: fragments.flatMap(({ names }) => names),
    destinations: fragments.flatMap(({ destinations }) => destinations),
  }
}

function sortedTexts(texts: readonly string[]): string[] {
  return [...new Set(texts)].toSorted(compareText)
}

function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text)
  assert(prefix !== null, 'addresses of an inventory are canonical')
  return prefix
}
