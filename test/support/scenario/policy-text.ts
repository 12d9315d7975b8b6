/**
 * Policies and clients of a scenario as the files that an operator would write: a
 * CiliumNetworkPolicy for each line, and clients.yaml. So each world reads them by the real reader.
 */
import { CLUSTER_DNS, type ScenarioClient } from './scenario.ts'

const NAMESPACE = 'default'
const RULE = /^(\S+=\S+(?:, \S+=\S+)*) may (reach|ask) (\S+)(?: (on|of) (.+))?$/

/** @param number  the line's, which makes the policy's name */
export function policyOfRule(
  text: string,
  number: number,
  fault: (message: string) => never,
): string {
  const [, labels, verb, pattern, word, rest] = RULE.exec(text) ?? []
  if (labels === undefined || verb === undefined || pattern === undefined) {
    return fault(`'${text}' is no rule: LABEL=VALUE may reach PATTERN [on 443/tcp], or … may ask …`)
  }
  if (word !== undefined && word !== (verb === 'reach' ? 'on' : 'of')) {
    return fault(`'${word}' goes with ${word === 'on' ? 'reach' : 'ask'}`)
  }
  const ports = verb === 'reach' && rest !== undefined ? readPorts(rest, fault) : null
  const servers = verb === 'ask' && rest !== undefined ? [prefixOf(rest)] : clusterServers()
  const egress = [questions(servers, pattern)]
  if (verb === 'reach') {
    egress.push({
      toFQDNs: [namePattern(pattern)],
      ...(ports === null ? {} : { toPorts: [{ ports }] }),
    })
  }
  return toYaml(`line-${number}`, labels, egress)
}

/** clients.yaml: those that Namegate knows. */
export function clientsFile(
  clients: readonly ScenarioClient[],
  interfaceOf: (client: ScenarioClient) => string,
): string {
  const entries = clients
    .filter(({ labels }) => labels !== null)
    .map((client) => ({
      name: `pod-${client.addresses[0]!.replaceAll(/[.:]+/g, '-')}`,
      namespace: NAMESPACE,
      labels: client.labels,
      addresses: client.addresses,
      interface: interfaceOf(client),
    }))
  return entries.map((entry) => `- ${JSON.stringify(entry)}\n`).join('')
}

function clusterServers(): string[] {
  return [prefixOf(CLUSTER_DNS.v4), prefixOf(CLUSTER_DNS.v6)]
}

function questions(servers: readonly string[], pattern: string): object {
  return {
    toCIDR: servers,
    toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [namePattern(pattern)] } }],
  }
}

function namePattern(text: string): object {
  return text.includes('*') ? { matchPattern: text } : { matchName: text }
}

function readPorts(text: string, fault: (message: string) => never): object[] {
  return text.split(/,\s*/).map((part) => {
    const [, port, protocol = 'tcp'] = /^(\d+)(?:\/(tcp|udp|sctp))?$/.exec(part) ?? []
    if (port === undefined) return fault(`'${part}' is no port; write 443/tcp`)
    return { port, protocol: protocol.toUpperCase() }
  })
}

function prefixOf(text: string): string {
  return text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`
}

/** JSON is YAML. */
function toYaml(name: string, labels: string, egress: readonly object[]): string {
  const matchLabels = Object.fromEntries(labels.split(', ').map((pair) => pair.split('=')))
  return `${JSON.stringify(
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name, namespace: NAMESPACE },
      spec: { endpointSelector: { matchLabels }, egress },
    },
    null,
    2,
  )}\n`
}
