/**
 * The chains that judge connections: what a client may reach.
 *
 *     filter-10  input       what is meant for the node itself   ┐ revoked? established?
 *     filter-10  forward     what goes through the node          ┘ else the client's own chain
 *
 * The other hooks are in interception.ts and own-node.ts. ruleset.ts calls `renderChains`. What must stay true is
 * said at each chain; throughout:
 * - Marks are compared and set under the mask; the other bits are other people's.
 * - Only `drop` is final: an accept of ours leaves every other table its say.
 * - Both families, always.
 */
import type {
  OpenedPortSet,
  Ruleset,
  RulesetDestination,
  RulesetSubject,
} from '../../grant/ruleset.ts'
import { TIMEOUT_CLASS_SECONDS } from '../../grant/timeout-class.ts'
import type { PortRange } from '../../policy/snapshot.ts'
import { type Denial, type DenialReason, formatDenial } from '../denial.ts'
import { interceptionChains } from './interception.ts'
import { grantSetName, portsText, quoted, rangeText } from './names.ts'
import { ownNodeChains } from './own-node.ts'
import { FAMILIES, NEIGHBOURS, type RenderedChain, isMark, linkRules } from './rules.ts'

export function renderChains(ruleset: Ruleset): RenderedChain[] {
  return [
    ...interceptionChains(ruleset),
    ...ownNodeChains(ruleset),
    ...hooks(ruleset),
    ...judgement(ruleset),
    ...ruleset.subjects.flatMap((subject) => subjectChains(ruleset, subject)),
    ...portSetChains(ruleset),
  ]
}

/** Forward and input: a policy on forward alone is escaped through the node's own addresses. */
function hooks(ruleset: Ruleset): RenderedChain[] {
  const intercepted = `${isMark(ruleset, ruleset.marks.intercepted)} accept`
  return [
    {
      name: 'input',
      comment: 'what is meant for the node itself',
      hook: 'type filter hook input priority filter - 10; policy accept;',
      rules: [
        'iifname "lo" accept',
        intercepted,
        ...linkRules('accept'),
        ...stateRules(ruleset),
        'goto judge',
      ],
    },
    {
      name: 'forward',
      comment: 'what goes through the node',
      hook: 'type filter hook forward priority filter - 10; policy accept;',
      // Hop limit 255 excludes what was routed: only a bridge shows neighbour discovery here.
      rules: [NEIGHBOURS + ' accept', ...stateRules(ruleset), 'goto judge'],
    },
  ]
}

/** Revoked pairs first; then what belongs to a connection that was judged when it began. */
function stateRules(ruleset: Ruleset): string[] {
  return [
    ...(ruleset.mode === 'audit' ? [] : revokedRules()),
    'ct state established accept',
    // Errors about an open connection. Never what a helper expects: FTP would open any port.
    'ct state related meta l4proto { icmp, ipv6-icmp } accept',
  ]
}

/**
 * What a client sends to an address that was revoked, on a connection that it began, is judged
 * afresh, by its original destination (before DNAT). A server's segment may not begin a connection
 * anew, in which the client's packets would be replies: real connections towards the client begin
 * with a SYN.
 */
function revokedRules(): string[] {
  return [
    ...FAMILIES.map(
      ({ family, ip }) =>
        `ct direction original ${ip} saddr . ct original ${ip} daddr @revoked_v${family} goto judge`,
    ),
    ...FAMILIES.flatMap(({ family, ip }) => {
      const pair = `ct state new,invalid,untracked ${ip} daddr . ${ip} saddr @revoked_v${family}`
      return [
        `${pair} tcp flags & (fin | syn | rst | ack) != syn counter drop`,
        `${pair} meta l4proto != tcp counter drop`,
      ]
    }),
  ]
}

function judgement(ruleset: Ruleset): RenderedChain[] {
  const chains: RenderedChain[] = [
    {
      name: 'judge',
      comment: 'each client goes to the chain of its policies',
      hook: '',
      rules: [
        ...FAMILIES.map(({ family, ip }) => `iifname . ${ip} saddr vmap @clients_v${family}`),
        ...FAMILIES.map(({ family, ip }) => `${ip} saddr @unplaced_v${family} goto deny_unplaced`),
        'iifname @governed_interfaces goto deny_source',
        ...(ruleset.unknown === 'closed'
          ? ruleset.interfaces.map((pattern) => `iifname ${quoted(pattern)} goto deny_unknown`)
          : []),
      ],
    },
    {
      name: 'deny_source',
      comment: "an address that is not its link's, where one of the two is a governed client's",
      hook: '',
      rules: deny(ruleset, 'source', '', -1, 'drop'),
    },
    {
      name: 'deny_unplaced',
      comment: 'a governed client that cannot be told by interface and address',
      hook: '',
      rules: deny(ruleset, 'unplaced', '', -1, 'drop'),
    },
  ]
  if (ruleset.unknown === 'closed') {
    const rules = deny(ruleset, 'unknown', '', -1, ruleset.denyAction)
    chains.push({ name: 'deny_unknown', comment: 'no known client', hook: '', rules })
  }
  return chains
}

