/**
 * resolv.conf: which servers this machine asks. The daemon reads the file and watches it; this
 * only understands the text.
 *
 * It is read as the C library reads it, so that Namegate asks whom the node would have asked, but
 * for these: all servers count, not the first MAXNS (3), because a cache that may be the only one
 * on a node should not ignore a fourth that works; without any `nameserver` line there is no
 * server, where glibc would ask 127.0.0.1, which is likely ourselves; and what glibc skips in
 * silence is reported.
 *
 * What must stay true: any text gives a result, in time that grows with its length and no more;
 * every address in it can be parsed by identity/address.ts.
 *
 * Source: resolv.conf(5) of glibc 2.41; glibc resolv/res_init.c.
 */
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { SERVERS_MAX } from './routes.ts'

export interface ResolvConf {
  /** In the order of the file, each once, at most SERVERS_MAX. */
  readonly servers: readonly ResolvServer[]
  /** Domains as written; of several `search` and `domain` lines the last counts. */
  readonly search: readonly string[]
  /** How many dots a name needs to be tried as it is first; default 1, at most 15. */
  readonly ndots: number
  /** How long the C library waits for a server; default 5, at most 30. */
  readonly timeoutSeconds: number
  /** How often it asks each; default 2, at most 5. */
  readonly attempts: number
  /** Takes turns instead of preferring the first. */
  readonly isRotating: boolean
  readonly faults: readonly ResolvFault[]
}

export interface ResolvServer {
  /** Canonical text (RFC 5952). */
  readonly address: string
  readonly port: number
  /**
   * On this machine: 127.0.0.53 is systemd-resolved, which may be asking us. A question that comes
   * back is noticed when it does; this is for saying so before.
   */
  readonly isLoopback: boolean
}

export interface ResolvFault {
  /** From 1; 1 also for what the file lacks. */
  readonly line: number
  readonly message: string
}

const DNS_PORT = 53
/** A longer file is no resolv.conf. */
const TEXT_CHARACTERS_MAX = 65_536
/** glibc has no bound since 2.26; nobody has more. */
const SEARCH_MAX = 64
/** A generated file may be wrong in each of its lines; the log should survive it. */
const FAULTS_MAX = 20

const OPTION_CAPS = { ndots: 15, timeout: 30, attempts: 5 } as const

/** Options that are right and none of our business. */
const OTHER_OPTIONS = new Set(
  'debug no-check-names inet6 ip6-bytestring ip6-dotint no-ip6-dotint edns0 single-request single-request-reopen no-tld-query use-vc no-reload trust-ad no-aaaa strict-error'.split(
    ' ',
  ),
)

interface Draft {
  readonly servers: ResolvServer[]
  search: string[]
  readonly numbers: { ndots: number; timeout: number; attempts: number }
  isRotating: boolean
  readonly faults: ResolvFault[]
}

export function parseResolvConf(text: string): ResolvConf {
  const draft: Draft = {
    servers: [],
    search: [],
    numbers: { ndots: 1, timeout: 5, attempts: 2 },
    isRotating: false,
    faults: [],
  }
  const read = text.slice(0, TEXT_CHARACTERS_MAX).replace(/^\uFEFF/, '')
  for (const [index, line] of read.split('\n').entries()) readLine(line, index + 1, draft)
  if (text.length > TEXT_CHARACTERS_MAX) {
    addFault(draft, 1, `longer than ${TEXT_CHARACTERS_MAX} characters: the rest is not read`)
  }
  if (draft.servers.length === 0) addFault(draft, 1, 'no usable nameserver line')
  return {
    servers: draft.servers,
    search: draft.search,
    ndots: draft.numbers.ndots,
    timeoutSeconds: draft.numbers.timeout,
    attempts: draft.numbers.attempts,
    isRotating: draft.isRotating,
    faults: draft.faults,
  }
}

function readLine(line: string, number: number, draft: Draft): void {
  const words = line.split(/[ \t\r]+/).filter((word) => word !== '')
  const comment = words.findIndex((word) => word.startsWith('#') || word.startsWith(';'))
  const [keyword, ...values] = comment === -1 ? words : words.slice(0, comment)
  if (keyword === undefined) return
  if (keyword === 'nameserver') readServer(values, number, draft)
  else if (keyword === 'search' || keyword === 'domain') readSearch(keyword, values, number, draft)
  else if (keyword === 'options') for (const option of values) readOption(option, number, draft)
  else if (keyword !== 'sortlist') addFault(draft, number, `unknown keyword ${quoted(keyword)}`)
}

function readServer(values: readonly string[], line: number, draft: Draft): void {
  const [text, extra] = values
  if (text === undefined) {
    addFault(draft, line, 'nameserver without an address')
    return
  }
  if (extra !== undefined) {
    addFault(draft, line, `one address a line: ${quoted(extra)} is not read`)
  }
  const address = canonical(text)
  if (address === null) addFault(draft, line, serverFault(text))
  else if (draft.servers.some((server) => server.address === address)) {
    addFault(draft, line, `${address} is named twice`)
  } else if (draft.servers.length === SERVERS_MAX) {
    addFault(draft, line, `more than ${SERVERS_MAX} servers: ${address} is not used`)
  } else {
    const isLoopback = address.startsWith('127.') || address === '::1'
    draft.servers.push({ address, port: DNS_PORT, isLoopback })
  }
}

/** RFC 5952 text, or null for what no socket of ours could be connected to. */
function canonical(text: string): string | null {
  if (isIPv4(text)) return text
  if (!isIPv6(text) || text.includes('%')) return null
  const { address } = new SocketAddress({ address: text, family: 'ipv6' })
  return isMapped(address) ? null : address
}

/** IPv4 in IPv6 form, in canonical text. */
function isMapped(address: string): boolean {
  return address.startsWith('::ffff:') && address.includes('.')
}

function serverFault(text: string): string {
  if (isIPv6(text)) {
    return text.includes('%')
      ? `${quoted(text)}: a link-local address with its zone can't be used; name another`
      : `${quoted(text)} is an IPv4 address in IPv6 form; write it as IPv4`
  }
  return `${quoted(text)} is no IP address`
}

function readSearch(keyword: string, values: string[], line: number, draft: Draft): void {
  if (values.length === 0) addFault(draft, line, `${keyword} without a domain`)
  if (values.length > SEARCH_MAX) {
    addFault(draft, line, `more than ${SEARCH_MAX} domains: the rest is not read`)
  }
  draft.search = values.slice(0, keyword === 'domain' ? 1 : SEARCH_MAX)
}

function readOption(option: string, line: number, draft: Draft): void {
  const [name, value] = option.split(':', 2)
  if (name === 'ndots' || name === 'timeout' || name === 'attempts') {
    if (value === undefined || !/^\d{1,9}$/.test(value)) {
      addFault(draft, line, `${name} needs a number: ${quoted(option)}`)
    } else draft.numbers[name] = Math.min(Number(value), OPTION_CAPS[name])
  } else if (name === 'rotate') draft.isRotating = true
  else if (!OTHER_OPTIONS.has(option)) {
    addFault(draft, line, `unknown option ${quoted(option)}`)
  }
}

function addFault(draft: Draft, line: number, message: string): void {
  if (draft.faults.length < FAULTS_MAX) draft.faults.push({ line, message })
}

/** For a message: short, and without anything that a terminal would obey. */
function quoted(text: string): string {
  const printable = text.slice(0, 60).replace(/[^ -~]/g, '?')
  return `"${printable}${text.length > 60 ? '…' : ''}"`
}
