/**
 * 0x20: the letters of a question in random case. Servers repeat a question as it was asked, so
 * whoever forges an answer without seeing the question must guess one more bit for each letter.
 * Source: draft-vixie-dnsext-dns0x20-00; RFC 4343 (names are the same in any case).
 */
const CASE_BIT = 0x20

/** All lower case. */
export const NEVER = (): number => 0

/**
 * Sets the case of each letter of the name in wire form at `at`.
 * @param random  16 bits that nobody can guess: a letter is upper case where its bit is set
 */
export function setCase(bytes: Uint8Array, at: number, random: () => number): void {
  let bits = 0
  let left = 0
  for (let length = bytes[at]!; length !== 0; length = bytes[at]!) {
    const end = at + 1 + length
    for (at++; at < end; at++) {
      const lower = bytes[at]! | CASE_BIT
      if (!isLower(lower)) continue
      if (left === 0) {
        bits = random()
        left = 16
      }
      bytes[at] = (bits & 1) === 0 ? lower : lower & ~CASE_BIT
      bits >>= 1
      left--
    }
  }
}

/** Whether two question sections, of `count` bytes, differ in nothing but the case of letters. */
export function isSameButCase(
  a: Uint8Array,
  aAt: number,
  b: Uint8Array,
  bAt: number,
  count: number,
): boolean {
  for (let index = 0; index < count - 4; index++) {
    const byte = b[bAt + index]!
    const difference = a[aAt + index]! ^ byte
    if (difference !== 0 && (difference !== CASE_BIT || !isLower(byte | CASE_BIT))) return false
  }
  for (let index = count - 4; index < count; index++) {
    if (a[aAt + index] !== b[bAt + index]) return false
  }
  return true
}

function isLower(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a
}
