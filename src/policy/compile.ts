/**
 * Compiles policies, endpoints and Services into a snapshot. The agent calls it whenever one of
 * them changes; it is a function of its input and nothing else, so that every process, and the
 * same process tomorrow, gets the same bytes from the same files, in whatever order they were read.
 *
 * What must stay true:
 * - A client is governed as soon as one policy with default deny selects it, or one with a fault.
 *   Then only what rules allow is open: rules of several policies add up, deny wins.
 * - A policy with a fault allows nothing, and nothing else opens its clients: names may be asked
 *   as the good policies say, connections wait until it is repaired.
 * - No empty list and nothing unknown ever allows.
 */
import type { Endpoint, Inventory } from '../identity/endpoint.ts'
import { mergePrefixes, parsePrefix, prefixOfAddress } from '../identity/prefix.ts'
import { isSelected, viewLabels } from '../identity/selector.ts'
import { compileRule, type Fragment, type NameFragment, type World } from './compile-rule.ts'
import { contentId } from './content-hash.ts'
import { ALL_PORTS, compareText, numberPortSets } from './port-set.ts'
import type { PolicyDocument, PolicyRule, UnresolvedPort } from './rule.ts'
import { type Frontend, listFrontends } from './services.ts'
import {
  type ClientEntry,
  type KnownPlace,
  PORT_SETS_MAX,
  type PolicyEntry,
  type PolicyFault,
  type PortSet,
  SNAPSHOT_LAYOUT,
  type Snapshot,
  type Subject,
} from './snapshot.ts'
import { DNS_PORT } from './stand-ins.ts'

const SUBJECT_ID_DIGITS = 12
const EVERYWHERE = ['0.0.0.0/0', '::/0']

export interface CompileInput {
  readonly inventory: Inventory
  readonly policies: readonly PolicyDocument[]
  /** Addresses of this node, canonical text: no part of the world. */
  readonly nodeAddresses: readonly string[]
  /** Port sets that a process or the kernel may still know: they keep their numbers. */
  readonly formerPortSets: readonly PortSet[]
  readonly revision: number
  readonly mode: Snapshot['mode']
  readonly denyResponse: Snapshot['denyResponse']
  readonly unknown: Snapshot['unknown']
}

export function compileSnapshot(input: CompileInput): Snapshot {
  const world = describeWorld(input.inventory, input.nodeAddresses)
  let policies = input.policies.map((document) => compilePolicy(document, world))
  let portSets = numberPortSets(portsOf(policies), input.formerPortSets)
  if (portSets.size < new Set(portsOf(policies)).size) {
    policies = policies.map((policy) => refuseUnnumbered(policy, portSets))
    portSets = numberPortSets(portsOf(policies), input.formerPortSets)
  }
  policies = policies.toSorted(
    (a, b) => compareText(a.document.name, b.document.name) || compareText(orderOf(a), orderOf(b)),
  )
  const { clients, subjects, counts } = selectSubjects(policies, world, portSets)
  const used = new Set(subjects.flatMap(({ names }) => names.map(({ portSet }) => portSet)))
  return {
    layout: SNAPSHOT_LAYOUT,
    revision: input.revision,
    mode: input.mode,
    denyResponse: input.denyResponse,
    unknown: input.unknown,
    clients,
    places: listPlaces(world),
    subjects,
    portSets: [...portSets.values()]
      .filter(({ number }) => used.has(number))
      .toSorted((a, b) => a.number - b.number),
    policies: policies.map((policy) => policyEntry(policy, counts.get(policy) ?? 0)),
  }
}

interface CompiledPolicy {
  readonly document: PolicyDocument
  readonly rules: readonly CompiledRule[]
  readonly faults: readonly PolicyFault[]
  /** Its rules do not count. */
  readonly isFaulty: boolean
}

interface CompiledRule {
  readonly rule: PolicyRule
  readonly fragments: readonly Fragment[]
  readonly hasDeny: boolean
}

function describeWorld(inventory: Inventory, nodeAddresses: readonly string[]): World {
  const namespaces = new Map(inventory.namespaces.map((entry) => [entry.name, entry]))
  const views = new Map(
    inventory.endpoints.map((endpoint) => [nameOf(endpoint), viewLabels(endpoint, namespaces)]),
  )
  const addresses = inventory.endpoints.flatMap((endpoint) => endpoint.addresses)
  const prefixes = (texts: readonly string[]) =>
    texts.flatMap((text) => parsePrefix(prefixOfAddress(text)) ?? [])
  return {
    inventory,
    views,
    frontends: listFrontends(inventory, views),
    endpointPrefixes: mergePrefixes(prefixes(addresses)),
    nodePrefixes: prefixes(nodeAddresses),
    outside: new Map(),
  }
}

