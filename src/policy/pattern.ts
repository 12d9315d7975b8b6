/**
 * Patterns: which names a `matchName` or `matchPattern` means. Exactly Cilium's meaning, without
 * its regular expressions: patterns are compared with the labels of wire-form names.
 *
 *     example.com      that name
 *     *.example.com    one label in front
 *     **.example.com   one label or more in front
 *     *                toFQDNs: every name of ordinary letters, and the root;
 *                      rules.dns: every name whatever
 *     w*.ex*.com       elsewhere `*` is zero or more of [-a-z0-9_] inside one label; a run of
 *                      them is the same as one, also `**` that is not a whole first label
 *
 * What people do not expect, and what holds all the same: `*.example.com` and `**.example.com`
 * do not match example.com; `*example.com` matches evilexample.com and not www.example.com.
 *
 * Used by policy/table.ts (compiled, hot), policy/explain.ts and policy/lint.ts. A byte that `*`
 * does not stand for matches nothing but the `*` of rules.dns.
 * Source: Cilium v1.19.4, pkg/fqdn/matchpattern, pkg/policy/api/fqdn.go.
 */
import { type ScannedName, WILDCARD_BYTES } from './scanned-name.ts'
import type { NamePattern } from './snapshot.ts'

/** As long as a name in text may be; Cilium's CRD says the same of patterns. */
export const PATTERN_LENGTH_MAX = 255

const LABEL_BYTES_MAX = 63
const NAME_BYTES_MAX = 255
const STAR = 0x2a

/** How a compiled pattern is compared. */
export const FORM_ALL = 0
export const FORM_EXACT = 1
/** One label, then `bytes`. */
export const FORM_ONE_LABEL = 2
/** One label or more, then `bytes`. */
export const FORM_LABELS = 3
/** Label by label. */
export const FORM_GLOB = 4
/** One label or more, then label by label. */
export const FORM_LABELS_GLOB = 5
/** Too long for any name. */
export const FORM_NEVER = 6

export interface CompiledPattern {
  readonly form: number
  /**
   * Labels with their length in front and a 0 at the end. For the glob forms a label may hold
   * STAR and be longer than a name's; empty for FORM_ALL and FORM_NEVER.
   */
  readonly bytes: Uint8Array
}

/**
 * In wire form a name that no rule of rules.dns allows but one that allows every name: a byte that
 * neither a pattern nor a name in a rule can have.
 */
export const EVERY_NAME = Uint8Array.of(1, 0, 0)

/** Where a pattern stands: the two places differ in what a lone `*` means. */
export type PatternUse = 'grant' | 'question'

/** What is wrong with a pattern, in a sentence; null: nothing. */
export function patternFault(kind: NamePattern['kind'], text: string): string | null {
  const field = kind === 'name' ? 'matchName' : 'matchPattern'
  if (text === '') return `${field} is empty; write a name`
  if (text.trim().length > PATTERN_LENGTH_MAX) {
    return `${field} has ${text.length} characters; at most ${PATTERN_LENGTH_MAX} are allowed`
  }
  for (const character of text) {
    if (/^[-a-zA-Z0-9_.]$/.test(character)) continue
    if (character === '*') {
      if (kind === 'pattern') continue
      return `'*' has no meaning in matchName; write matchPattern: "${text}"`
    }
    const hint = character > '\x7f' ? '; write an international name in its xn-- form' : ''
    return `invalid character ${JSON.stringify(character)} in ${field}; allowed are letters, digits, '-', '_', '.'${kind === 'pattern' ? " and '*'" : ''}${hint}`
  }
  if (text.startsWith('.') || text.includes('..')) {
    return `${field} '${text}' has an empty label; a name neither begins with a dot nor has two together`
  }
  return null
}

/** Lower case, without a final dot: the form that a snapshot holds. */
export function canonicalPattern(kind: NamePattern['kind'], text: string): NamePattern {
  const lower = text.toLowerCase()
  const isRoot = lower === '.'
  return { kind, text: lower.endsWith('.') && !isRoot ? lower.slice(0, -1) : lower }
}

/** A selector with neither matchName nor matchPattern, in toFQDNs: the root's name alone. */
export const ROOT_PATTERN: NamePattern = { kind: 'name', text: '.' }

/** Whether a whole pattern is `*`, `**`, …: Cilium's match-all. */
export function isMatchAll(pattern: NamePattern): boolean {
  return pattern.kind === 'pattern' && /^\*+$/.test(pattern.text)
}

/** @param pattern  canonical */
export function compilePattern(pattern: NamePattern): CompiledPattern {
  if (isMatchAll(pattern)) return { form: FORM_ALL, bytes: new Uint8Array() }
  const labels = pattern.text === '.' ? [] : pattern.text.split('.')
  const isDeep = labels.length > 1 && /^\*\*+$/.test(labels[0]!)
  // A run of stars elsewhere means the same as one.
  const plain = labels.map((label) => label.replace(/\*+/g, '*'))
  const tail = plain.slice(1)
  if (plain.every((label) => !label.includes('*'))) return whenPossible(FORM_EXACT, plain)
  if (tail.length > 0 && plain[0] === '*' && tail.every((label) => !label.includes('*'))) {
    return whenPossible(isDeep ? FORM_LABELS : FORM_ONE_LABEL, tail)
  }
  if (isDeep) return { form: FORM_LABELS_GLOB, bytes: joinLabels(tail) }
  return { form: FORM_GLOB, bytes: joinLabels(plain) }
}

