/**
 * Label selectors: which endpoints a policy is about.
 *
 * The keys that say where an endpoint lives are added here and cannot be set by the endpoint's own
 * labels: whoever may label a pod must not choose its namespace. Sources hand over keys without
 * the prefixes 'k8s:' and 'any:'.
 */
import type { Endpoint, Labels, NamespaceEntry } from './endpoint.ts'

/** The endpoint's namespace. Source: Cilium, pkg/k8s/apis/cilium.io/const.go. */
export const NAMESPACE_KEY = 'io.kubernetes.pod.namespace'
/** Before each label of the endpoint's namespace. */
export const NAMESPACE_LABELS_PREFIX = 'io.cilium.k8s.namespace.labels.'
/** The name of the pod's service account. */
export const SERVICE_ACCOUNT_KEY = 'io.cilium.k8s.policy.serviceaccount'

export interface Selector {
  /** All of them must hold; none: selects everything. */
  readonly requirements: readonly Requirement[]
}

export interface Requirement {
  readonly key: string
  /** 'notIn' holds for an endpoint without the key, as in Kubernetes. */
  readonly operator: 'in' | 'notIn' | 'exists' | 'doesNotExist'
  /** Empty for 'exists' and 'doesNotExist'. */
  readonly values: readonly string[]
}

/** What selectors see of an endpoint. */
export type LabelView = ReadonlyMap<string, string>

/** Whether an endpoint's own labels may hold this key: the others are ours to say. */
export function isOwnLabel(key: string): boolean {
  return key !== NAMESPACE_KEY && !key.startsWith(NAMESPACE_LABELS_PREFIX)
}

/** @param namespaces  by name; labels of namespaces that are known */
export function viewLabels(
  endpoint: Pick<Endpoint, 'namespace' | 'labels'>,
  namespaces: ReadonlyMap<string, NamespaceEntry>,
): LabelView {
  const view = new Map<string, string>()
  for (const [key, value] of Object.entries(endpoint.labels)) {
    if (isOwnLabel(key)) view.set(key, value)
  }
  view.set(NAMESPACE_KEY, endpoint.namespace)
  const namespaceLabels: Labels = namespaces.get(endpoint.namespace)?.labels ?? {}
  for (const [key, value] of Object.entries(namespaceLabels)) {
    view.set(NAMESPACE_LABELS_PREFIX + key, value)
  }
  return view
}

export function isSelected(selector: Selector, view: LabelView): boolean {
  return selector.requirements.every((requirement) => holds(requirement, view))
}

/**
 * Whether the selector selects every endpoint that has at least the labels of `view`, whatever
 * else it has: true only when no requirement can be broken by another label.
 */
export function isImplied(selector: Selector, view: LabelView): boolean {
  return selector.requirements.every(
    ({ key, operator, values }) =>
      (operator === 'in' || operator === 'exists' || view.has(key)) &&
      holds({ key, operator, values }, view),
  )
}

function holds(requirement: Requirement, view: LabelView): boolean {
  const value = view.get(requirement.key)
  switch (requirement.operator) {
    case 'in':
      return value !== undefined && requirement.values.includes(value)
    case 'notIn':
      return value === undefined || !requirement.values.includes(value)
    case 'exists':
      return value !== undefined
    case 'doesNotExist':
      return value === undefined
  }
}
