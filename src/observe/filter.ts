/**
 * Which flows somebody wants to see: the filters of `observe`, with Hubble's meanings.
 *
 * Inside one filter any value may match; all filters that are given must match. They run in the
 * daemon, over text that a user wrote, so matching is linear: no regular expressions.
 * Source: Hubble's FlowFilter (fqdn, pod, verdict), 1.19.
 */
import { VERDICTS } from '../flow/decode.ts'
import type { FlowRow, Party } from './flow-row.ts'

export interface FlowFilter {
  /** FORWARDED, DROPPED, ERROR, AUDIT. */
  readonly verdicts: readonly string[]
  /** Names with '*' for any run of characters, dots too; no final dot. */
  readonly names: readonly string[]
  /** 'ns/prefix', 'prefix' in the namespace default, 'ns/', '/prefix' in any namespace. */
  readonly pods: readonly string[]
}

export const NO_FILTER: FlowFilter = { verdicts: [], names: [], pods: [] }

/** What is wrong with a filter, as a sentence; null when it can be used. */
export function filterFault(filter: FlowFilter): string | null {
  for (const verdict of filter.verdicts) {
    if (!(VERDICTS as readonly string[]).includes(verdict)) {
      return `'${verdict}' is no verdict; write one of ${VERDICTS.join(', ')}`
    }
  }
  for (const name of filter.names) {
    if (!/^[-_.*0-9a-z]+$/i.test(name)) {
      return `'${name}' is no name pattern; write letters, digits, '-', '_', '.' and '*'`
    }
  }
  for (const pod of filter.pods) {
    if (pod === '' || pod === '/' || pod.split('/').length > 2) {
      return `'${pod}' is no pod; write namespace/name, the beginning of a name, or namespace/`
    }
  }
  return null
}

/** Whether `row` is wanted. `filter` has no fault. */
export function accepts(filter: FlowFilter, row: FlowRow): boolean {
  const { verdicts, names, pods } = filter
  if (verdicts.length > 0 && !verdicts.includes(row.flow.verdict)) return false
  if (pods.length > 0) {
    const isWanted = pods.some((pod) => isPod(row.source, pod) || isPod(row.destination, pod))
    if (!isWanted) return false
  }
  if (names.length === 0) return true
  const known =
    row.flow.type === 'question' ? [row.flow.name, ...row.destination.names] : row.destination.names
  return names.some((pattern) => known.some((name) => isMatch(trim(pattern), trim(name))))
}

function isPod(party: Party, wanted: string): boolean {
  const [first, second] = wanted.split('/')
  const namespace = second === undefined ? 'default' : first!
  const prefix = second ?? first!
  if (party.name === '' || (namespace !== '' && party.namespace !== namespace)) return false
  return party.name.startsWith(prefix)
}

function trim(name: string): string {
  return name.toLowerCase().replace(/\.$/, '')
}

/**
 * Whether `name` is `pattern`, in which '*' stands for any run of characters, none included. On a
 * mismatch only the last '*' is tried longer, which is enough: an earlier one found its place.
 */
export function isMatch(pattern: string, name: string): boolean {
  let at = 0
  let inPattern = 0
  let starAt = -1
  let starName = 0
  while (at < name.length) {
    if (pattern[inPattern] === '*') {
      starAt = inPattern++
      starName = at
    } else if (inPattern < pattern.length && pattern[inPattern] === name[at]) {
      inPattern++
      at++
    } else {
      if (starAt < 0) return false
      inPattern = starAt + 1
      at = ++starName
    }
  }
  while (pattern[inPattern] === '*') inPattern++
  return inPattern === pattern.length
}
