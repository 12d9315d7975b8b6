/**
 * Finds out, at start, whether a host firewall drops what we intercept.
 *
 * A query on its way to our sockets passes the input hook of everybody's tables as an untracked
 * packet with our mark, and a drop there is final whatever we accept. So the chains hooked there are
 * read and followed as that packet would: IPv4 or IPv6, UDP to port 53, from a client's link.
 *
 * What must stay true: only what is certain is told. A rule that may accept the packet counts as one
 * that does, a rule that may drop it as one that does not; what can't be read ends the search.
 *
 * Source: libnftables-json(5). Not seen: rules of iptables-legacy, which nft does not list.
 */
import { DNS_PORT } from '../../grant/ruleset.ts'
import { TABLE } from './names.ts'
import { type Tools, runTool } from './tool.ts'

/** A firewall of more chains than these is not followed to its end. */
const CHAINS_MAX = 64

export interface InterceptedMark {
  readonly value: number
  readonly mask: number
}

/** Where a packet ends: 'chain ip filter INPUT (policy drop)', and what helps. */
export interface InputDrop {
  readonly where: string
  /** A command. */
  readonly cure: string
}

interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook?: string
  readonly policy?: string
}

interface NftJson {
  readonly chain?: Chain
  readonly rule?: { readonly handle: number; readonly expr: readonly Json[] }
}

type Json = Readonly<Record<string, unknown>>
type Answer = 'yes' | 'no' | 'maybe'
/** 'next': the packet goes on behind the chain. Another text: where it is dropped. */
type Outcome = 'accept' | 'next' | { readonly dropped: string }

/** Every chain hooked at input that drops intercepted queries for certain. Throws NftError. */
export async function findInputDrops(tools: Tools, mark: InterceptedMark): Promise<InputDrop[]> {
  const listed = await list(tools, 'chains')
  const hooked = listed.flatMap(({ chain }) =>
    chain?.hook === 'input' && chain.table !== TABLE && chain.family !== 'bridge' ? [chain] : [],
  )
  const found: InputDrop[] = []
  for (const chain of hooked) {
    const outcome = await new Walk(tools, mark, chain).run()
    if (outcome === 'accept') continue
    const name = `${chain.family} ${chain.table} ${chain.name}`
    const isPolicy = outcome === 'next'
    if (isPolicy && chain.policy !== 'drop') continue
    const where = isPolicy ? `chain ${name} (policy drop)` : outcome.dropped
    const match = `meta mark and ${hex(mark.mask)} == ${hex(mark.value)}`
    found.push({ where, cure: `nft insert rule ${name} ${match} accept` })
  }
  return found
}

class Walk {
  readonly #tools: Tools
  readonly #mark: InterceptedMark
  readonly #base: Chain
  #count = 0

  constructor(tools: Tools, mark: InterceptedMark, base: Chain) {
    this.#tools = tools
    this.#mark = mark
    this.#base = base
  }

  run(): Promise<Outcome> {
    return this.#chain(this.#base.name)
  }

  async #chain(name: string): Promise<Outcome> {
    if (++this.#count > CHAINS_MAX) return 'accept'
    const { family, table } = this.#base
    const listed = await list(this.#tools, 'chain', family, table, name)
    for (const { rule } of listed) {
      if (rule === undefined) continue
      const place = `rule ${rule.handle} of chain ${family} ${table} ${name}`
      const outcome = await this.#rule(rule.expr, place)
      if (outcome === 'leave') return 'next'
      if (outcome !== 'next') return outcome
    }
    return 'next'
  }

  /** 'leave': the rest of the chain is not for this packet. */
  async #rule(expressions: readonly Json[], place: string): Promise<Outcome | 'leave'> {
    let isMatch: Answer = 'yes'
    for (const expression of expressions) {
      const [kind = '', body] = Object.entries(expression)[0] ?? []
      if (kind === 'counter' || kind === 'log') continue
      if (kind === 'vmap') return this.#map(body as Json, isMatch, place)
      const outcome = await this.#verdict(kind, body, isMatch, place)
      if (outcome !== null) return outcome
      const answer = this.#match(kind, body)
      if (answer === 'no') return 'next'
      if (answer === 'maybe') isMatch = 'maybe'
    }
    return 'next'
  }

