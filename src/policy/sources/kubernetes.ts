/**
 * The fields of Kubernetes objects that say who has which address: Pod, Namespace, Service,
 * EndpointSlice. Called by policy/sources/clients.ts. Objects come from an API server, so fields
 * that are not read here are nobody's mistake.
 *
 * Source: Kubernetes API reference, core/v1 and discovery.k8s.io/v1.
 */
import type { NamedPort, Protocol, ServicePort } from '../../identity/endpoint.ts'
import { isOwnLabel, SERVICE_ACCOUNT_KEY } from '../../identity/selector.ts'
import { type Found, readAddress } from './found.ts'
import { readNamespaceName, readObjectName } from './object-name.ts'
import type { YamlValue } from './yaml.ts'

type Fields = ReadonlyMap<string, YamlValue>

/** Labels that only Cilium's agent writes, from what it knows itself. */
const CILIUM_LABEL_PREFIX = 'io.cilium.k8s.'
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name'

export function readPod(value: YamlValue, fields: Fields, found: Found, node: string | null): void {
  const metadata = readMetadata(value, fields)
  if (metadata === null) return
  const spec = optionalFields(fields.get('spec'))
  const status = optionalFields(fields.get('status'))
  const name = `${metadata.namespace}/${metadata.name}`
  if (spec.get('hostNetwork')?.boolean() === true) {
    found.notes.push(`pod ${name} is left out: it uses the node's own network`)
    return
  }
  const phase = status.get('phase')?.text()
  if (phase === 'Succeeded' || phase === 'Failed') {
    found.notes.push(`pod ${name} is left out: it has ended (${phase})`)
    return
  }
  const addresses = readPodAddresses(status)
  if (addresses === null) return
  if (addresses.length === 0) {
    found.notes.push(`pod ${name} is left out: it has no address yet`)
    return
  }
  const nodeName = spec.get('nodeName')?.text() ?? null
  const account = spec.get('serviceAccountName')?.text() ?? null
  const own = Object.entries(metadata.labels).filter(
    ([key]) => isOwnLabel(key) && !key.startsWith(CILIUM_LABEL_PREFIX),
  )
  const labels = Object.fromEntries(own)
  if (account !== null) labels[SERVICE_ACCOUNT_KEY] = account
  const isClient = node === null || nodeName === null || nodeName === node
  const ports = readContainerPorts(spec.get('containers'))
  found.endpoints.push({
    value,
    endpoint: {
      namespace: metadata.namespace,
      name: metadata.name,
      labels,
      addresses,
      interface: null,
      isClient,
      ports,
    },
  })
}

export function readNamespace(value: YamlValue, fields: Fields, found: Found): void {
  const metadata = readMetadata(value, fields)
  if (metadata !== null) found.namespaces.push({ name: metadata.name, labels: metadata.labels })
}

export function readService(value: YamlValue, fields: Fields, found: Found): void {
  const metadata = readMetadata(value, fields)
  const spec = optionalFields(fields.get('spec'))
  if (metadata === null) return
  const type = spec.get('type')?.text()
  const listed = optionalItems(spec.get('clusterIPs'))
  const single = spec.get('clusterIP')
  const values = listed.length > 0 ? listed : single === undefined || single.isNull ? [] : [single]
  // '': the API server has given it no address yet.
  const isHeadless = values.some((item) => item.text() === 'None' || item.text() === '')
  if (type === 'ExternalName') return
  const addresses = isHeadless ? [] : values.flatMap((item) => readAddress(item) ?? [])
  const selectorValue = spec.get('selector')
  const selector =
    selectorValue === undefined || selectorValue.isNull ? null : readTexts(selectorValue)
  const ports = optionalItems(spec.get('ports')).flatMap((item) => readServicePort(item) ?? [])
  // Kubernetes gives a Service with an empty selector no endpoints of its own either.
  const isSelecting = selector !== null && Object.keys(selector).length > 0
  found.services.push({
    namespace: metadata.namespace,
    name: metadata.name,
    selector: isSelecting ? selector : null,
    addresses,
    ports,
  })
}

