/**
 * The clients file: who has which address. YAML documents, each a list in Namegate's short form or
 * an object as `kubectl get -o yaml` prints it (Pod, Namespace, Service, EndpointSlice, List).
 *
 * What must stay true: an address belongs to one client, and a client cannot choose its namespace
 * or service account by labels. What is left out on purpose (pods of the host's network, finished
 * pods) is said in a note; what cannot be read is a fault, and then the whole file counts for
 * nothing.
 */
import { EMPTY_INVENTORY, type Inventory } from '../../identity/endpoint.ts'
import type { PolicyFault } from '../snapshot.ts'
import { type Found, readAddress } from './found.ts'
import { readEndpointSlice, readNamespace, readPod, readService } from './kubernetes.ts'
import { readLabels } from './labels.ts'
import { suggestion } from './nearest.ts'
import { readNamespaceName, readObjectName } from './object-name.ts'
import { YamlFile, type YamlValue } from './yaml.ts'

/** `kubectl get pods -o yaml` prints about 10 KiB a pod. */
const FILE_BYTES_MAX = 64 << 20
/** Linux's IFNAMSIZ - 1. */
const INTERFACE_LENGTH_MAX = 15

const KINDS = ['Pod', 'Namespace', 'Service', 'EndpointSlice', 'List']

export interface ClientsFile {
  /** Empty when there are faults. */
  readonly inventory: Inventory
  readonly faults: readonly PolicyFault[]
  /** What was left out, and why; one sentence each. */
  readonly notes: readonly string[]
}

/**
 * @param node  the name of this node: pods of others can be destinations, but are no clients;
 *   null: every pod is of this node
 */
export function readClients(text: string, file: string, node: string | null): ClientsFile {
  const yaml = new YamlFile(text, file, FILE_BYTES_MAX)
  const found: Found = { endpoints: [], namespaces: [], services: [], slices: [], notes: [] }
  for (const value of yaml.documents) readDocument(value, found, node)
  checkUnique(found)
  if (yaml.limitFault !== null) yaml.faults.push(yaml.limitFault)
  const { namespaces, services, slices } = found
  const endpoints = found.endpoints.map(({ endpoint }) => endpoint)
  const isWhole = yaml.faults.length === 0
  const inventory = isWhole ? { endpoints, namespaces, services, slices } : EMPTY_INVENTORY
  return { inventory, faults: yaml.faults, notes: found.notes }
}

function readDocument(value: YamlValue, found: Found, node: string | null): void {
  if (value.isNull) return
  if (value.isList) {
    for (const item of value.items() ?? []) readShort(item, found)
    return
  }
  readObject(value, found, node)
}

function readObject(value: YamlValue, found: Found, node: string | null): void {
  const fields = value.entries()
  if (fields === null) return
  const kindValue = fields.get('kind')
  if (kindValue === undefined) {
    value.fault('kind is missing; a list of {name, addresses} or a Kubernetes object is expected')
    return
  }
  const kind = kindValue.text()
  switch (kind) {
    case null:
      return
    case 'Pod':
      readPod(value, fields, found, node)
      return
    case 'Namespace':
      readNamespace(value, fields, found)
      return
    case 'Service':
      readService(value, fields, found)
      return
    case 'EndpointSlice':
      readEndpointSlice(value, fields, found)
      return
    case 'List':
    case 'PodList':
    case 'NamespaceList':
    case 'ServiceList':
    case 'EndpointSliceList':
      for (const item of fields.get('items')?.items() ?? []) readObject(item, found, node)
      return
    default:
      kindValue.fault(`kind '${kind}' says nothing about clients${suggestion(kind, KINDS)}`)
  }
}

/** {name, namespace, labels, addresses, interface?} */
function readShort(value: YamlValue, found: Found): void {
  const fields = value.fields(['name', 'namespace', 'labels', 'addresses', 'interface'])
  if (fields === null) return
  const nameValue = fields.get('name')
  const name = nameValue === undefined ? value.fault('name is missing') : readObjectName(nameValue)
  const namespaceValue = fields.get('namespace')
  const namespace = namespaceValue === undefined ? 'default' : readNamespaceName(namespaceValue)
  const labelsValue = fields.get('labels')
  const labels = labelsValue === undefined ? {} : readLabels(labelsValue)
  const link = readInterface(fields.get('interface'))
  const list = fields.get('addresses')
  const items = list === undefined ? [] : (list.items() ?? [])
  if (items.length === 0 && list?.isList !== false) {
    ;(list ?? value).fault('addresses must name at least one address')
  }
  const addresses = items.map(readAddress)
  if (name === null || namespace === null || labels === null || addresses.length === 0) return
  const known = addresses.filter((address) => address !== null)
  if (known.length < addresses.length) return
  found.endpoints.push({
    value,
    endpoint: {
      namespace,
      name,
      labels,
      addresses: known,
      interface: link,
      isClient: true,
      ports: [],
    },
  })
}

function readInterface(value: YamlValue | undefined): string | null {
  const text = value?.text() ?? null
  if (text === null || (/^[^\s/"]+$/.test(text) && text.length <= INTERFACE_LENGTH_MAX)) return text
  return value?.fault(`'${text}' is no name of an interface`) ?? null
}

/** One client a name, one client an address, one address a client. */
function checkUnique(found: Found): void {
  const names = new Map<string, number>()
  const owners = new Map<string, string>()
  for (const { endpoint, value } of found.endpoints) {
    const name = `${endpoint.namespace}/${endpoint.name}`
    const line = names.get(name)
    if (line !== undefined) value.fault(`${name} is already in line ${line}`)
    names.set(name, value.place.line)
    for (const address of endpoint.addresses) {
      const owner = owners.get(address)
      if (owner !== undefined) value.fault(`address ${address} already belongs to ${owner}`)
      owners.set(address, name)
    }
  }
}
