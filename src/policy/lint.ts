/**
 * Surprises in policies that are valid: what `namegate policy check` warns of. Each warning is
 * about something that people write believing it means something else.
 */
import { parseAddress } from '../identity/address.ts'
import { compilePattern, FORM_NEVER, isMatchAll, matchesPattern, wireName } from './pattern.ts'
import {
  type Destination,
  type EgressRule,
  isNamedPort,
  type Place,
  type PlacedPattern,
  type PolicyDocument,
  type PortGroup,
} from './rule.ts'
import { scanName } from './scanned-name.ts'
import type { PolicyFault } from './snapshot.ts'
import { DNS_PORT } from './stand-ins.ts'

/** Names that end so are Services' or pods' names in a cluster. */
const CLUSTER_SUFFIX = /(^|\.)(svc|cluster\.local)$/

/** Warnings about one policy, in the order of its text. */
export function lintPolicy(document: PolicyDocument): PolicyFault[] {
  const warnings: PolicyFault[] = []
  const warn = (place: Place, message: string) => {
    warnings.push({ file: document.file, ...place, message })
  }
  for (const rule of document.rules) {
    lintLearning(rule.egress, warn)
    for (const egress of rule.egress) lintRule(egress, warn)
    for (const egress of rule.egressDeny) lintEmpty(egress, warn)
  }
  return warnings.toSorted((a, b) => a.line - b.line || a.column - b.column)
}

type Warn = (place: Place, message: string) => void

function lintRule(rule: EgressRule, warn: Warn): void {
  lintEmpty(rule, warn)
  const { to } = rule
  if (to.kind === 'names') {
    for (const placed of to.patterns) lintPattern(placed, 'grant', warn)
    const first = rule.ports?.find((group) => holdsDns(group))
    if (first !== undefined) {
      warn(
        first.place,
        'port 53 under toFQDNs opens nothing: questions are judged by rules.dns of the rules about servers',
      )
    }
  }
  for (const { dns, ports } of rule.ports ?? []) {
    for (const placed of dns?.patterns ?? []) lintPattern(placed, 'question', warn)
    if (dns?.patterns?.length === 0) warn(dns.place, 'no name is allowed by this list')
    const isElsewhere = !ports.some((port) => isNamedPort(port) || holdsPort(port, DNS_PORT))
    if (dns !== null && isElsewhere && ports.length > 0) {
      warn(
        dns.place,
        'only questions to port 53 are taken; another port counts where a Service leads from 53 to it',
      )
    }
  }
}

function lintEmpty({ to, place }: EgressRule, warn: Warn): void {
  if (countDestinations(to) === 0) {
    warn(place, 'the list of destinations is empty, so this rule is about nothing')
  }
}

/** null: the rule has no list, which is how a policy that allows nothing is written. */
function countDestinations(to: Destination): number | null {
  switch (to.kind) {
    case 'none':
      return null
    case 'endpoints':
      return to.selectors.length
    case 'networks':
      return to.blocks.length
    case 'entities':
      return to.entities.length
    case 'names':
      return to.patterns.length
  }
}

/** toFQDNs opens addresses from answers, so its names must be askable. */
function lintLearning(rules: readonly EgressRule[], warn: Warn): void {
  const lists = rules.flatMap(askableLists)
  for (const rule of rules) {
    if (rule.to.kind !== 'names') continue
    if (lists.length === 0) {
      warn(
        rule.place,
        'no rule here lets the clients ask a DNS server (toEndpoints or toCIDR with rules.dns); unless another policy does, these names open nothing',
      )
      continue
    }
    if (lists.includes(null)) continue
    const askable = lists.flatMap((list) => list ?? [])
    for (const { pattern, place } of rule.to.patterns) {
      const name = pattern.text.includes('*') ? null : wireName(pattern.text)
      if (name === null || isAskable(name, askable)) continue
      warn(place, `${pattern.text} may not be asked: no rules.dns of this policy matches it`)
    }
  }
}

/** The names that a rule lets be asked: a list for each of its groups, null for every name. */
function askableLists(rule: EgressRule): (readonly PlacedPattern[] | null)[] {
  if (rule.to.kind === 'names') return []
  if (rule.ports === null) return [null]
  return rule.ports.flatMap((group) => {
    if (group.dns !== null) return [group.dns.patterns]
    return holdsDns(group) ? [null] : []
  })
}

function isAskable(name: Uint8Array, patterns: readonly PlacedPattern[]): boolean {
  const scanned = scanName(name)
  return patterns.some(({ pattern }) =>
    matchesPattern(compilePattern(pattern), 'question', scanned),
  )
}

function lintPattern(
  { pattern, text, place }: PlacedPattern,
  use: 'grant' | 'question',
  warn: Warn,
): void {
  if (text === '') {
    warn(place, 'neither matchName nor matchPattern: only the root is meant')
    return
  }
  if (text.endsWith('.') && !isMatchAll(pattern)) {
    warn(place, `the final dot of '${text}' changes nothing; Cilium counts it as another selector`)
  }
  if (compilePattern(pattern).form === FORM_NEVER) {
    warn(place, `no name can match: a label has at most 63 characters and a name 253`)
  }
  if (parseAddress(pattern.text) !== null) warn(place, 'an address is no name; use toCIDR')
  const labels = pattern.text.split('.')
  const first = labels[0]!
  const rest = labels.slice(1).join('.')
  if (use === 'grant' && isMatchAll(pattern)) {
    warn(place, `'*' opens every address that the client can make a DNS server answer`)
  } else if (use === 'grant' && /^\*+$/.test(first) && labels.length === 2) {
    warn(place, `'${text}' covers every domain directly under ${rest}, whoever owns it`)
  } else if (/^\*+[^*]/.test(first) && labels.length === 2) {
    const tail = pattern.text.replace(/^\*+/, '')
    warn(
      place,
      `'${text}' matches evil${tail} too, and not www.${tail}; write '*.${tail}' and '${tail}'`,
    )
  }
  if (labels.some((label, index) => /\*\*/.test(label) && (index > 0 || !/^\*+$/.test(label)))) {
    warn(
      place,
      `'**' means several labels only as the whole first label; here it is the same as '*'`,
    )
  }
  if (use === 'grant' && CLUSTER_SUFFIX.test(pattern.text)) {
    warn(
      place,
      `'${text}' names Services or pods: their connections are judged after translation; use toEndpoints`,
    )
  }
}

function holdsDns(group: PortGroup): boolean {
  return group.ports.some((port) => holdsPort(port, DNS_PORT))
}

function holdsPort(port: PortGroup['ports'][number], wanted: number): boolean {
  return !isNamedPort(port) && port.first <= wanted && wanted <= port.last
}
