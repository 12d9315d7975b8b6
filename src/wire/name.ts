/**
 * Names as bytes: the only form in which a name is compared, hashed or decided about.
 *
 * A *name* in this program is absolute, uncompressed, in wire form and lower case:
 *
 *     3 w w w 7 e x a m p l e 3 c o m 0        17 bytes, at most 255 with the 0 of the root
 *
 * Comparing bytes is comparing labels, because each label carries its length. A dot or a NUL
 * inside a label is a byte like any other; programs that compared names as text let a NUL end one
 * and not the other, or took `a\.b` for two labels. Text is for people only: text.ts.
 *
 * Everything here is hot and reads bytes from outside: it allocates nothing and never throws.
 * Compression is followed under these rules, so that no message can make us loop, read outside it
 * or build a name that is none (the catalogue of what parsers forgot is RFC 9267):
 *   - a pointer leads to a byte after the header, and the run of labels found there lies as a whole
 *     before the run that the pointer ended: what is left to read shrinks with each, which alone
 *     makes loops impossible;
 *   - at most 126 of them, as many as a name can have labels;
 *   - label types 01 and 10 are refused; they were never or are no longer in use (RFC 6891 §5);
 *   - the whole has at most 255 bytes, and every byte lies inside the message.
 * Messages lie at an offset in larger buffers: `start` is that of the header, and a pointer counts
 * from there.
 */
import { HEADER_BYTES } from './header.ts'

/** What functions here return instead of an offset or a length. */
export const BAD_NAME = -1

/** Source: RFC 1035 §2.3.4. */
export const NAME_BYTES_MAX = 255
export const LABEL_BYTES_MAX = 63
export const POINTER_JUMPS_MAX = 126

const POINTER = 0xc0

/**
 * Lower case of each byte, for A to Z only: the other letters of the world are not DNS's business
 * (RFC 4343 §3). Length bytes are at most 63 and so below 'A': whole names can go through it.
 */
export const LOWER: Uint8Array = lowerTable()

/**
 * Offset of the first byte after the name that starts at `at`, or BAD_NAME.
 * A compression pointer ends the name: its two bytes are stepped over, not followed. For names
 * whose content does not matter; what is kept or passed on goes through checkName.
 * @param end  bytes of `packet` in use; nothing at or after it is read
 */
export function skipName(packet: Uint8Array, at: number, end: number): number {
  const limit = end < at + NAME_BYTES_MAX ? end : at + NAME_BYTES_MAX
  while (at < limit) {
    const length = packet[at]! // at < limit ≤ end
    if (length === 0) return at + 1
    if (length >= POINTER) return at + 2 <= end ? at + 2 : BAD_NAME
    if (length > LABEL_BYTES_MAX) return BAD_NAME
    at += 1 + length
  }
  return BAD_NAME
}

/**
 * Reads the name at `at` through all its pointers and writes it out as a name.
 * @param out  has room for NAME_BYTES_MAX bytes at `outAt`; may hold a part of a bad name after
 * @returns the name's length, 1 to 255, or BAD_NAME. Where it ends in the packet: skipName
 */
export function readName(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  out: Uint8Array,
  outAt: number,
): number {
  let length = 0
  let jumps = 0
  let runAt = at // the run of labels we are in begins here
  while (at < end) {
    const label = packet[at]! // at < end
    if (label === 0) {
      out[outAt + length] = 0
      return length + 1
    }
    if (label >= POINTER) {
      if (at + 2 > end) return BAD_NAME
      at = start + (((label & 0x3f) << 8) | packet[at + 1]!)
      jumps++
      if (at < start + HEADER_BYTES || jumps > POINTER_JUMPS_MAX) return BAD_NAME
      end = runAt // and with that, strictly backwards
      runAt = at
    } else {
      // Behind this label there is at least the root's byte still to come.
      if (label > LABEL_BYTES_MAX || length + 1 + label >= NAME_BYTES_MAX) return BAD_NAME
      if (at + 1 + label > end) return BAD_NAME
      for (let index = 0; index <= label; index++) {
        out[outAt + length + index] = LOWER[packet[at + index]!]!
      }
      length += 1 + label
      at += 1 + label
    }
  }
  return BAD_NAME
}

/**
 * How many steps (labels and pointers) it takes to read the name at `at`, or BAD_NAME: the same
 * checks as readName, without the copy. Whoever checks all names of a message adds the steps up,
 * because many records that point into long chains cost more work than bytes.
 *
 * And one check more: what a pointer leads to may be the RDATA of a type that we do not know, where
 * names can be, but not a TTL. A name that runs over one would become another name as the TTL is
 * counted down: we would have learned from one, and the client would get the other.
 * @param ttlOffsets  offsets from `start` of the TTLs before this name, rising; the first `ttlCount`
 */
export function checkName(
  packet: Uint8Array,
  start: number,
  at: number,
  end: number,
  ttlOffsets: Uint16Array,
  ttlCount: number,
): number {
  let length = 0
  let jumps = 0
  let steps = 0
  let runAt = at
  while (at < end) {
    const label = packet[at]!
    steps++
    if (label !== 0 && label < POINTER) {
      length += 1 + label
      if (label > LABEL_BYTES_MAX || length >= NAME_BYTES_MAX) return BAD_NAME
      at += 1 + label
      continue
    }
    const runEnd = label === 0 ? at + 1 : at + 2
    if (runEnd > end) return BAD_NAME
    // The first run lies where the record is; it is those found by pointers that can lie anywhere.
    if (jumps > 0 && hasTtlIn(ttlOffsets, ttlCount, runAt - start, runEnd - start)) return BAD_NAME
    if (label === 0) return steps
    at = start + (((label & 0x3f) << 8) | packet[at + 1]!)
    jumps++
    if (at < start + HEADER_BYTES || jumps > POINTER_JUMPS_MAX) return BAD_NAME
    end = runAt // and with that, strictly backwards
    runAt = at
  }
  return BAD_NAME
}

