/**
 * `toPorts` of a CiliumNetworkPolicy: ports, protocols, and which names may be asked (`rules.dns`).
 * Used by policy/sources/cilium.ts. What Cilium allows and Namegate does not is a fault, also
 * where Cilium takes an empty list for "everything": whoever wants that must write it.
 *
 * Source: Cilium v1.20.0-pre.4, pkg/policy/api/l4.go and rule_validation.go.
 */
import type { NamePattern } from '../snapshot.ts'
import { canonicalPattern, isMatchAll, patternFault, ROOT_PATTERN } from '../pattern.ts'
import {
  type DnsRule,
  isNamedPort,
  type PlacedPattern,
  type PortGroup,
  type RulePort,
} from '../rule.ts'
import { suggestion } from './nearest.ts'
import type { YamlValue } from './yaml.ts'

/** As in Cilium's CRD. */
const PORTS_MAX = 40
const PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ANY']
/** Protocols that Cilium knows and that have no ports. */
const OTHER_PROTOCOLS = ['VRRP', 'IGMP', 'GRE', 'IPIP', 'IPV6', 'ESP', 'AH', 'ICMP', 'ICMPV6']
/** Source: RFC 6335 §5.1. */
const SERVICE_NAME = /^(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/
const NOT_BUILT = 'is not supported by Namegate; remove it'

/** What the rule around the ports is, for what may stand in them. */
export interface PortContext {
  readonly isDeny: boolean
  readonly destination: 'endpoints' | 'names' | 'other'
}

/** The groups; null when there is no toPorts, which means every protocol and port. */
export function readPortGroups(
  value: YamlValue | undefined,
  context: PortContext,
): PortGroup[] | null {
  if (value === undefined) return null
  const items = value.items()
  if (items?.length === 0) {
    value.fault('an empty list allows no port here; leave toPorts out to mean every port')
  }
  return (items ?? []).map((item) => readPortGroup(item, context))
}

function readPortGroup(item: YamlValue, context: PortContext): PortGroup {
  const place = item.place
  const fields = item.fields(['ports', 'rules'], {
    terminatingTLS: `terminatingTLS ${NOT_BUILT}`,
    originatingTLS: `originatingTLS ${NOT_BUILT}`,
    serverNames: `serverNames ${NOT_BUILT}`,
    listener: `listener ${NOT_BUILT}`,
  })
  if (fields === null) return { place, ports: [], dns: null }
  const list = fields.get('ports')
  const items = list?.items() ?? []
  const rules = fields.get('rules')
  if (items.length === 0 && list?.isList !== false) {
    const reason =
      rules === undefined ? 'ports must be listed' : 'DNS rules need a port, usually "53"'
    ;(list ?? item).fault(`${reason}; an empty list allows none`)
  }
  if (items.length > PORTS_MAX) list?.fault(`more than ${PORTS_MAX} ports`)
  const ports = items.flatMap((port) => readPort(port, context, rules !== undefined) ?? [])
  return { place, ports, dns: rules === undefined ? null : readRules(rules, context) }
}

function readPort(item: YamlValue, context: PortContext, hasRules: boolean): RulePort | null {
  const fields = item.fields(['port', 'endPort', 'protocol'])
  const protocol = readProtocol(fields?.get('protocol'))
  const portValue = fields?.get('port')
  if (fields === null) return null
  if (portValue === undefined) return item.fault('port is missing')
  const text = portValue.text()?.toLowerCase() ?? null
  if (text === null || protocol === null) return null
  const port = readPortText(portValue, text, protocol)
  const end = fields.get('endPort')
  if (port === null) return null
  if (isNamedPort(port)) {
    if (end !== undefined) return end.fault('a named port has no endPort')
    if (context.destination === 'endpoints') return port
    return portValue.fault('only toEndpoints knows names of ports; write the number')
  }
  const last = end === undefined ? port.first : end.integer(0, 65535)
  if (last === null) return null
  if (hasRules && port.first === 0) return portValue.fault('DNS rules cannot be used with port 0')
  if (hasRules && last > port.first)
    return end?.fault('DNS rules do not support port ranges') ?? null
  if (port.first === 0) {
    if (last > 0) return end?.fault('port 0 means every port and has no endPort') ?? null
    return { protocol, first: 0, last: 65535 }
  }
  // Cilium takes an endPort of 0 for none, and so for `port` alone.
  if (last !== 0 && last < port.first) return end?.fault('endPort is smaller than port') ?? null
  return { protocol, first: port.first, last: Math.max(last, port.first) }
}

function readPortText(
  value: YamlValue,
  text: string,
  protocol: 'tcp' | 'udp' | 'sctp' | 'any',
): RulePort | null {
  if (/^[0-9]+$/.test(text)) {
    const number = Number(text)
    if (text.length > 1 && text.startsWith('0')) {
      return value.fault(`'${text}' would be octal; write it without the leading zero`)
    }
    if (number > 65535) return value.fault(`port ${text} is larger than 65535`)
    return { protocol, first: number, last: number }
  }
  if (text.length > 15 || !SERVICE_NAME.test(text)) {
    return value.fault(`'${text}' is neither a port number nor the name of a port`)
  }
  return { name: text, protocol, place: value.place }
}

function readProtocol(value: YamlValue | undefined): 'tcp' | 'udp' | 'sctp' | 'any' | null {
  if (value === undefined) return 'any'
  const text = value.text()
  if (text === null) return null
  if (text === '') return 'any'
  if (PROTOCOLS.includes(text)) return text.toLowerCase() as 'tcp' | 'udp' | 'sctp' | 'any'
  if (OTHER_PROTOCOLS.includes(text)) return value.fault(`protocol ${text} ${NOT_BUILT}`)
  return value.fault(`unknown protocol '${text}'${suggestion(text, PROTOCOLS)}`)
}

function readRules(value: YamlValue, context: PortContext): DnsRule {
  const nothing: DnsRule = { place: value.place, patterns: [] }
  if (context.isDeny) {
    value.faultAtKey('a deny rule takes ports only; names cannot be denied')
    return nothing
  }
  const fields = value.fields(['dns'], {
    http: `HTTP rules: http ${NOT_BUILT}`,
    kafka: `kafka ${NOT_BUILT}`,
    l7proto: `l7proto ${NOT_BUILT}`,
    l7: `l7 ${NOT_BUILT}`,
  })
  const dns = fields?.get('dns')
  if (fields === null) return nothing
  if (dns === undefined) {
    if (fields.size === 0) value.fault('rules is empty; remove it, or list the names in rules.dns')
    return nothing
  }
  if (context.destination === 'names') {
    dns.faultAtKey('rules.dns under toFQDNs: name the DNS server by toEndpoints or toCIDR instead')
  }
  const items = dns.items()
  if (items?.length === 0) {
    dns.fault(
      `an empty list allows no name here, though Cilium would allow all; write matchPattern: "*" to mean all`,
    )
  }
  const patterns = (items ?? []).flatMap((item) => readPattern(item, 'question') ?? [])
  const isAll = patterns.some(({ pattern }) => isMatchAll(pattern))
  return { place: dns.place, patterns: isAll ? null : patterns }
}

/**
 * `matchName` or `matchPattern`; null when nothing is matched by it.
 * @param use  with neither key, toFQDNs means the root and rules.dns nothing
 */
export function readPattern(item: YamlValue, use: 'grant' | 'question'): PlacedPattern | null {
  const fields = item.fields(['matchName', 'matchPattern'])
  if (fields === null) return null
  const name = fields.get('matchName')
  const pattern = fields.get('matchPattern')
  if (name !== undefined && pattern !== undefined) {
    return item.fault('only one of matchName and matchPattern is allowed')
  }
  const value = name ?? pattern
  if (value === undefined) {
    if (fields.size > 0 || use === 'question') return null
    return { pattern: ROOT_PATTERN, place: item.place, text: '' }
  }
  const kind: NamePattern['kind'] = name === undefined ? 'pattern' : 'name'
  const text = value.text()
  const fault = text === null ? null : patternFault(kind, text)
  if (fault !== null) return value.fault(fault)
  return text === null ? null : { pattern: canonicalPattern(kind, text), place: value.place, text }
}