export function readEndpointSlice(value: YamlValue, fields: Fields, found: Found): void {
  const metadata = readMetadata(value, fields)
  if (metadata === null) return
  const name = `${metadata.namespace}/${metadata.name}`
  const service = metadata.labels[SERVICE_NAME_LABEL]
  const type = fields.get('addressType')?.text()
  if (service === undefined || type === 'FQDN') {
    const reason = service === undefined ? 'it names no Service' : 'its endpoints are names'
    found.notes.push(`EndpointSlice ${name} is left out: ${reason}`)
    return
  }
  const addresses: string[] = []
  for (const item of optionalItems(fields.get('endpoints'))) {
    const endpoint = optionalFields(item)
    const conditions = optionalFields(endpoint.get('conditions'))
    const ready = conditions.get('ready')
    // Source: discovery/v1 EndpointConditions: no value means ready.
    if (ready !== undefined && !ready.isNull && ready.boolean() === false) continue
    for (const address of optionalItems(endpoint.get('addresses'))) {
      const text = readAddress(address)
      if (text !== null) addresses.push(text)
    }
  }
  const ports = optionalItems(fields.get('ports')).flatMap(
    (item) => readNamedPort(item, 'port') ?? [],
  )
  found.slices.push({ namespace: metadata.namespace, service, addresses, ports })
}

interface Metadata {
  readonly name: string
  readonly namespace: string
  readonly labels: Record<string, string>
}

function readMetadata(value: YamlValue, fields: Fields): Metadata | null {
  const metadata = optionalFields(fields.get('metadata'))
  const nameValue = metadata.get('name')
  if (nameValue === undefined) return value.fault('metadata.name is missing')
  const namespaceValue = metadata.get('namespace')
  const name = readObjectName(nameValue)
  const namespace = namespaceValue === undefined ? 'default' : readNamespaceName(namespaceValue)
  if (name === null || namespace === null) return null
  const labels = metadata.get('labels')
  return { name, namespace, labels: labels === undefined || labels.isNull ? {} : readTexts(labels) }
}

/** status.podIPs, or what older servers print; null, with a fault, when one is no address. */
function readPodAddresses(status: Fields): string[] | null {
  const list = optionalItems(status.get('podIPs')).flatMap(
    (item) => optionalFields(item).get('ip') ?? [],
  )
  const single = status.get('podIP')
  const values = list.length > 0 ? list : single === undefined || single.isNull ? [] : [single]
  const addresses = values.map(readAddress)
  const known = addresses.filter((address) => address !== null)
  return known.length === addresses.length ? [...new Set(known)] : null
}

function readContainerPorts(containers: YamlValue | undefined): NamedPort[] {
  return optionalItems(containers).flatMap((item) =>
    optionalItems(optionalFields(item).get('ports')).flatMap((port) => {
      const hasName = optionalFields(port).has('name')
      return hasName ? (readNamedPort(port, 'containerPort') ?? []) : []
    }),
  )
}

/** A port without a number means every port of the endpoint, and has no name to go by. */
function readNamedPort(item: YamlValue, key: 'port' | 'containerPort'): NamedPort | null {
  const fields = optionalFields(item)
  const number = fields.get(key)
  if (number === undefined || number.isNull) return null
  const port = number.integer(1, 65535)
  const protocol = readProtocol(fields.get('protocol'))
  const name = fields.get('name')
  const text = name === undefined || name.isNull ? '' : name.text()
  return port === null || protocol === null || text === null ? null : { name: text, port, protocol }
}

function readServicePort(item: YamlValue): ServicePort | null {
  const named = readNamedPort(item, 'port')
  if (named === null) return null
  const target = optionalFields(item).get('targetPort')
  if (target === undefined || target.isNull) return { ...named, target: named.port }
  const value = target.isNumber ? target.integer(0, 65535) : target.text()
  // 0 is what the API server prints for "the same".
  return value === null ? null : { ...named, target: value === 0 ? named.port : value }
}

function readProtocol(value: YamlValue | undefined): Protocol | null {
  if (value === undefined || value.isNull) return 'tcp'
  const text = value.text()?.toLowerCase() ?? null
  if (text === 'tcp' || text === 'udp' || text === 'sctp' || text === null) return text
  return value.fault(`unknown protocol '${text}'`)
}

/** Texts by key, as labels are; values that are no text are faults. */
function readTexts(value: YamlValue): Record<string, string> {
  const texts: [string, string][] = []
  for (const [key, item] of value.entries() ?? []) {
    const text = item.text()
    if (text !== null) texts.push([key, text])
  }
  return Object.fromEntries(texts)
}

function optionalFields(value: YamlValue | undefined): Fields {
  return value === undefined || value.isNull ? new Map() : (value.entries() ?? new Map())
}

function optionalItems(value: YamlValue | undefined): readonly YamlValue[] {
  return value === undefined || value.isNull ? [] : (value.items() ?? [])
}