/** Whether one of the 4-byte fields at the rising `offsets` has a byte from `from` to before `to`. */
function hasTtlIn(offsets: Uint16Array, count: number, from: number, to: number): boolean {
  if (count === 0 || to <= offsets[0]!) return false // the question, as a rule
  let low = 0
  let high = count // the first field that ends behind `from` is at `low` or behind it, up to `high`
  while (low < high) {
    const middle = (low + high) >>> 1
    if (offsets[middle]! + 4 > from) high = middle
    else low = middle + 1
  }
  return low < count && offsets[low]! < to
}

/**
 * Whether the name at `at` of a packet, checked before, is `name`. Follows pointers, folds case,
 * copies nothing.
 */
export function isNameAt(
  packet: Uint8Array,
  start: number,
  at: number,
  name: Uint8Array,
  nameAt: number,
  nameBytes: number,
): boolean {
  let index = 0
  while (index < nameBytes) {
    const label = packet[at]!
    if (label >= POINTER) {
      at = start + (((label & 0x3f) << 8) | packet[at + 1]!) // checked: strictly backwards
    } else {
      if (label !== name[nameAt + index]) return false
      if (label === 0) return true
      for (let byte = 1; byte <= label; byte++) {
        if (LOWER[packet[at + byte]!] !== name[nameAt + index + byte]) return false
      }
      index += 1 + label
      at += 1 + label
    }
  }
  return false
}

/** Whether two names of `length` bytes are the same. Both are lower case already. */
export function sameName(
  a: Uint8Array,
  aAt: number,
  b: Uint8Array,
  bAt: number,
  length: number,
): boolean {
  for (let index = 0; index < length; index++) {
    if (a[aAt + index] !== b[bAt + index]) return false
  }
  return true
}

/** Whether two uncompressed names of `length` bytes are the same but for case. */
export function sameNameFolded(
  a: Uint8Array,
  aAt: number,
  b: Uint8Array,
  bAt: number,
  length: number,
): boolean {
  for (let index = 0; index < length; index++) {
    if (LOWER[a[aAt + index]!] !== LOWER[b[bAt + index]!]) return false
  }
  return true
}

/** Makes an uncompressed name lower case where it lies. */
export function foldName(bytes: Uint8Array, at: number, length: number): void {
  for (let index = at; index < at + length; index++) bytes[index] = LOWER[bytes[index]!]!
}

/** Labels of a name, without the root's: 3 for www.example.com. */
export function labelCount(bytes: Uint8Array, at: number): number {
  let count = 0
  while (bytes[at] !== 0) {
    at += 1 + bytes[at]!
    count++
  }
  return count
}

/** Where the name one label shorter begins; its end is the same. Not for the root. */
export function parentAt(bytes: Uint8Array, at: number): number {
  return at + 1 + bytes[at]!
}

/** Whether a name is `zone`, itself a whole name, or lies below it; only whole labels count. */
export function isInZone(bytes: Uint8Array, at: number, length: number, zone: Uint8Array): boolean {
  const from = at + length - zone.length
  while (at < from) at += 1 + bytes[at]!
  return at === from && sameName(bytes, from, zone, 0, zone.length)
}

/**
 * Hash of a name, 0 to 2³¹ - 1: one bit short of a word, so that it is never a heap number (16
 * bytes each, measured) and is itself again when it comes out of an Int32Array or a Uint32Array.
 *
 * It is HalfSipHash-1-3, what Linux uses for its hash tables: clients choose the names, and with
 * a hash without a secret one of them could fill a single bucket and slow everybody's lookups.
 * @param seed  32 random bits, the same for as long as the table lives
 * Source: Linux lib/siphash.c (hsiphash); Aumasson and Bernstein, "SipHash", 2012.
 */
export function hashName(bytes: Uint8Array, at: number, length: number, seed: number): number {
  const key1 = Math.imul(seed, 0x9e3779b1)
  let v0 = seed | 0
  let v1 = key1
  let v2 = seed ^ 0x6c796765
  let v3 = key1 ^ 0x74656462
  const end = at + length
  // The last word holds what is left over and the length, as in SipHash; then 3 rounds to finish.
  for (let rest = length; rest >= -12; rest -= 4) {
    let word = 0
    if (rest >= 4) {
      word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
      at += 4
    } else if (rest >= 0) {
      word = length << 24
      for (let shift = 0; at < end; shift += 8) word |= bytes[at++]! << shift
    } else if (rest >= -4) {
      v2 ^= 0xff
    }
    v3 ^= word
    v0 = (v0 + v1) | 0
    v1 = (v1 << 5) | (v1 >>> 27)
    v1 ^= v0
    v0 = (v0 << 16) | (v0 >>> 16)
    v2 = (v2 + v3) | 0
    v3 = (v3 << 8) | (v3 >>> 24)
    v3 ^= v2
    v0 = (v0 + v3) | 0
    v3 = (v3 << 7) | (v3 >>> 25)
    v3 ^= v0
    v2 = (v2 + v1) | 0
    v1 = (v1 << 13) | (v1 >>> 19)
    v1 ^= v2
    v2 = (v2 << 16) | (v2 >>> 16)
    v0 ^= word
  }
  return (v1 ^ v3) & 0x7fffffff
}

function lowerTable(): Uint8Array {
  const table = new Uint8Array(256)
  for (let byte = 0; byte < 256; byte++) table[byte] = byte >= 65 && byte <= 90 ? byte + 32 : byte
  return table
}
