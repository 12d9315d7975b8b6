/**
 * Label selectors as Cilium writes them, read into Namegate's: sources' prefixes removed, the
 * namespace of the policy added. Used by policy/sources/cilium.ts.
 *
 * Source: Cilium pkg/k8s/apis/cilium.io/utils (which selectors get the policy's namespace);
 * Kubernetes, "Labels and Selectors" (syntax of keys and values).
 */
import {
  isOwnLabel,
  NAMESPACE_KEY,
  NAMESPACE_LABELS_PREFIX,
  type Requirement,
  type Selector,
  SERVICE_ACCOUNT_KEY,
} from '../../identity/selector.ts'
import { suggestion } from './nearest.ts'
import type { YamlValue } from './yaml.ts'

const OPERATORS = {
  In: 'in',
  NotIn: 'notIn',
  Exists: 'exists',
  DoesNotExist: 'doesNotExist',
} as const

/** Keys of Cilium's own that are not among the labels that Namegate knows. */
const CILIUM_KEY_PREFIX = 'io.cilium.k8s.'

const KEY =
  /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?$/
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/

/**
 * Whom the policy is about; null, with a fault, when that cannot be said.
 * @param namespace  of the policy, which it cannot leave; null for a clusterwide one
 */
export function readSubjectSelector(value: YamlValue, namespace: string | null): Selector | null {
  const requirements = readRequirements(value)
  if (requirements === null) return null
  if (namespace === null) return { requirements }
  const foreign = requirements.find(({ key }) => key === NAMESPACE_KEY)
  const isOwn = foreign?.operator === 'in' && foreign.values.every((name) => name === namespace)
  if (foreign !== undefined && !isOwn) {
    value.fault(
      `a CiliumNetworkPolicy selects pods of its own namespace '${namespace}' only; use a CiliumClusterwideNetworkPolicy for others`,
    )
  }
  const own = requirements.filter(({ key }) => key !== NAMESPACE_KEY)
  return { requirements: [...own, inNamespace(namespace)] }
}

/** Whom a rule leads to: in the policy's namespace, unless the selector speaks of namespaces. */
export function readPeerSelector(value: YamlValue, namespace: string | null): Selector | null {
  const requirements = readRequirements(value)
  if (requirements === null) return null
  const isScoped = requirements.some(({ key }) => !isOwnLabel(key))
  if (isScoped || namespace === null) return { requirements }
  return { requirements: [...requirements, inNamespace(namespace)] }
}

/** Labels as an object has them; faults for those that Kubernetes would not take. */
export function readLabels(value: YamlValue): Record<string, string> | null {
  const entries = value.entries()
  if (entries === null) return null
  const labels: [string, string][] = []
  for (const [key, item] of entries) {
    const text = item.text()
    if (!KEY.test(key)) item.faultAtKey(`'${key}' is no label key`)
    else if (text !== null && !VALUE.test(text)) item.fault(`'${text}' is no label value`)
    else if (text !== null) labels.push([key, text])
  }
  return labels.length === entries.size ? Object.fromEntries(labels) : null
}

function inNamespace(namespace: string): Requirement {
  return { key: NAMESPACE_KEY, operator: 'in', values: [namespace] }
}

function readRequirements(value: YamlValue): Requirement[] | null {
  const fields = value.fields(['matchLabels', 'matchExpressions'])
  if (fields === null) return null
  let isWhole = [...fields.keys()].every(
    (key) => key === 'matchLabels' || key === 'matchExpressions',
  )
  const requirements: Requirement[] = []
  const add = (requirement: Requirement | null) => {
    if (requirement === null) isWhole = false
    else requirements.push(requirement)
  }
  const labelsValue = fields.get('matchLabels')
  const labels = labelsValue === undefined ? new Map<string, YamlValue>() : labelsValue.entries()
  for (const [key, item] of labels ?? []) add(readMatchLabel(key, item))
  const expressionsValue = fields.get('matchExpressions')
  const expressions = expressionsValue === undefined ? [] : expressionsValue.items()
  for (const item of expressions ?? []) add(readExpression(item))
  return isWhole && labels !== null && expressions !== null ? requirements : null
}

function readMatchLabel(key: string, item: YamlValue): Requirement | null {
  const ownKey = readKey(key, item, true)
  const value = readLabelValue(item)
  return ownKey === null || value === null ? null : { key: ownKey, operator: 'in', values: [value] }
}

function readExpression(item: YamlValue): Requirement | null {
  const fields = item.fields(['key', 'operator', 'values'])
  const keyValue = fields?.get('key')
  const operatorValue = fields?.get('operator')
  if (fields === null) return null
  if (keyValue === undefined || operatorValue === undefined) {
    return item.fault('key and operator are needed')
  }
  const text = keyValue.text()
  const key = text === null ? null : readKey(text, keyValue, false)
  const word = operatorValue.text()
  if (key === null || word === null) return null
  if (!Object.hasOwn(OPERATORS, word)) {
    return operatorValue.fault(
      `unknown operator '${word}'${suggestion(word, Object.keys(OPERATORS))}`,
    )
  }
  const operator = OPERATORS[word as keyof typeof OPERATORS]
  const values = fields.get('values')?.items()?.map(readLabelValue) ?? []
  if (values.some((value) => value === null)) return null
  const needsValues = operator === 'in' || operator === 'notIn'
  if (needsValues !== values.length > 0) {
    return item.fault(needsValues ? `${word} needs values` : `${word} takes no values`)
  }
  return { key, operator, values: values.filter((value) => value !== null) }
}

function readLabelValue(item: YamlValue): string | null {
  const text = item.text()
  if (text === null || VALUE.test(text)) return text
  return item.fault(`'${text}' is no label value`)
}

/** The key without the source that Cilium may put in front. */
function readKey(text: string, item: YamlValue, isAtKey: boolean): string | null {
  const refuse = (message: string): null => {
    if (isAtKey) item.faultAtKey(message)
    else item.fault(message)
    return null
  }
  const colon = text.indexOf(':')
  const source = colon < 0 ? 'any' : text.slice(0, colon)
  const key = text.slice(colon + 1)
  if (source !== 'any' && source !== 'k8s') {
    return refuse(`labels of source '${source}:' are unknown here; only k8s: and any: are`)
  }
  if (!KEY.test(key)) return refuse(`'${key}' is no label key`)
  const isKnown = key.startsWith(NAMESPACE_LABELS_PREFIX) || key === SERVICE_ACCOUNT_KEY
  if (key.startsWith(CILIUM_KEY_PREFIX) && !isKnown) {
    return refuse(`the label '${key}' is not known here, so nobody can be selected by it`)
  }
  return key
}
