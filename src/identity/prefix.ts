/**
 * Prefixes ('10.0.0.0/24', '2001:db8::/32') and what can be said of sets of them.
 *
 * Policy names networks by prefixes; the compiler asks whether one covers an address, and takes
 * some away from others. Ranges are the form in which that is easy: a range is the first and the
 * last address, as bytes of one family. Nothing here is hot: policy/table.ts searches ranges that
 * were made here.
 */
import { type Family, familyOf, formatAddress, parseAddress } from './address.ts'

export interface Prefix {
  readonly family: Family
  /** 4 or 16 bytes; bits beyond `bits` are 0. */
  readonly bytes: Uint8Array
  readonly bits: number
}

/** First and last address, both included, of one family. */
export interface AddressRange {
  readonly first: Uint8Array
  readonly last: Uint8Array
}

/** null when `text` is no prefix. Bits set beyond its length are cleared, as Cilium does. */
export function parsePrefix(text: string): Prefix | null {
  const match = /^([^/]+)\/(0|[1-9][0-9]{0,2})$/.exec(text)
  const bytes = match === null ? null : parseAddress(match[1]!)
  if (match === null || bytes === null) return null
  const bits = Number(match[2])
  if (bits > bytes.length * 8) return null
  const masked = bytes.map((byte, index) => byte & maskByte(bits, index))
  return { family: familyOf(bytes), bytes: masked, bits }
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.bytes, 0, prefix.family)}/${prefix.bits}`
}

/** '10.0.0.7' → '10.0.0.7/32'. The address must be canonical. */
export function prefixOfAddress(address: string): string {
  return address.includes(':') ? `${address}/128` : `${address}/32`
}

/** Whether every address of `inner` lies in `outer`. */
export function coversPrefix(outer: Prefix, inner: Prefix): boolean {
  if (outer.family !== inner.family || outer.bits > inner.bits) return false
  return outer.bytes.every(
    (byte, index) => byte === (inner.bytes[index]! & maskByte(outer.bits, index)),
  )
}

export function rangeOfPrefix(prefix: Prefix): AddressRange {
  const last = prefix.bytes.map((byte, index) => byte | (~maskByte(prefix.bits, index) & 0xff))
  return { first: prefix.bytes, last }
}

/** Whether an address (4 or 16 bytes) lies in one of the prefixes. */
export function isCovered(address: Uint8Array, prefixes: readonly Prefix[]): boolean {
  const family = familyOf(address)
  const inner = { family, bytes: address, bits: address.length * 8 }
  return prefixes.some((prefix) => coversPrefix(prefix, inner))
}

/** The ranges of `family`, sorted, with overlapping and adjacent ones joined. */
export function mergeRanges(ranges: readonly AddressRange[], family: Family): AddressRange[] {
  const bytes = family === 4 ? 4 : 16
  const sorted = ranges
    .filter((range) => range.first.length === bytes)
    .toSorted((a, b) => compareBytes(a.first, b.first))
  const merged: AddressRange[] = []
  for (const range of sorted) {
    const before = merged.at(-1)
    if (before === undefined || compareBytes(range.first, increment(before.last)) > 0) {
      // 'increment' wraps after the last address there is; nothing can follow that one.
      if (before === undefined || !isAll(before.last, 0xff)) merged.push(range)
    } else if (compareBytes(range.last, before.last) > 0) {
      merged[merged.length - 1] = { first: before.first, last: range.last }
    }
  }
  return merged
}

/** The same addresses in the fewest prefixes, sorted. */
export function mergePrefixes(prefixes: readonly Prefix[]): Prefix[] {
  const merged: Prefix[] = []
  const sorted = prefixes.toSorted(
    (a, b) => a.family - b.family || compareBytes(a.bytes, b.bytes) || a.bits - b.bits,
  )
  for (const prefix of sorted) {
    const before = merged.at(-1)
    if (before !== undefined && coversPrefix(before, prefix)) continue
    merged.push(prefix)
    for (;;) {
      const parent = parentOfHalves(merged.at(-2), merged.at(-1)!)
      if (parent === null) break
      merged.splice(-2, 2, parent)
    }
  }
  return merged
}

/** The prefix whose lower and upper half these are; null when they are not. */
function parentOfHalves(lower: Prefix | undefined, upper: Prefix): Prefix | null {
  if (lower === undefined || lower.bits !== upper.bits || lower.bits === 0) return null
  const parent = { family: lower.family, bytes: lower.bytes, bits: lower.bits - 1 }
  const isLower = lower.bytes.every((byte, index) => byte === (byte & maskByte(parent.bits, index)))
  return isLower && coversPrefix(parent, upper) ? parent : null
}

/** The prefixes that hold what is in `from` and not in `taken`, sorted, as few as possible. */
export function subtractPrefixes(from: readonly Prefix[], taken: readonly Prefix[]): Prefix[] {
  const left: Prefix[] = []
  for (const prefix of from) subtractInto(left, prefix, taken)
  return left
}

/** Splits `prefix` in halves until each half is free of `taken` or lies in it. */
function subtractInto(out: Prefix[], prefix: Prefix, taken: readonly Prefix[]): void {
  const relevant = taken.filter((hole) => coversPrefix(prefix, hole) || coversPrefix(hole, prefix))
  if (relevant.length === 0) {
    out.push(prefix)
    return
  }
  if (relevant.some((hole) => coversPrefix(hole, prefix))) return
  const bits = prefix.bits + 1
  const upper = prefix.bytes.slice()
  upper[prefix.bits >>> 3]! |= 0x80 >>> (prefix.bits & 7)
  subtractInto(out, { family: prefix.family, bytes: prefix.bytes, bits }, relevant)
  subtractInto(out, { family: prefix.family, bytes: upper, bits }, relevant)
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let index = 0; index < a.length; index++) {
    const difference = a[index]! - b[index]!
    if (difference !== 0) return difference
  }
  return 0
}

function increment(bytes: Uint8Array): Uint8Array {
  const next = bytes.slice()
  for (let index = next.length - 1; index >= 0; index--) {
    next[index] = (next[index]! + 1) & 0xff
    if (next[index] !== 0) break
  }
  return next
}

function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.every((byte) => byte === value)
}

/** The bits of byte `index` that a prefix of `bits` bits fixes. */
function maskByte(bits: number, index: number): number {
  const fixed = Math.min(8, Math.max(0, bits - index * 8))
  return (0xff << (8 - fixed)) & 0xff
}
