/**
 * A zone made from a seed, with something of everything that an answer can look like, and random
 * questions about it.
 */
import type { Random } from '../fuzz/random.ts'

const ZONE = 'example.com.'
const OTHER_ZONE = 'example.net.'
const TTLS = [1, 5, 30, 60, 300, 3600, 7200, 86_400]
const HOSTS = 24
const SOA = 'SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400'

/** Types that are asked for: known, unknown, and of no record. */
const TYPES = [
  ...['A', 'A', 'A', 'AAAA', 'AAAA', 'CNAME', 'TXT', 'TXT', 'MX', 'SRV', 'HTTPS', 'HTTPS', 'SVCB'],
  ...['NS', 'SOA', 'PTR', 'DNAME', 'CAA', 'NAPTR', 'DS', 'TYPE65280', 'TYPE1234', 'ANY', 'AXFR'],
]

export interface GeneratedZone {
  /** Master files by zone. */
  readonly files: ReadonlyMap<string, string>
  /** Owners of records, absolute. */
  readonly names: readonly string[]
}

export interface Question {
  /** As sent, with its case. */
  readonly name: string
  readonly type: string
  readonly class: 'IN' | 'CH'
  readonly isRecursionDesired: boolean
  /** null: without EDNS. */
  readonly udpBytes: number | null
  readonly isDnssecOk: boolean
  readonly isCheckingDisabled: boolean
  readonly wantsAd: boolean
  readonly isTcp: boolean
}

export function generateZone(random: Random): GeneratedZone {
  const lines: string[] = [`${ZONE} 60 ${SOA} 20`, `${ZONE} 3600 NS ns.example.org.`]
  const add = (owner: string, ttl: number, data: string) => lines.push(`${owner} ${ttl} ${data}`)
  for (let host = 0; host < HOSTS; host++) {
    const owner = `host-${host}.${ZONE}`
    for (let count = random.below(9); count > 0; count--) add(owner, ttlOf(host), v4(host, count))
    for (let count = random.below(5); count > 0; count--) add(owner, ttlOf(host), v6(host, count))
    for (const data of manyTypes(host, random)) add(owner, ttlOf(host), data)
  }
  for (let index = 0; index < 12; index++) {
    const target = random.pick([`host-${index}.${ZONE}`, `alias-${index - 1}.${ZONE}`])
    add(`alias-${index}.${ZONE}`, random.pick(TTLS), `CNAME ${target}`)
  }
  add(`alias--1.${ZONE}`, 60, 'CNAME nobody.example.com.')
  add(`outside.${ZONE}`, 60, `CNAME host.${OTHER_ZONE}`)
  add(`loop-a.${ZONE}`, 60, `CNAME loop-b.${ZONE}`)
  add(`loop-b.${ZONE}`, 60, `CNAME loop-a.${ZONE}`)
  add(`tree.${ZONE}`, 120, `DNAME below.${OTHER_ZONE}`)
  add(`deep.er.empty.${ZONE}`, 60, v4(1, 1))
  add(`*.wild.${ZONE}`, 60, v4(2, 2))
  for (const bytes of [300, 600, 1300, 3000, 9000]) add(`txt-${bytes}.${ZONE}`, 60, longTxt(bytes))
  const other = [
    `${OTHER_ZONE} 60 ${SOA} 5`,
    `${OTHER_ZONE} 3600 NS ns.example.org.`,
    `host.${OTHER_ZONE} 30 ${v4(3, 3)}`,
    `www.below.${OTHER_ZONE} 30 ${v4(4, 4)}`,
    `www.below.${OTHER_ZONE} 40 ${v6(4, 4)}`,
  ]
  const owners = [...lines, ...other].map((line) => line.split(' ')[0]!)
  const files = new Map([
    [ZONE, `${lines.join('\n')}\n`],
    [OTHER_ZONE, `${other.join('\n')}\n`],
    // Nobody shall be asked who is not here.
    ['.', `. 60 ${SOA} 20\n. 3600 NS ns.example.org.\n`],
  ])
  return { files, names: [...new Set(owners)] }
}

/** One TTL a set of records (RFC 2181 §5.2). */
function ttlOf(host: number): number {
  return TTLS[host % TTLS.length]!
}

function v4(host: number, count: number): string {
  return `A 192.0.2.${host * 9 + count}`
}

function v6(host: number, count: number): string {
  return `AAAA 2001:db8:${host}::${count}`
}

function manyTypes(host: number, random: Random): string[] {
  const all = [
    `TXT "v=spf1 -all" "number ${host}"`,
    `MX 10 host-${host + 1}.${ZONE}`,
    `SRV 1 2 443 host-${host + 2}.${ZONE}`,
    `HTTPS 1 . alpn=h2 ipv4hint=192.0.2.${host + 1} ipv6hint=2001:db8::${host}`,
    `HTTPS 2 host-${host + 1}.${ZONE} port=8443`,
    `SVCB 0 host-${host + 1}.${ZONE}`,
    'CAA 0 issue "ca.example.org"',
    `NAPTR 1 2 "s" "http" "" _http._tcp.${ZONE}`,
    'TYPE65280 \\# 4 c00cc00c',
  ]
  return all.filter(() => random.oneIn(2))
}

function longTxt(bytes: number): string {
  const strings = Array.from({ length: Math.ceil(bytes / 200) }, (_, index) => {
    return `"${String(index).padStart(4, '0')}${'x'.repeat(196)}"`
  })
  return `TXT ${strings.join(' ')}`
}

export function someQuestion(zone: GeneratedZone, random: Random): Question {
  const udpBytes = random.pick([null, 512, 1232, 1232, 4096])
  return {
    name: mixCase(someName(zone, random), random),
    type: random.pick(TYPES),
    class: random.oneIn(30) ? 'CH' : 'IN',
    isRecursionDesired: !random.oneIn(20),
    udpBytes,
    isDnssecOk: udpBytes !== null && random.oneIn(3),
    isCheckingDisabled: random.oneIn(4),
    wantsAd: random.oneIn(4),
    isTcp: random.oneIn(6),
  }
}

function someName({ names }: GeneratedZone, random: Random): string {
  const name = random.pick(names).replace('*', `any-${random.below(4)}`)
  switch (random.below(8)) {
    case 0:
      return `nobody-${random.below(6)}.${name}`
    case 1:
      return `www.tree.${ZONE}`
    case 2:
      return name.slice(name.indexOf('.') + 1)
    default:
      return name
  }
}

function mixCase(name: string, random: Random): string {
  if (random.oneIn(2)) return name
  return name.replaceAll(/[a-z]/g, (letter) => (random.oneIn(2) ? letter.toUpperCase() : letter))
}