function compilePolicy(document: PolicyDocument, world: World): CompiledPolicy {
  const unresolved: UnresolvedPort[] = []
  const rules = document.rules.map((rule): CompiledRule => {
    const allowed = rule.egress.map((egress) =>
      compileRule(egress, document.name, 'allow', world, unresolved),
    )
    const denied = rule.egressDeny.map((egress) =>
      compileRule(egress, document.name, 'deny', world, unresolved),
    )
    return { rule, fragments: [...denied, ...allowed], hasDeny: denied.length > 0 }
  })
  const faults = unresolved.map(({ name, place }): PolicyFault => {
    const message = `no endpoint that this rule selects has a port named '${name}'; write the number`
    return { file: document.file, ...place, message }
  })
  const isFaulty = faults.length > 0 || (document.faults.length > 0 && !document.isLastGood)
  return { document, rules, faults: [...document.faults, ...faults], isFaulty }
}

function portsOf(policies: readonly CompiledPolicy[]): string[] {
  return policies.flatMap(({ rules, isFaulty }) =>
    isFaulty
      ? []
      : rules.flatMap((rule) => namesOf(rule).map(({ ports }) => JSON.stringify(ports))),
  )
}

function namesOf({ fragments }: CompiledRule): NameFragment[] {
  return fragments.flatMap(({ names }) => names)
}

function refuseUnnumbered(
  policy: CompiledPolicy,
  portSets: ReadonlyMap<string, PortSet>,
): CompiledPolicy {
  const names = policy.rules.flatMap(namesOf)
  if (names.every(({ ports }) => portSets.has(JSON.stringify(ports)))) return policy
  const { file, line } = policy.document
  const message = `all ${PORT_SETS_MAX} sets of ports are taken; use the same ports in more rules`
  const fault: PolicyFault = { file, line, column: 1, field: '', message }
  return { ...policy, faults: [...policy.faults, fault], isFaulty: true }
}

/** Tells policies of one name apart, the same in every order of reading. */
function orderOf({ document }: CompiledPolicy): string {
  return `${document.kind} ${document.file} ${String(document.line).padStart(8, '0')}`
}

function selectSubjects(
  policies: readonly CompiledPolicy[],
  world: World,
  portSets: ReadonlyMap<string, PortSet>,
): { clients: ClientEntry[]; subjects: Subject[]; counts: Map<CompiledPolicy, number> } {
  const counts = new Map<CompiledPolicy, number>()
  const bySelection = new Map<string, string | null>()
  const contents = new Map<string, SubjectContent>()
  const local = world.inventory.endpoints
    .filter(({ isClient }) => isClient)
    .toSorted((a, b) => compareText(a.namespace, b.namespace) || compareText(a.name, b.name))
  const chosen = local.map((endpoint) => {
    const view = world.views.get(nameOf(endpoint)) ?? new Map<string, string>()
    const selection = policies.map(({ rules }) =>
      rules.map(({ rule }) => rule.subject !== null && isSelected(rule.subject, view)),
    )
    for (const [index, policy] of policies.entries()) {
      if (selection[index]!.includes(true)) counts.set(policy, (counts.get(policy) ?? 0) + 1)
    }
    const key = selection.map((row) => row.map(Number).join('')).join(' ')
    if (!bySelection.has(key)) {
      const content = subjectContent(policies, selection, portSets)
      const text = content === null ? null : JSON.stringify(content)
      if (content !== null && text !== null) contents.set(text, content)
      bySelection.set(key, text)
    }
    return { endpoint, content: bySelection.get(key) ?? null }
  })
  const subjects = nameSubjects(contents)
  const sorted = [...subjects].toSorted(([, a], [, b]) => compareText(a.id, b.id))
  const indexes = new Map(sorted.map(([content], index) => [content, index]))
  const clients = chosen.map(({ endpoint, content }): ClientEntry => {
    const subject = content === null ? -1 : indexes.get(content)!
    return clientEntry(endpoint, subject)
  })
  return { clients, subjects: sorted.map(([, subject]) => subject), counts }
}

type SubjectContent = Omit<Subject, 'id'>

