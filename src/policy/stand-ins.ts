/**
 * Our own addresses in place of the servers we stand in for: a rule about the cluster's DNS is
 * about the node-local address too, where the same answers are given. Used wherever question rules
 * are judged: policy/table-encode.ts and policy/explain.ts.
 */
import { parseAddress } from '../identity/address.ts'
import { isCovered, parsePrefix, prefixOfAddress } from '../identity/prefix.ts'
import { hasPort } from './port-set.ts'
import type { PortRange, QuestionRule } from './snapshot.ts'

/** Where the servers we stand in for listen: what rules about them name. */
export const DNS_PORT = 53

export interface StandIns {
  /** `listen.addresses`, canonical text. */
  readonly listen: readonly string[]
  /** `listen.port`. */
  readonly listenPort: number
  /** `intercept.servers`: for whom we answer there. Canonical text. */
  readonly servers: readonly string[]
}

export const NO_STAND_INS: StandIns = { listen: [], listenPort: DNS_PORT, servers: [] }

/** The rules, and after each that covers a server we stand in for the same about our addresses. */
export function withStandIns(rules: readonly QuestionRule[], standIns: StandIns): QuestionRule[] {
  const servers = standIns.servers.flatMap((text) => parseAddress(text) ?? [])
  const listen = standIns.listen.map(prefixOfAddress)
  return rules.flatMap((rule) => {
    const prefixes = rule.servers.flatMap((text) => parsePrefix(text) ?? [])
    const ports = portsOfListeners(rule.ports, standIns.listenPort)
    const isStoodIn = servers.some((server) => isCovered(server, prefixes))
    if (!isStoodIn || ports.length === 0 || listen.length === 0) return [rule]
    return [rule, { ...rule, servers: listen, ports }]
  })
}

/** What a rule says of port 53, said of the port that we listen on. */
function portsOfListeners(ports: readonly PortRange[], listenPort: number): PortRange[] {
  return (['udp', 'tcp'] as const)
    .filter((protocol) => hasPort(ports, protocol, DNS_PORT))
    .map((protocol) => ({ protocol, first: listenPort, last: listenPort }))
}
