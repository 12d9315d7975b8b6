/**
 * CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy as YAML, read into policy/rule.ts.
 *
 * Everything in a file is either served or a fault: a key that is ignored would be a policy that
 * its author believes in and nobody enforces. Of a document with faults, what can be read is kept,
 * because whom it selects must be closed, not open.
 *
 * Source: Cilium v1.20.0-pre.4, pkg/policy/api/{rule,egress,cidr,entity,rule_validation}.go and
 * pkg/k8s/apis/cilium.io/v2.
 */
import { addressFault, parseAddress } from '../../identity/address.ts'
import { coversPrefix, formatPrefix, type Prefix, parsePrefix } from '../../identity/prefix.ts'
import type {
  Destination,
  EgressRule,
  Entity,
  NetworkBlock,
  PolicyDocument,
  PolicyRule,
} from '../rule.ts'
import type { PolicyEntry } from '../snapshot.ts'
import { readPeerSelector, readSubjectSelector } from './labels.ts'
import { suggestion } from './nearest.ts'
import { readNamespaceName, readObjectName } from './object-name.ts'
import { readPattern, readPortGroups } from './ports.ts'
import { YamlFile, type YamlValue } from './yaml.ts'

/** No policy that people write comes near it. */
const FILE_BYTES_MAX = 1 << 20

const API_VERSION = 'cilium.io/v2'
const KINDS = ['CiliumNetworkPolicy', 'CiliumClusterwideNetworkPolicy'] as const
const ENTITIES = ['all', 'world']
const OTHER_ENTITIES = [
  'cluster',
  'cluster-mesh',
  'health',
  'host',
  'ingress',
  'init',
  'kube-apiserver',
  'none',
  'remote-node',
  'unmanaged',
]
const DESTINATIONS = ['toEndpoints', 'toCIDR', 'toCIDRSet', 'toEntities', 'toFQDNs'] as const
const NOT_BUILT = 'is not supported by Namegate; remove it'
const INGRESS =
  'Namegate governs egress only; move ingress rules into a policy of their own, for whoever enforces them'

/** Every policy in a file, in its order, also those that cannot be used: see their faults. */
export function readCiliumPolicies(text: string, file: string): PolicyDocument[] {
  const yaml = new YamlFile(text, file, FILE_BYTES_MAX)
  // Faults of the YAML itself may have turned a document into another: each one has them all.
  const broken = yaml.faults.splice(0)
  const documents = yaml.documents.flatMap((value) => readDocument(yaml, value))
  if (yaml.limitFault !== null) broken.push(yaml.limitFault)
  if (broken.length === 0) return documents
  if (documents.length === 0) {
    const line = broken[0]!.line
    return [{ ...unreadable(file, line), faults: broken }]
  }
  return documents.map((document) => ({ ...document, faults: [...broken, ...document.faults] }))
}

function unreadable(file: string, line: number): PolicyDocument {
  const name = `${file}:${line}`
  return { name, kind: 'unknown', file, line, rules: [], faults: [], isLastGood: false }
}

/** One policy, or those of a List, or none for an empty document. */
function readDocument(yaml: YamlFile, value: YamlValue): PolicyDocument[] {
  if (value.isNull) return []
  const items = value.isMap ? value.entries()?.get('items') : undefined
  const kind = value.isMap ? value.entries()?.get('kind') : undefined
  yaml.faults.length = 0
  if (items !== undefined && kind !== undefined && /^\w*List$/.test(kind.text() ?? '')) {
    return (items.items() ?? []).map((item) => readPolicy(yaml, item))
  }
  return [readPolicy(yaml, value)]
}

function readPolicy(yaml: YamlFile, value: YamlValue): PolicyDocument {
  yaml.faults.length = 0
  const line = value.place.line
  const fields = value.fields(['apiVersion', 'kind', 'metadata', 'spec', 'specs', 'status'])
  const kind = fields === null ? 'unknown' : readKind(value, fields)
  if (fields === null || kind === 'unknown') {
    return { ...unreadable(yaml.file, line), faults: yaml.faults.splice(0) }
  }
  const { name, namespace } = readMetadata(value, fields.get('metadata'), kind)
  const spec = fields.get('spec')
  const specs = fields.get('specs')
  const rules: PolicyRule[] = []
  if (spec !== undefined) rules.push(readRule(spec, namespace))
  for (const item of specs?.items() ?? []) rules.push(readRule(item, namespace))
  if (spec === undefined && specs === undefined) value.fault('spec or specs must be provided')
  const fullName = namespace === null ? name : `${namespace}/${name}`
  return {
    name: name === null ? `${yaml.file}:${line}` : (fullName ?? ''),
    kind,
    file: yaml.file,
    line,
    rules,
    faults: yaml.faults.splice(0),
    isLastGood: false,
  }
}

