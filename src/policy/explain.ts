/**
 * Why a client may or may not ask for a name, or connect to an address: the rules of a snapshot,
 * walked as the data plane and the kernel would, with every step kept. For `namegate explain`.
 *
 * It judges policy only. Whether a grant stands now, and since when, the caller knows
 * (`grants list`) and adds.
 */
import { canonicalAddress, parseAddress } from '../identity/address.ts'
import { isCovered, type Prefix, parsePrefix } from '../identity/prefix.ts'
import { compilePattern, matchesPattern, type PatternUse, wireName } from './pattern.ts'
import { formatPorts, hasPort } from './port-set.ts'
import { type ScannedName, scanName } from './scanned-name.ts'
import type {
  ClientEntry,
  NamePattern,
  PortRange,
  QuestionRule,
  Snapshot,
  Subject,
} from './snapshot.ts'
import { DNS_PORT, type StandIns, withStandIns } from './stand-ins.ts'

/** Stable: people grep for them. */
export type CauseCode =
  | 'client-unknown-open'
  | 'client-unknown-closed'
  | 'client-ungoverned'
  | 'client-governed'
  | 'policy-faulty'
  | 'audit'
  | 'question-allowed'
  | 'question-denied-server'
  | 'question-denied-name'
  | 'name-opens'
  | 'name-opens-nothing'
  | 'port-not-open'
  | 'address-allowed'
  | 'address-denied'
  | 'address-not-open'

export interface Cause {
  readonly code: CauseCode
  /** The policy it comes from; '' for none. */
  readonly policy: string
  /** A sentence. */
  readonly text: string
}

export interface Explanation {
  /** null: no client has this name or address. */
  readonly client: ClientEntry | null
  readonly isAllowed: boolean
  /** In the order in which they were considered. */
  readonly causes: readonly Cause[]
}

/** What is asked about: NAME[:PORT] or ADDRESS[:PORT]. */
export interface Target {
  /** One of the two is set. Canonical text; lower case without a final dot. */
  readonly address: string | null
  readonly name: string | null
  readonly port: number | null
}

/** null when `text` is neither a name nor an address with an optional port. */
export function parseTarget(text: string): Target | null {
  const whole = canonicalAddress(text)
  if (whole !== null) return { address: whole, name: null, port: null }
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::([0-9]{1,5}))?$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  if (match === null || host === undefined) return null
  const port = match[3] === undefined ? null : Number(match[3])
  if (port !== null && (port < 1 || port > 65535)) return null
  const address = canonicalAddress(host)
  if (address !== null) return { address, name: null, port }
  if (match[1] !== undefined || wireName(host) === null) return null
  return { address: null, name: host.toLowerCase().replace(/(?<=.)\.$/, ''), port }
}

/** @param client  'namespace/name' or an address */
export function explain(
  snapshot: Snapshot,
  client: string,
  target: Target,
  standIns: StandIns,
): Explanation {
  const entry = findClient(snapshot, client)
  const causes: Cause[] = []
  if (entry === null || entry.subject < 0) {
    const isClosed = entry === null && snapshot.unknown === 'closed'
    causes.push(ungovernedCause(client, entry, isClosed))
    return { client: entry, isAllowed: !isClosed, causes }
  }
  const subject = snapshot.subjects[entry.subject]!
  const policies = subject.policies.join(', ')
  const name = `${entry.namespace}/${entry.name}`
  causes.push(cause('client-governed', '', `${name} is governed by ${policies}`))
  if (subject.isFaulty) causes.push(...faultyCauses(snapshot, subject))
  const isAllowed =
    target.name === null
      ? explainAddress(subject, target.address ?? '', target.port, causes)
      : explainName(snapshot, subject, target.name, target.port, standIns, causes)
  if (!isAllowed && snapshot.mode === 'audit') {
    causes.push(cause('audit', '', 'the mode is audit: this is recorded, and let through'))
  }
  return { client: entry, isAllowed, causes }
}

function findClient(snapshot: Snapshot, text: string): ClientEntry | null {
  const address = canonicalAddress(text)
  const found = snapshot.clients.find((client) =>
    address === null
      ? `${client.namespace}/${client.name}` === text
      : client.addresses.includes(address),
  )
  return found ?? null
}

function ungovernedCause(text: string, client: ClientEntry | null, isClosed: boolean): Cause {
  if (client !== null) return cause('client-ungoverned', '', `no policy selects ${text}`)
  if (!isClosed)
    return cause(
      'client-unknown-open',
      '',
      `${text} is no known client, and clients.unknown is open`,
    )
  return cause(
    'client-unknown-closed',
    '',
    `${text} is no known client, and clients.unknown is closed`,
  )
}

function faultyCauses(snapshot: Snapshot, subject: Subject): Cause[] {
  const faulty = snapshot.policies.filter(
    ({ name, faults }) => faults.length > 0 && subject.policies.includes(name),
  )
  return faulty.map(({ name, faults }) => {
    const { file, line, column, message } = faults[0]!
    return cause(
      'policy-faulty',
      name,
      `${name} has a fault, so no connection opens: ${file}:${line}:${column}: ${message}`,
    )
  })
}

