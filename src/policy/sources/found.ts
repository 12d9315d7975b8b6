/**
 * What a clients file has said so far, and how an address is read from it: shared by the short form
 * (policy/sources/clients.ts) and Kubernetes' objects (policy/sources/kubernetes.ts).
 */
import { addressFault, canonicalAddress } from '../../identity/address.ts'
import type {
  BackendSlice,
  Endpoint,
  NamespaceEntry,
  ServiceEntry,
} from '../../identity/endpoint.ts'
import type { YamlValue } from './yaml.ts'

export interface Found {
  /** With the place that a fault about it is shown at. */
  readonly endpoints: { readonly endpoint: Endpoint; readonly value: YamlValue }[]
  readonly namespaces: NamespaceEntry[]
  readonly services: ServiceEntry[]
  readonly slices: BackendSlice[]
  /** What was left out, and why. */
  readonly notes: string[]
}

/** Canonical text of an address; null, with a fault, when it is none. */
export function readAddress(value: YamlValue): string | null {
  const text = value.text()
  if (text === null) return null
  return canonicalAddress(text) ?? value.fault(addressFault(text))
}
