/**
 * Names of objects and namespaces, as Kubernetes takes them: lower case, so that a name that nobody
 * can have is told instead of selecting nobody.
 *
 * Source: Kubernetes, "Object Names and IDs" (RFC 1123 label and subdomain).
 */
import type { YamlValue } from './yaml.ts'

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/

/** 'coredns-7db6d8ff4d-abcde'; null, with a fault, when it can be no object's name. */
export function readObjectName(value: YamlValue): string | null {
  return read(value, SUBDOMAIN, "an object: lower-case letters, digits, '-' and '.'")
}

/** 'kube-system'; null, with a fault, when no namespace can be called so. */
export function readNamespaceName(value: YamlValue): string | null {
  return read(value, LABEL, "a namespace: at most 63 lower-case letters, digits and '-'")
}

function read(value: YamlValue, form: RegExp, what: string): string | null {
  const text = value.text()
  if (text === null || form.test(text)) return text
  return value.fault(`'${text}' can't be the name of ${what}`)
}
