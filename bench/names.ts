/**
 * Query files for dnsperf: one question a line, in an order that is mixed and always the same, so
 * that no cache profits from having stored the names in the order in which they are asked for.
 */
import { writeFileSync } from 'node:fs'

const SUFFIX = 'bench.example.com'

/** A name of realistic length that the warm-up asks for. */
export function knownName(index: number): string {
  return `service-${String(index).padStart(5, '0')}.${SUFFIX}`
}

/** A name that is asked for once. */
function freshName(index: number): string {
  return `q${String(index).padStart(7, '0')}-fresh.${SUFFIX}`
}

/** Each of the known names once, mixed. */
export function writeKnownNames(file: string, count: number): void {
  const names = Array.from({ length: count }, (_, index) => knownName(index))
  write(file, mix(names))
}

/** Names that nobody has asked for, from number `first`. */
export function writeFreshNames(file: string, first: number, count: number): void {
  write(
    file,
    Array.from({ length: count }, (_, index) => freshName(first + index)),
  )
}

/**
 * Known names by Zipf's law (the n-th most wanted one has a share of 1/n), and in between
 * `freshShare` of names that nobody has asked for.
 */
export function writeMixedNames(
  file: string,
  options: { readonly known: number; readonly count: number; readonly freshShare: number },
): void {
  const { known, count, freshShare } = options
  const random = generator(2)
  const sums = new Float64Array(known)
  let sum = 0
  for (let index = 0; index < known; index++) sums[index] = sum += 1 / (index + 1)
  write(
    file,
    Array.from({ length: count }, (_, index) => {
      if (random() < freshShare) return freshName(index)
      return knownName(indexOfSum(sums, random() * sum))
    }),
  )
}

/** The first index whose sum is more than `wanted`. */
function indexOfSum(sums: Float64Array, wanted: number): number {
  let [low, high] = [0, sums.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sums[middle]! > wanted) high = middle
    else low = middle + 1
  }
  return low
}

function mix(names: string[]): string[] {
  const random = generator(1)
  for (let index = names.length - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1))
    ;[names[index], names[other]] = [names[other]!, names[index]!]
  }
  return names
}

/** Numbers from 0 to 1 that are the same in each run. Source: Numerical Recipes, ranqd1. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function write(file: string, names: readonly string[]): void {
  writeFileSync(file, `${names.join(' A\n')} A\n`)
}