/**
 * The wire form of a name written as text, lower case; null when no name is meant. For names that
 * people type: bytes that would need an escape are refused.
 */
export function wireName(text: string): Uint8Array | null {
  const { text: name } = canonicalPattern('name', text)
  if (patternFault('name', text) !== null && text !== '.') return null
  const { form, bytes } = compilePattern({ kind: 'name', text: name })
  return form === FORM_EXACT ? bytes : null
}

/**
 * Whether a pattern means this name. For single comparisons; many patterns against one name are
 * what policy/table.ts is for.
 */
export function matchesPattern(
  pattern: CompiledPattern,
  use: PatternUse,
  name: ScannedName,
): boolean {
  const { form, bytes } = pattern
  switch (form) {
    case FORM_ALL:
      return use === 'question' || name.isClean()
    case FORM_EXACT:
      return isSuffixAt(name, 0, bytes, 0, bytes.length)
    case FORM_ONE_LABEL:
      return name.cleanCount > 0 && isSuffixAt(name, 1, bytes, 0, bytes.length)
    case FORM_LABELS:
      for (let label = 1; label <= name.cleanCount; label++) {
        if (isSuffixAt(name, label, bytes, 0, bytes.length)) return true
      }
      return false
    case FORM_GLOB:
      return matchesGlob(bytes, 0, false, name)
    case FORM_LABELS_GLOB:
      return matchesGlob(bytes, 0, true, name)
    default:
      return false
  }
}

/** Whether the name from label `label` on is these bytes. Hot. */
export function isSuffixAt(
  name: ScannedName,
  label: number,
  bytes: Uint8Array,
  at: number,
  length: number,
): boolean {
  if (label > name.labelCount) return false
  const start = name.labelAt[label]!
  if (name.length - start !== length) return false
  const from = name.at + start
  for (let index = 0; index < length; index++) {
    if (name.bytes[from + index] !== bytes[at + index]) return false
  }
  return true
}

/**
 * Compares label by label, the last with the last. Hot; cost is bounded by the name's length times
 * the pattern's.
 * @param bytes  a pattern of FORM_GLOB or FORM_LABELS_GLOB begins at `at`
 * @param isDeep  one label or more stand in front of the pattern's
 */
export function matchesGlob(
  bytes: Uint8Array,
  at: number,
  isDeep: boolean,
  name: ScannedName,
): boolean {
  // Literals of a pattern are wildcard bytes too, so a name with any other byte cannot match.
  if (!name.isClean()) return false
  let count = 0
  for (let next = at; bytes[next] !== 0; next += 1 + bytes[next]!) count++
  const skipped = name.labelCount - count
  if (isDeep ? skipped < 1 : skipped !== 0) return false
  let pattern = at
  for (let label = skipped; label < name.labelCount; label++) {
    const start = name.at + name.labelAt[label]! + 1
    const end = name.at + name.labelAt[label + 1]!
    const patternEnd = pattern + 1 + bytes[pattern]!
    if (!matchesLabel(bytes, pattern + 1, patternEnd, name.bytes, start, end)) return false
    pattern = patternEnd
  }
  return true
}

/** `*` against one label: on a mismatch the last star takes one byte more. Hot. */
function matchesLabel(
  pattern: Uint8Array,
  patternAt: number,
  patternEnd: number,
  bytes: Uint8Array,
  at: number,
  end: number,
): boolean {
  let starAt = -1
  let retryAt = 0
  while (at < end) {
    if (patternAt < patternEnd && pattern[patternAt] === STAR) {
      starAt = ++patternAt
      retryAt = at
    } else if (
      patternAt < patternEnd &&
      pattern[patternAt] === bytes[at] &&
      WILDCARD_BYTES[bytes[at]!] === 1
    ) {
      patternAt++
      at++
    } else {
      if (starAt < 0) return false
      patternAt = starAt
      at = ++retryAt
    }
  }
  while (patternAt < patternEnd && pattern[patternAt] === STAR) patternAt++
  return patternAt === patternEnd
}

function whenPossible(form: number, labels: readonly string[]): CompiledPattern {
  const bytes = joinLabels(labels)
  const isPossible =
    bytes.length <= NAME_BYTES_MAX && labels.every((label) => label.length <= LABEL_BYTES_MAX)
  return isPossible ? { form, bytes } : { form: FORM_NEVER, bytes: new Uint8Array() }
}

/** Length, bytes, length, bytes, …, 0. Labels are ASCII, at most 255 long. */
function joinLabels(labels: readonly string[]): Uint8Array {
  const parts = labels.flatMap((label) => [
    label.length,
    ...Array.from(label, (character) => character.charCodeAt(0)),
  ])
  return Uint8Array.from([...parts, 0])
}
