/**
 * IP addresses as text and as bytes: 4 or 16 of them, in network byte order.
 *
 * Files, nft and people write text; packets, tables and comparisons use bytes. Whatever is
 * compared as text anywhere (snapshot, grants, `observe`) went through `formatAddress`, so that an
 * address has one spelling: RFC 5952.
 *
 * What must stay true: an IPv4-mapped IPv6 address (::ffff:192.0.2.1) never becomes, equals or
 * covers the IPv4 address inside it. It is refused wherever it is read, because a policy that one
 * part takes for IPv4 and another for IPv6 is a hole. Source: RFC 4291 §2.2, §2.5.5.2; RFC 5952.
 */

export type Family = 4 | 6

export const IPV4_BYTES = 4
export const IPV6_BYTES = 16

export function familyOf(bytes: Uint8Array): Family {
  return bytes.length === IPV4_BYTES ? 4 : 6
}

/**
 * The bytes of an address written as text; null when it is none, and for an IPv4-mapped one.
 * No zone ('%eth0'), no port, no brackets, no leading zeros in IPv4 (some read those as octal).
 */
export function parseAddress(text: string): Uint8Array | null {
  if (!text.includes(':')) return parseIpv4(text)
  const bytes = parseIpv6(text)
  return bytes === null || isMapped(bytes, 0) ? null : bytes
}

/** Why `parseAddress` refused `text`, for a person who wrote it. */
export function addressFault(text: string): string {
  const bytes = text.includes(':') ? parseIpv6(text) : null
  if (bytes !== null && isMapped(bytes, 0)) {
    const inner = formatIpv4(bytes, IPV6_BYTES - IPV4_BYTES)
    return `'${text}' is an IPv4 address in IPv6 form; write ${inner}`
  }
  return `'${text}' is no IP address`
}

/** The one spelling of an address; null when it is none. */
export function canonicalAddress(text: string): string | null {
  const bytes = parseAddress(text)
  return bytes === null ? null : formatAddress(bytes, 0, familyOf(bytes))
}

/**
 * 32 bits of the 4 or 16 bytes at `at`: the same for the same address and seed, and not to be chosen
 * by who does not know the seed.
 */
export function hashAddress(bytes: Uint8Array, at: number, family: number, seed: number): number {
  const end = at + (family === 4 ? IPV4_BYTES : IPV6_BYTES)
  let hash = seed ^ family
  for (let from = at; from < end; from += 4) {
    const word =
      (bytes[from]! << 24) | (bytes[from + 1]! << 16) | (bytes[from + 2]! << 8) | bytes[from + 3]!
    hash = Math.imul(hash ^ word, 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 15), 0x9e3779b1)
    hash ^= hash >>> 13
  }
  return hash
}

/** Text of the 4 or 16 bytes at `at`. Source: RFC 5952 §4 and, for IPv4-mapped, §5. */
export function formatAddress(bytes: Uint8Array, at: number, family: Family): string {
  if (family === 4) return formatIpv4(bytes, at)
  if (isMapped(bytes, at)) return `::ffff:${formatIpv4(bytes, at + 12)}`
  const groups: number[] = []
  for (let index = 0; index < IPV6_BYTES; index += 2) {
    groups.push((bytes[at + index]! << 8) | bytes[at + index + 1]!)
  }
  const zeros = longestZeros(groups)
  const hex = groups.map((group) => group.toString(16))
  if (zeros.count < 2) return hex.join(':')
  const end = zeros.at + zeros.count
  return `${hex.slice(0, zeros.at).join(':')}::${hex.slice(end).join(':')}`
}

/** ::ffff:0:0/96. Source: RFC 4291 §2.5.5.2. */
export function isMapped(bytes: Uint8Array, at: number): boolean {
  for (let index = 0; index < 10; index++) if (bytes[at + index] !== 0) return false
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff
}

/** The first of the longest runs of zero groups: RFC 5952 §4.2.3. */
function longestZeros(groups: readonly number[]): { at: number; count: number } {
  let best = { at: 0, count: 0 }
  let count = 0
  for (const [index, group] of groups.entries()) {
    count = group === 0 ? count + 1 : 0
    if (count > best.count) best = { at: index - count + 1, count }
  }
  return best
}

function formatIpv4(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`
}

function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split('.')
  if (parts.length !== IPV4_BYTES) return null
  const bytes = new Uint8Array(IPV4_BYTES)
  for (const [index, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return null
    bytes[index] = Number(part)
  }
  return bytes
}

function parseIpv6(text: string): Uint8Array | null {
  const halves = text.split('::')
  if (halves.length > 2) return null
  const head = parseGroups(halves[0]!, halves.length === 1)
  const tail = halves.length === 1 ? [] : parseGroups(halves[1]!, true)
  if (head === null || tail === null) return null
  const missing = 8 - head.length - tail.length
  // '::' stands for at least one group: RFC 4291 §2.2 allows one, RFC 5952 §4.2.2 never writes it.
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail]
  const bytes = new Uint8Array(IPV6_BYTES)
  for (const [index, group] of groups.entries()) {
    bytes[index * 2] = group >>> 8
    bytes[index * 2 + 1] = group & 0xff
  }
  return bytes
}

/** Groups between colons; the last may be an IPv4 address where the text ends. */
function parseGroups(text: string, isEnd: boolean): number[] | null {
  if (text === '') return []
  const parts = text.split(':')
  const groups: number[] = []
  for (const [index, part] of parts.entries()) {
    if (isEnd && index === parts.length - 1 && part.includes('.')) {
      const bytes = parseIpv4(part)
      if (bytes === null) return null
      groups.push((bytes[0]! << 8) | bytes[1]!, (bytes[2]! << 8) | bytes[3]!)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return null
      groups.push(Number.parseInt(part, 16))
    }
  }
  return groups
}
