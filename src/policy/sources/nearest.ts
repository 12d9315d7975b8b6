/**
 * The known word that a person probably meant: for faults about unknown keys and values.
 */

/** A word as far away as this, or further, is another word. */
const DISTANCE_MAX = 3

/** The nearest of `known` to `word`, or null when none is near. Letter case counts little. */
export function nearestWord(word: string, known: readonly string[]): string | null {
  let best: string | null = null
  let bestDistance = Math.min(DISTANCE_MAX, Math.floor(word.length / 2) + 1)
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** "; did you mean 'x'?" or, when nothing is near, what there is. */
export function suggestion(word: string, known: readonly string[]): string {
  const nearest = nearestWord(word, known)
  return nearest === null ? `; known here: ${known.join(', ')}` : `; did you mean '${nearest}'?`
}

/** Letters to insert, delete or replace to make one word the other. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) >= DISTANCE_MAX) return DISTANCE_MAX
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...a].entries()) {
    const next = [index + 1]
    for (let at = 1; at <= b.length; at++) {
      const replaced = row[at - 1]! + (letter === b[at - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[at]! + 1, next[at - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