  /** null: it is no verdict. */
  async #verdict(
    kind: string,
    body: unknown,
    isMatch: Answer,
    place: string,
  ): Promise<Outcome | 'leave' | null> {
    switch (kind) {
      case 'accept':
      case 'queue':
        return 'accept'
      case 'drop':
      case 'reject':
        return isMatch === 'yes' ? { dropped: `${place} (${kind})` } : 'next'
      case 'xt': {
        // iptables' REJECT is no verdict of nft's own.
        const { type, name } = (body ?? {}) as { type?: string; name?: string }
        if (type !== 'target' || name !== 'REJECT') return null
        return isMatch === 'yes' ? { dropped: `${place} (reject)` } : 'next'
      }
      case 'return':
        return isMatch === 'yes' ? 'leave' : 'next'
      case 'continue':
        return 'next'
      case 'jump':
      case 'goto': {
        const outcome = await this.#chain((body as { target: string }).target)
        if (isMatch === 'yes') return kind === 'goto' && outcome === 'next' ? 'leave' : outcome
        return outcome === 'accept' ? 'accept' : 'next'
      }
      default:
        return null
    }
  }

  async #map({ key, data }: Json, isMatch: Answer, place: string): Promise<Outcome | 'leave'> {
    const entries = (data as { set?: readonly [unknown, Json][] } | null)?.set
    // One with a name is filled by somebody at any time.
    if (!Array.isArray(entries)) return 'accept'
    for (const [value, verdict] of entries) {
      const answer = this.#compare(key as Json, value)
      if (answer === 'no') continue
      const [kind = '', body] = Object.entries(verdict)[0] ?? []
      const both = answer === 'yes' ? isMatch : 'maybe'
      const outcome = (await this.#verdict(kind, body, both, place)) ?? 'accept'
      if (outcome !== 'next') return outcome
    }
    return 'next'
  }

  #match(kind: string, body: unknown): Answer {
    // What iptables says of a connection: an untracked packet is part of none.
    if (kind === 'xt' && (body as { name?: string } | null)?.name === 'conntrack') return 'no'
    if (kind !== 'match') return 'maybe'
    const { op, left, right } = body as { op: string; left: Json; right: unknown }
    if (op !== '==' && op !== 'in' && op !== '!=') return 'maybe'
    const answer = this.#compare(left, right)
    if (op !== '!=' || answer === 'maybe') return answer
    return answer === 'yes' ? 'no' : 'yes'
  }

  /** What is known of the packet, against what a rule asks for. */
  #compare(left: Json, right: unknown): Answer {
    const { meta, ct, payload } = left as Record<string, { key?: string; [field: string]: unknown }>
    if (ct?.key === 'state') return holds(right, 'untracked')
    if (meta?.key === 'l4proto') return holds(right, 'udp')
    if (meta?.key === 'mark') return this.#compareMark(right)
    if (meta?.key === 'iifname') return holds(right, 'lo') === 'yes' ? 'no' : 'maybe'
    if (payload === undefined) return 'maybe'
    const { protocol, field } = payload as { protocol: string; field: string }
    if (field === 'dport' && protocol !== 'tcp') return holds(right, DNS_PORT)
    if ((protocol === 'ip' && field === 'protocol') || field === 'nexthdr') {
      return holds(right, 'udp')
    }
    return ['udp', 'th', 'ip', 'ip6'].includes(protocol) ? 'maybe' : 'no'
  }

  /** Only the bits under our mask are known. */
  #compareMark(right: unknown): Answer {
    const { prefix } = (right ?? {}) as { prefix?: { addr: number; len: number } }
    if (prefix === undefined) return 'maybe'
    const mask = prefix.len === 0 ? 0 : (-1 << (32 - prefix.len)) >>> 0
    if ((mask & ~this.#mark.mask) !== 0) return 'maybe'
    return ((this.#mark.value & mask) ^ prefix.addr) === 0 ? 'yes' : 'no'
  }
}

/** Whether a value is, or is among, what stands on the right. */
function holds(right: unknown, value: string | number): Answer {
  if (typeof right === 'number') return right === value ? 'yes' : 'no'
  if (typeof right === 'string') {
    // '@name' is a set that somebody fills.
    return right.startsWith('@') ? 'maybe' : right === value ? 'yes' : 'no'
  }
  if (Array.isArray(right)) return anyOf(right.map((one) => holds(one, value)))
  const { set, range } = (right ?? {}) as { set?: unknown[]; range?: [number, number] }
  if (set !== undefined) return anyOf(set.map((one) => holds(one, value)))
  if (range !== undefined && typeof value === 'number') {
    return value >= range[0] && value <= range[1] ? 'yes' : 'no'
  }
  return 'maybe'
}

function anyOf(answers: readonly Answer[]): Answer {
  return answers.includes('yes') ? 'yes' : answers.includes('maybe') ? 'maybe' : 'no'
}

async function list(tools: Tools, ...what: string[]): Promise<readonly NftJson[]> {
  const words = ['-t', '-j', 'list', ...what]
  const listed = await runTool(tools.nft, words, '', 'look for a firewall', tools.timeoutMs)
  return (JSON.parse(listed) as { nftables: NftJson[] }).nftables
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`
}
