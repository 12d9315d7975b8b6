/**
 * What the chains of the table share: the shape of a chain, and matches that more than one uses.
 */
import { DNS_PORT, type Ruleset } from '../../grant/ruleset.ts'

export interface RenderedChain {
  readonly name: string
  readonly comment: string
  /** 'type filter hook …; policy accept;'; '' for a chain that others jump to. */
  readonly hook: string
  readonly rules: readonly string[]
}

export const FAMILIES = [
  { family: 4, ip: 'ip' },
  { family: 6, ip: 'ip6' },
] as const

/** A query, over either protocol. */
export const DNS = `meta l4proto { tcp, udp } th dport ${DNS_PORT}`

/** Source: RFC 4861 §6.1, §7.1: 255 proves that a neighbour sent it. */
export const NEIGHBOURS =
  'ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }'

/** What a link needs before anybody has an address, or to keep it. Only ever to this node. */
export function linkRules(verdict: 'accept' | 'return'): string[] {
  return [
    `${NEIGHBOURS} ${verdict}`,
    `ip6 daddr ff02::/16 icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } ${verdict}`,
    `udp sport 68 udp dport 67 ${verdict}`,
    `udp sport 546 udp dport 547 ${verdict}`,
  ]
}

export function ownersOf(ruleset: Ruleset): number[] {
  return ruleset.places.map((place) => ruleset.marks.owners[place]!)
}

export function isMark(ruleset: Ruleset, ...values: readonly number[]): string {
  const value = values.length === 1 ? `== ${anyOf(values)}` : anyOf(values)
  return `meta mark & ${hex(ruleset.marks.mask)} ${value}`
}

export function setMark(ruleset: Ruleset, value: number): string {
  return `meta mark set meta mark & ${hex(~ruleset.marks.mask)} | ${hex(value)}`
}

export function anyOf(values: readonly (number | string)[]): string {
  const texts = values.map((value) => (typeof value === 'number' ? hex(value) : value))
  return texts.length === 1 ? texts[0]! : `{ ${texts.join(', ')} }`
}

export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, '0')}`
}