function readKind(value: YamlValue, fields: ReadonlyMap<string, YamlValue>): PolicyEntry['kind'] {
  const kindValue = fields.get('kind')
  if (kindValue === undefined) {
    value.fault('kind is missing')
    return 'unknown'
  }
  const text = kindValue.text()
  const kind = KINDS.find((known) => known === text)
  if (text !== null && kind === undefined) {
    kindValue.fault(`kind '${text}' is not read here${suggestion(text, KINDS)}`)
  }
  const version = fields.get('apiVersion')
  if (version === undefined) value.fault(`apiVersion is missing; it is ${API_VERSION}`)
  else if (version.text() !== API_VERSION) version.fault(`apiVersion must be ${API_VERSION}`)
  return kind ?? 'unknown'
}

/** Other keys of metadata are the API server's own business. */
function readMetadata(
  value: YamlValue,
  metadata: YamlValue | undefined,
  kind: PolicyEntry['kind'],
): { name: string | null; namespace: string | null } {
  const fields = metadata?.entries() ?? null
  const nameValue = fields?.get('name')
  if (nameValue === undefined) (metadata ?? value).fault('metadata.name is missing')
  const name = nameValue === undefined ? null : readObjectName(nameValue)
  const namespaceValue = fields?.get('namespace')
  if (kind === 'CiliumNetworkPolicy') {
    return {
      name,
      namespace:
        namespaceValue === undefined ? 'default' : (readNamespaceName(namespaceValue) ?? ''),
    }
  }
  namespaceValue?.fault('a clusterwide policy has no namespace; remove it')
  return { name, namespace: null }
}

function readRule(value: YamlValue, namespace: string | null): PolicyRule {
  const place = value.place
  const fields = value.fields(
    ['endpointSelector', 'egress', 'egressDeny', 'enableDefaultDeny', 'description', 'labels'],
    {
      ingress: INGRESS,
      ingressDeny: INGRESS,
      nodeSelector: 'policies for nodes are not supported by Namegate; use endpointSelector',
      log: `log ${NOT_BUILT}`,
    },
  )
  if (fields === null) {
    return { place, subject: null, hasDefaultDeny: true, egress: [], egressDeny: [] }
  }
  const selector = fields.get('endpointSelector')
  if (selector === undefined && !fields.has('nodeSelector')) {
    value.fault('endpointSelector is missing; {} selects every pod of the namespace')
  }
  const subject = selector === undefined ? null : readSubjectSelector(selector, namespace)
  const egress = readEgress(fields.get('egress'), namespace, false)
  const egressDeny = readEgress(fields.get('egressDeny'), namespace, true)
  if (egress.length + egressDeny.length === 0 && !fields.has('ingress')) {
    value.fault('at least one rule in egress or egressDeny is needed; egress: [{}] allows nothing')
  }
  fields.get('description')?.text()
  const labels = fields.get('labels')
  if (labels !== undefined && !labels.isList) labels.fault('must be a list')
  const hasDefaultDeny = readDefaultDeny(fields.get('enableDefaultDeny')) ?? true
  return { place, subject, hasDefaultDeny, egress, egressDeny }
}

/** What is said of egress; null: nothing. */
function readDefaultDeny(value: YamlValue | undefined): boolean | null {
  const fields = value?.fields(['egress', 'ingress']) ?? null
  if (fields?.get('ingress')?.boolean() === true) fields.get('ingress')?.fault(INGRESS)
  return fields?.get('egress')?.boolean() ?? null
}

function readEgress(
  value: YamlValue | undefined,
  namespace: string | null,
  isDeny: boolean,
): EgressRule[] {
  return (value?.items() ?? []).map((item) => readEgressRule(item, namespace, isDeny))
}

