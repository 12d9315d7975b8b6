/**
 * All policy files together: what the agent calls when one of them changes, and `policy check`.
 *
 * A policy that has become unusable does not stop being enforced: its last good version stays in
 * force until it is repaired or removed. At the first load there is none, and then whom it selects
 * is closed (policy/compile.ts).
 */
import { compareText } from '../port-set.ts'
import type { PolicyDocument } from '../rule.ts'
import type { PolicyFault } from '../snapshot.ts'
import { readCiliumPolicies } from './cilium.ts'

export interface PolicyFile {
  /** As faults shall show it. */
  readonly file: string
  readonly text: string
}

/**
 * @param former  what this function returned for the files before; empty at the first load
 * @returns every policy, also those that cannot be used: see their faults
 */
export function readPolicies(
  files: readonly PolicyFile[],
  former: readonly PolicyDocument[],
): PolicyDocument[] {
  const sorted = files.toSorted((a, b) => compareText(a.file, b.file))
  const documents = sorted.flatMap(({ text, file }) => readCiliumPolicies(text, file))
  return keepLastGood(markDoubles(documents), former)
}

/** Two policies of one kind and name: nobody knows which is meant, so neither is used. */
function markDoubles(documents: readonly PolicyDocument[]): PolicyDocument[] {
  const places = new Map<string, string[]>()
  for (const document of documents) {
    const key = keyOf(document)
    places.set(key, [...(places.get(key) ?? []), placeOf(document)])
  }
  return documents.map((document) => {
    const own = placeOf(document)
    const others = (places.get(keyOf(document)) ?? []).filter((place) => place !== own)
    if (others.length === 0) return document
    const message = `${document.name} is also in ${others.join(', ')}; keep one of them`
    const { file, line } = document
    const fault: PolicyFault = { file, line, column: 1, field: 'metadata.name', message }
    return { ...document, faults: [...document.faults, fault] }
  })
}

function keepLastGood(
  documents: readonly PolicyDocument[],
  former: readonly PolicyDocument[],
): PolicyDocument[] {
  const good = former.filter(({ faults, isLastGood }) => faults.length === 0 || isLastGood)
  const goodByKey = new Map(good.map((document) => [keyOf(document), document]))
  const present = new Set(documents.map(keyOf))
  return documents.flatMap((document) => {
    if (document.faults.length === 0) return [document]
    const { faults, file } = document
    const before = goodByKey.get(keyOf(document))
    if (before !== undefined) return [{ ...document, rules: before.rules, isLastGood: true }]
    if (document.kind !== 'unknown') return [document]
    // It may be any of the policies that this file had and that are no longer seen in it.
    const missing = good.filter((old) => old.file === file && !present.has(keyOf(old)))
    for (const old of missing) present.add(keyOf(old))
    return [document, ...missing.map((old) => ({ ...old, faults, isLastGood: true }))]
  })
}

function keyOf({ kind, name }: PolicyDocument): string {
  return `${kind} ${name}`
}

function placeOf({ file, line }: PolicyDocument): string {
  return `${file}:${line}`
}