/** Deny rules, then addresses that are open without a name, then grants, then the end. */
function subjectChains(ruleset: Ruleset, subject: RulesetSubject): RenderedChain[] {
  const chains: RenderedChain[] = []
  const rules: string[] = []
  for (const rule of subject.destinations) {
    const name = `deny_${subject.id}_${rule.index}`
    if (rule.verdict === 'deny') {
      rules.push(...destinationRules(rule, `goto ${name}`), ...originalRules(rule, `goto ${name}`))
      const denied = deny(ruleset, 'rule', subject.id, rule.index, ruleset.denyAction)
      chains.push({ name, comment: rule.policy, hook: '', rules: denied })
    } else {
      rules.push(...destinationRules(rule, `accept comment ${quoted(rule.policy)}`))
    }
  }
  for (const opened of subject.opens) rules.push(...openRules(ruleset, opened))
  rules.push(...deny(ruleset, 'policy', subject.id, -1, ruleset.denyAction))
  const comment = subject.policies.join(', ')
  return [...chains, { name: `subject_${subject.id}`, comment, hook: '', rules }]
}

/**
 * Addresses of rules are those that a packet has in the end, after DNAT, as Cilium and Kubernetes
 * say: endpoints, not service addresses.
 */
function destinationRules(rule: RulesetDestination, verdict: string): string[] {
  const ports =
    rule.ports.length === 0 ? '' : `meta l4proto . th dport { ${portKeys(rule.ports)} } `
  return FAMILIES.flatMap(({ family, ip }) => {
    const prefixes = family === 4 ? rule.v4 : rule.v6
    if (prefixes.length === 0) return []
    return [`${ip} daddr { ${prefixes.join(', ')} } ${ports}${verdict}`]
  })
}

/** A deny rule also holds for the address that the client meant, before DNAT: closed wins. */
function originalRules(rule: RulesetDestination, verdict: string): string[] {
  return FAMILIES.flatMap(({ family, ip }) => {
    const prefixes = family === 4 ? rule.v4 : rule.v6
    if (prefixes.length === 0) return []
    const addresses = `ct original ${ip} daddr { ${prefixes.join(', ')} }`
    return originalPorts(rule.ports).map((ports) => `${addresses} ${ports}${verdict}`)
  })
}

function openRules(ruleset: Ruleset, opened: OpenedPortSet): string[] {
  const portSet = ruleset.portSets.find((candidate) => candidate.id === opened.portSet)!
  const comment = quoted(opened.names.join(', '))
  return originalPorts(portSet.ports).map(
    (ports) => `${ports}jump open_${opened.portSet} comment ${comment}`,
  )
}

/**
 * Grants are matched by the destination that the client meant, before DNAT: an answer that held a
 * service's address must open it (an answered address is open), and so must the address of a load
 * balancer that kube-proxy shortcuts. What this trusts: whoever may point a granted address
 * somewhere else on this node (a Service with foreign external IPs, CVE-2020-8554) takes over that
 * traffic, which such a person could do for every client of the node anyway; deny rules are asked
 * about the real destination first. A packet that somebody untracked has no original: denied.
 */
function portSetChains(ruleset: Ruleset): RenderedChain[] {
  return ruleset.portSets.map((portSet) => ({
    name: `open_${portSet.id}`,
    comment: `grants: ${portsText(portSet.ports)}`,
    hook: '',
    rules: TIMEOUT_CLASS_SECONDS.flatMap((seconds) =>
      FAMILIES.map(({ family, ip }) => {
        const set = grantSetName(portSet.id, seconds, family)
        return `${ip} saddr . ct original ${ip} daddr @${set} accept`
      }),
    ),
  }))
}

/** Says so through NFLOG, at most 20 a second for each chain, and ends the packet. */
function deny(
  ruleset: Ruleset,
  reason: DenialReason,
  subject: string,
  destination: number,
  action: 'drop' | 'reject',
): string[] {
  const isAudit = ruleset.mode === 'audit'
  const denial: Denial = { isAudit, reason, subject, destination }
  const rules: string[] = []
  const prefix = quoted(formatDenial(denial))
  const logs = ruleset.nflogGroups.map((group) => `log prefix ${prefix} group ${group} snaplen 128`)
  if (logs.length > 0) {
    rules.push(`limit rate 20/second burst 40 packets ${logs.join(' ')}`)
  }
  if (isAudit) return [...rules, 'counter accept']
  if (action === 'drop') return [...rules, 'counter drop']
  return [
    ...rules,
    'meta l4proto tcp counter reject with tcp reset',
    'counter reject with icmpx admin-prohibited',
  ]
}

/** 'tcp . 80, udp . 53'; Cilium's ANY is three protocols. */
function portKeys(ports: readonly PortRange[]): string {
  return spread(ports)
    .map((range) => `${range.protocol} . ${rangeText(range)}`)
    .join(', ')
}

/**
 * The same for the destination port before DNAT, a match each: nft 1.0.6 can't write `ct original
 * proto-dst` into a concatenation, and lists a set of it in a form that it does not read.
 */
function originalPorts(ports: readonly PortRange[]): string[] {
  if (ports.length === 0) return ['']
  return spread(ports).map((range) => {
    const protocol = `meta l4proto ${range.protocol} `
    const isWhole = range.first === 0 && range.last === 65535
    return isWhole ? protocol : `${protocol}ct original proto-dst ${rangeText(range)} `
  })
}

function spread(ports: readonly PortRange[]): PortRange[] {
  return ports.flatMap((range) =>
    range.protocol === 'any'
      ? (['tcp', 'udp', 'sctp'] as const).map((protocol) => ({ ...range, protocol }))
      : [range],
  )
}