function explainName(
  snapshot: Snapshot,
  subject: Subject,
  name: string,
  port: number | null,
  standIns: StandIns,
  causes: Cause[],
): boolean {
  const scanned = scanText(name)
  const isAskable = explainQuestions(subject, name, scanned, standIns, causes)
  const opening = subject.names.filter(({ pattern }) => isMatch(pattern, 'grant', scanned))
  if (opening.length === 0) {
    causes.push(cause('name-opens-nothing', '', `no toFQDNs rule matches ${name}`))
    return false
  }
  let isOpen = false
  for (const { policy, pattern, portSet } of opening) {
    const set = snapshot.portSets.find(({ number }) => number === portSet)
    const ports = set?.ports ?? []
    const what = ports.length === 0 ? 'every port' : formatPorts(ports)
    const opens = port === null || ports.length === 0 || holdsPort(ports, port)
    isOpen ||= opens
    const rule = `${policy}, ${describePattern(pattern)}`
    if (opens)
      causes.push(cause('name-opens', policy, `${rule}: opens the addresses of ${name} on ${what}`))
    else causes.push(cause('port-not-open', policy, `${rule}: opens ${what}, not port ${port}`))
  }
  return isAskable && isOpen
}

/** Of the servers that clients ask here; without any, of whichever servers the rules name. */
function explainQuestions(
  subject: Subject,
  name: string,
  scanned: ScannedName,
  standIns: StandIns,
  causes: Cause[],
): boolean {
  const rules = withStandIns(subject.questions, standIns)
  const servers = [...standIns.servers, ...standIns.listen]
  let isAskable = false
  for (const server of servers) {
    const port = standIns.servers.includes(server) ? DNS_PORT : standIns.listenPort
    const about = rules.filter((rule) => isAbout(rule, server, port))
    isAskable = explainServer(about, `${server} port ${port}`, name, scanned, causes) || isAskable
  }
  return servers.length === 0
    ? explainServer(rules, 'any server', name, scanned, causes)
    : isAskable
}

function explainServer(
  rules: readonly QuestionRule[],
  server: string,
  name: string,
  scanned: ScannedName,
  causes: Cause[],
): boolean {
  const denying = rules.find(({ verdict }) => verdict === 'deny')
  if (denying !== undefined && server !== 'any server') {
    causes.push(
      cause('question-denied-server', denying.policy, `${denying.policy} denies ${server}`),
    )
    return false
  }
  for (const { policy, names, verdict } of rules) {
    if (verdict === 'deny') continue
    const matching = names?.find((pattern) => isMatch(pattern, 'question', scanned))
    if (names !== null && matching === undefined) continue
    const by = matching === undefined ? 'every name' : describePattern(matching)
    causes.push(
      cause('question-allowed', policy, `${policy}, ${by}: ${server} may be asked for ${name}`),
    )
    return true
  }
  const code = rules.length === 0 ? 'question-denied-server' : 'question-denied-name'
  const text =
    rules.length === 0
      ? `no rule lets it ask ${server}`
      : `the rules about ${server} do not allow ${name}`
  causes.push(cause(code, '', text))
  return false
}

function explainAddress(
  subject: Subject,
  address: string,
  port: number | null,
  causes: Cause[],
): boolean {
  const bytes = parseAddress(address) ?? new Uint8Array()
  const about = subject.destinations.filter(
    ({ prefixes, except, ports }) =>
      isCovered(bytes, prefixesOf(prefixes)) &&
      !isCovered(bytes, prefixesOf(except)) &&
      (port === null || ports.length === 0 || holdsPort(ports, port)),
  )
  const denying = about.find(({ verdict }) => verdict === 'deny')
  if (denying !== undefined) {
    causes.push(cause('address-denied', denying.policy, `${denying.policy} denies ${address}`))
    return false
  }
  for (const { policy, ports } of about) {
    const what = ports.length === 0 ? 'every port' : formatPorts(ports)
    causes.push(cause('address-allowed', policy, `${policy}: ${address} is open on ${what}`))
  }
  if (about.length > 0) return true
  const names = subject.names.length
  const hint = names === 0 ? '' : '; a name that one of the toFQDNs rules allows may open it'
  causes.push(cause('address-not-open', '', `no rule about addresses opens ${address}${hint}`))
  return false
}

function isAbout(rule: QuestionRule, server: string, port: number): boolean {
  const bytes = parseAddress(server)
  const isPort = hasPort(rule.ports, 'udp', port) || hasPort(rule.ports, 'tcp', port)
  return bytes !== null && isPort && isCovered(bytes, prefixesOf(rule.servers))
}

function isMatch(pattern: NamePattern, use: PatternUse, name: ScannedName): boolean {
  return matchesPattern(compilePattern(pattern), use, name)
}

function scanText(name: string): ScannedName {
  return scanName(wireName(name) ?? new Uint8Array(1))
}

function holdsPort(ports: readonly PortRange[], port: number): boolean {
  return ports.some(({ first, last }) => first <= port && port <= last)
}

function prefixesOf(texts: readonly string[]): Prefix[] {
  return texts.flatMap((text) => parsePrefix(text) ?? [])
}

function describePattern({ kind, text }: NamePattern): string {
  return `${kind === 'name' ? 'matchName' : 'matchPattern'} ${text}`
}

function cause(code: CauseCode, policy: string, text: string): Cause {
  return { code, policy, text }
}
