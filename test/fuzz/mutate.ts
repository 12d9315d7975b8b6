/**
 * Makes a new input out of old ones: a few small changes, of the kinds that break parsers of
 * length-prefixed, pointer-linked bytes, and for text the target's own words. Used by the runner
 * for every target.
 */
import type { Random } from './random.ts'

/** Bytes that mean something in many formats: zero, lengths at their limits, DNS pointers. */
const TELLING = [0, 1, 2, 12, 13, 0x29, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xff]
const CHANGES_MAX = 6

/** @param words  pieces of text to put in; without any, bytes are all there is */
export function mutate(
  corpus: readonly Uint8Array[],
  random: Random,
  words: readonly string[] = [],
): Uint8Array {
  const bytes = Array.from(random.pick(corpus))
  for (let changes = random.below(CHANGES_MAX); changes >= 0; changes--) {
    if (words.length > 0 && random.oneIn(3)) putWord(bytes, random.pick(words), random)
    else change(bytes, corpus, random)
  }
  return Uint8Array.from(bytes)
}

/** In place of a word that is there, or between two bytes. */
function putWord(bytes: number[], word: string, random: Random): void {
  const at = random.below(bytes.length + 1)
  let end = at
  if (random.oneIn(2)) while (end < bytes.length && isWordByte(bytes[end]!)) end++
  bytes.splice(at, end - at, ...Buffer.from(word))
}

function isWordByte(byte: number): boolean {
  return byte > 0x20 && !',:[]{}"'.includes(String.fromCharCode(byte))
}

function change(bytes: number[], corpus: readonly Uint8Array[], random: Random): void {
  const at = random.below(bytes.length + 1)
  const count = 1 + random.below(8)
  switch (random.below(8)) {
    case 0:
      bytes[at] = random.below(256)
      break
    case 1:
      bytes[at] = random.pick(TELLING)
      break
    case 2: // a flipped bit
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
      break
    case 3: // a little more or less
      bytes[at] = ((bytes[at] ?? 0) + random.pick([1, 2, 255, 254])) & 0xff
      break
    case 4:
      bytes.splice(at, count)
      break
    case 5: // a part of this or another input, put in
      bytes.splice(at, 0, ...part(random.oneIn(2) ? bytes : random.pick(corpus), random))
      break
    case 6: // a pointer, as a rule to something that is there
      bytes.splice(at, random.pick([0, 2]), 0xc0 | random.below(2), random.below(bytes.length + 2))
      break
    default: // cut
      if (random.oneIn(4)) bytes.length = at
  }
}

function part(bytes: ArrayLike<number>, random: Random): number[] {
  const from = random.below(bytes.length + 1)
  return Array.from(bytes).slice(from, from + 1 + random.below(40))
}
