/**
 * A question name, taken apart once for all the patterns it is compared with.
 *
 * Patterns are about labels and about the ends of names (`*.example.com`), so what a table needs is
 * where each label begins and a hash of the name from there to its end: a suffix is then one
 * look-up. Whoever handles questions makes one object at start and scans each question's name once,
 * for all that is asked of the table about it; nothing here allocates.
 *
 *     07 e x a m p l e 03 c o m 00        labelAt[0] = 0, labelAt[1] = 8
 *     └─ suffixHash[0] ──────────┘
 *                      └─ [1] ───┘
 *
 * Names are compared as the bytes of the wire form, so that a label with a dot or a zero byte in it
 * is that label and nothing else. They must be lower case: an upper-case letter counts as a byte
 * that no pattern has.
 */

/** Labels of a name: 255 bytes hold at most 127 and the root. */
const LABELS_MAX = 127

const HASH_START = 0x811c9dc5 | 0
const HASH_PRIME = 0x01000193

/** 1 for the bytes that `*` stands for, in lower case: Cilium's [-a-zA-Z0-9_]. */
export const WILDCARD_BYTES: Uint8Array = wildcardBytes()

export class ScannedName {
  /** The array and place of the scanned name; not kept beyond the question. */
  bytes: Uint8Array
  at = 0
  /** Bytes in wire form, with the final 0. */
  length = 0
  /** What the last scan returned; otherwise nothing here means anything. */
  isWhole = false
  labelCount = 0
  /** How many labels from the left consist of WILDCARD_BYTES only. */
  cleanCount = 0
  /** Relative to `at`; entry `labelCount` is the final 0. */
  readonly labelAt = new Uint8Array(LABELS_MAX + 1)
  readonly suffixHash = new Int32Array(LABELS_MAX + 1)

  constructor() {
    this.bytes = WILDCARD_BYTES
  }

  /**
   * Takes a name apart; false when the bytes are no whole uncompressed name.
   * @param bytes  used until the next scan
   * @param length  1 to 255, with the final 0
   */
  scan(bytes: Uint8Array, at: number, length: number): boolean {
    this.isWhole = false
    if (length < 1 || length > 255 || at + length > bytes.length) return false
    let next = 0
    let count = 0
    while (bytes[at + next] !== 0) {
      const labelBytes = bytes[at + next]!
      this.labelAt[count++] = next
      next += 1 + labelBytes
      if (labelBytes > 63 || next >= length || count > LABELS_MAX) return false
    }
    if (next !== length - 1) return false
    this.labelAt[count] = next
    this.bytes = bytes
    this.at = at
    this.length = length
    this.labelCount = count
    this.isWhole = true
    this.#hash()
    return true
  }

  /** Whether every label consists of bytes that `*` stands for. */
  isClean(): boolean {
    return this.cleanCount === this.labelCount
  }

  /** From the last label to the first, so that one pass hashes every suffix. */
  #hash(): void {
    const bytes = this.bytes
    let hash = mix(HASH_START, 0)
    this.suffixHash[this.labelCount] = hash
    let clean = this.labelCount
    for (let label = this.labelCount - 1; label >= 0; label--) {
      const first = this.at + this.labelAt[label]!
      let isClean = 1
      for (let index = this.at + this.labelAt[label + 1]! - 1; index > first; index--) {
        hash = mix(hash, bytes[index]!)
        isClean &= WILDCARD_BYTES[bytes[index]!]!
      }
      hash = mix(hash, bytes[first]!)
      this.suffixHash[label] = hash
      if (isClean === 0) clean = label
    }
    this.cleanCount = clean
  }
}

/** A name in wire form, scanned; for who has time to make an object. */
export function scanName(name: Uint8Array): ScannedName {
  const scanned = new ScannedName()
  scanned.scan(name, 0, name.length)
  return scanned
}

/** The same hash over a whole name in wire form: for whoever builds tables of names. */
export function hashWireName(name: Uint8Array): number {
  const scanned = scanName(name)
  return scanned.isWhole ? scanned.suffixHash[0]! : 0
}

/** FNV-1a. Only its spread matters: tables compare the bytes too. */
function mix(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, HASH_PRIME)
}

function wildcardBytes(): Uint8Array {
  const table = new Uint8Array(256)
  for (const character of '-_0123456789abcdefghijklmnopqrstuvwxyz') {
    table[character.charCodeAt(0)] = 1
  }
  return table
}
