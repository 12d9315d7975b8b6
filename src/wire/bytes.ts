/**
 * Numbers in network byte order, in a Uint8Array: what the language lacks for DNS messages.
 * Used by everything in wire/ and by whoever touches a header field. A DataView would need an
 * object for each buffer; these are as fast and need none.
 *
 * Nothing here checks bounds: the caller has. Reading past the array's end gives 0 bytes, writing
 * there does nothing.
 */

export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

/** In hot code keep the result below 2³¹ or in a local: larger ones are heap numbers when they escape. */
export function getU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
  )
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

/**
 * The TTL at `at`, 0 to 2³¹ - 1. One with its high bit set counts as 0: whoever sent it meant
 * something negative, and 68 years in a cache would be the wrong reading. Source: RFC 2181 §8.
 */
export function getTtl(bytes: Uint8Array, at: number): number {
  const ttl = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
  return ttl < 0 ? 0 : ttl
}

/** The same bytes as a DataView. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Copies within or between arrays; `copyWithin` and `set` would need a view. Not for overlaps. */
export function copyBytes(
  from: Uint8Array,
  fromAt: number,
  count: number,
  to: Uint8Array,
  toAt: number,
): void {
  for (let index = 0; index < count; index++) to[toAt + index] = from[fromAt + index]!
}

/**
 * Copies `count` bytes into whole words, a third of the time that copyBytes takes; what is left of
 * the last word is zero.
 */
export function copyToWords(
  from: DataView,
  fromAt: number,
  count: number,
  words: Int32Array,
  word: number,
): void {
  const end = fromAt + (count & ~3)
  while (fromAt < end) {
    words[word++] = from.getInt32(fromAt, true)
    fromAt += 4
  }
  const left = count & 3
  if (left === 0) return
  let last = 0
  for (let index = 0; index < left; index++) last |= from.getUint8(fromAt + index) << (index * 8)
  words[word] = last
}

export function areBytesEqual(
  a: Uint8Array,
  aAt: number,
  b: Uint8Array,
  bAt: number,
  count: number,
): boolean {
  for (let index = 0; index < count; index++) {
    if (a[aAt + index] !== b[bAt + index]) return false
  }
  return true
}