function readEgressRule(item: YamlValue, namespace: string | null, isDeny: boolean): EgressRule {
  const place = item.place
  const fields = item.fields([...DESTINATIONS, 'toPorts'], {
    toServices: `toServices ${NOT_BUILT}`,
    toGroups: `toGroups ${NOT_BUILT}`,
    toNodes: `toNodes ${NOT_BUILT}`,
    toRequires: `toRequires ${NOT_BUILT}`,
    authentication: `authentication ${NOT_BUILT}`,
    icmps: `icmps ${NOT_BUILT}`,
  })
  if (fields === null) return { place, to: { kind: 'none' }, ports: [] }
  const [first, second] = DESTINATIONS.filter((key) => fields.has(key))
  if (first !== undefined && second !== undefined) {
    fields
      .get(second)
      ?.faultAtKey(`combining ${first} and ${second} in one rule is not supported; write two rules`)
  }
  const names = fields.get('toFQDNs')
  if (isDeny) names?.faultAtKey('names cannot be denied: they share addresses with others')
  const hasOtherKeys = [...fields.keys()].some((key) => key !== 'toPorts')
  const destination =
    first === 'toEndpoints' ? 'endpoints' : first === 'toFQDNs' ? 'names' : 'other'
  const ports = readPortGroups(fields.get('toPorts'), { isDeny, destination })
  if (first !== undefined) return { place, to: readDestination(first, fields, namespace), ports }
  // Ports without a destination are ports of every address; nothing at all is nowhere.
  const isAnywhere = ports !== null && !hasOtherKeys
  return {
    place,
    to: isAnywhere ? { kind: 'entities', entities: ['all'] } : { kind: 'none' },
    ports,
  }
}

function readDestination(
  key: (typeof DESTINATIONS)[number],
  fields: ReadonlyMap<string, YamlValue>,
  namespace: string | null,
): Destination {
  const items = fields.get(key)?.items() ?? []
  switch (key) {
    case 'toEndpoints': {
      const selectors = items.flatMap((item) => readPeerSelector(item, namespace) ?? [])
      return { kind: 'endpoints', selectors }
    }
    case 'toCIDR': {
      const blocks = items.flatMap((item) => {
        const prefix = readPrefix(item)
        return prefix === null ? [] : [{ prefix, except: [] }]
      })
      return { kind: 'networks', blocks }
    }
    case 'toCIDRSet':
      return { kind: 'networks', blocks: items.flatMap((item) => readBlock(item) ?? []) }
    case 'toEntities':
      return { kind: 'entities', entities: items.flatMap((item) => readEntity(item) ?? []) }
    case 'toFQDNs':
      return { kind: 'names', patterns: items.flatMap((item) => readPattern(item, 'grant') ?? []) }
  }
}

function readPrefix(item: YamlValue): Prefix | null {
  const text = item.text()
  const prefix = text === null ? null : parsePrefix(text)
  if (text === null || prefix !== null) return prefix
  const address = text.split('/')[0]!
  const bytes = parseAddress(address)
  if (bytes === null) return item.fault(addressFault(address))
  const bits = bytes.length * 8
  return item.fault(`'${text}' is no prefix; write ${address}/${bits} for the one address`)
}

function readBlock(item: YamlValue): NetworkBlock | null {
  const fields = item.fields(['cidr', 'except'], {
    cidrGroupRef: `cidrGroupRef ${NOT_BUILT}`,
    cidrGroupSelector: `cidrGroupSelector ${NOT_BUILT}`,
  })
  const cidr = fields?.get('cidr')
  if (fields === null) return null
  if (cidr === undefined) {
    if (fields.size === 0 || fields.has('except')) item.fault('cidr is missing')
    return null
  }
  const prefix = readPrefix(cidr)
  const except = (fields.get('except')?.items() ?? []).map((hole) => {
    const inner = readPrefix(hole)
    if (prefix === null || inner === null || coversPrefix(prefix, inner)) return inner
    return hole.fault(`${formatPrefix(inner)} does not lie in ${formatPrefix(prefix)}`)
  })
  if (prefix === null || except.some((hole) => hole === null)) return null
  return { prefix, except: except.filter((hole) => hole !== null) }
}

function readEntity(item: YamlValue): Entity | null {
  const text = item.text()
  if (text === null) return null
  if (text === 'all' || text === 'world') return text
  if (OTHER_ENTITIES.includes(text)) return item.fault(`entity '${text}' ${NOT_BUILT}`)
  return item.fault(`unknown entity '${text}'${suggestion(text, ENTITIES)}`)
}