/** What the selected rules come to; null: they govern nothing. */
function subjectContent(
  policies: readonly CompiledPolicy[],
  selection: readonly (readonly boolean[])[],
  portSets: ReadonlyMap<string, PortSet>,
): SubjectContent | null {
  const selecting = policies.filter((_, index) => selection[index]!.includes(true))
  const rules = policies.flatMap((policy, index) =>
    policy.isFaulty ? [] : policy.rules.filter((_, place) => selection[index]![place] === true),
  )
  const isFaulty = selecting.some((policy) => policy.isFaulty)
  const hasDefaultDeny = rules.some(({ rule }) => rule.hasDefaultDeny)
  const hasDeny = rules.some((rule) => rule.hasDeny)
  if (!isFaulty && !hasDefaultDeny && !hasDeny) return null
  const fragments = rules.flatMap((rule) => rule.fragments)
  // Deny rules without default deny: everything else stays as open as without them.
  if (!isFaulty && !hasDefaultDeny) fragments.push(everything())
  const questions = fragments.flatMap((fragment) => fragment.questions)
  const names = fragments.flatMap((fragment) =>
    fragment.names.map(({ policy, pattern, ports }) => {
      const portSet = portSets.get(JSON.stringify(ports))!.number
      return { policy, pattern, portSet }
    }),
  )
  const destinations = fragments.flatMap((fragment) => fragment.destinations)
  return {
    policies: [...new Set(selecting.map(({ document }) => document.name))].toSorted(compareText),
    isFaulty,
    questions: distinct(questions),
    names: isFaulty ? [] : distinct(names),
    destinations: isFaulty ? [] : distinct(destinations),
  }
}

/** What somebody whom no policy selects may do; no policy says it, so it names none. */
function everything(): Fragment {
  const policy = ''
  return {
    questions: [{ policy, servers: EVERYWHERE, ports: [ALL_PORTS], names: null }],
    names: [],
    destinations: [{ policy, verdict: 'allow', prefixes: EVERYWHERE, except: [], ports: [] }],
  }
}

/** Gives each content its id; of two that hash to the same, the later in order gets another. */
function nameSubjects(contents: ReadonlyMap<string, SubjectContent>): Map<string, Subject> {
  const ids = new Set<string>()
  const subjects = new Map<string, Subject>()
  for (const [text, content] of [...contents].toSorted(([a], [b]) => compareText(a, b))) {
    let salt = 0
    let id = contentId(text, SUBJECT_ID_DIGITS)
    while (ids.has(id)) id = contentId(text, SUBJECT_ID_DIGITS, ++salt)
    ids.add(id)
    subjects.set(text, { id, ...content })
  }
  return subjects
}

/** Sorted by content, each once. */
function distinct<Rule>(rules: readonly Rule[]): Rule[] {
  const byContent = new Map(rules.map((rule) => [JSON.stringify(rule), rule]))
  return [...byContent].toSorted(([a], [b]) => compareText(a, b)).map(([, rule]) => rule)
}

function clientEntry(endpoint: Endpoint, subject: number): ClientEntry {
  const labels = Object.entries(endpoint.labels).toSorted(([a], [b]) => compareText(a, b))
  return {
    namespace: endpoint.namespace,
    name: endpoint.name,
    labels: Object.fromEntries(labels),
    addresses: endpoint.addresses.toSorted(compareText),
    interface: endpoint.interface,
    subject,
  }
}

function listPlaces({ inventory, frontends }: World): KnownPlace[] {
  const pods = inventory.endpoints.filter(({ isClient }) => !isClient)
  return [...inventory.services, ...pods]
    .filter(({ addresses }) => addresses.length > 0)
    .map(({ namespace, name, addresses }) => ({
      namespace,
      name,
      addresses: addresses.toSorted(compareText),
      ...dnsOf(frontends.filter((frontend) => frontend.addresses === addresses)),
    }))
    .toSorted(
      (a, b) =>
        compareText(a.namespace, b.namespace) ||
        compareText(a.name, b.name) ||
        // A Service and a pod may have the same name.
        compareText(a.addresses[0]!, b.addresses[0]!),
    )
}

function dnsOf(frontends: readonly Frontend[]): Pick<KnownPlace, 'dns'> {
  const dns = frontends
    .filter(({ port, protocol }) => port === DNS_PORT && protocol === 'udp')
    .flatMap(({ backends }) => backends)
    .toSorted((a, b) => compareText(a.address, b.address) || a.port - b.port)
  return dns.length === 0 ? {} : { dns }
}

function policyEntry({ document, faults }: CompiledPolicy, clientCount: number): PolicyEntry {
  const { name, kind, file } = document
  const sorted = faults.toSorted((a, b) => a.line - b.line || a.column - b.column)
  return { name, kind, file, clientCount, faults: distinctFaults(sorted) }
}

function distinctFaults(faults: readonly PolicyFault[]): PolicyFault[] {
  return [...new Map(faults.map((fault) => [JSON.stringify(fault), fault])).values()]
}

function nameOf({ namespace, name }: Endpoint): string {
  return `${namespace}/${name}`
}
