/**
 * `namegate policy check FILE…`: what is wrong with policy files, as the daemons would see it. No
 * daemon, no root; made for a CI step and an editor, so each fault is `file:line:column: …`.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { lintPolicy } from '../policy/lint.ts'
import type { PolicyFault } from '../policy/snapshot.ts'
import { type PolicyFile, readPolicies } from '../policy/sources/policies.ts'
import { printable } from '../printable.ts'
import { EXIT_NO, EXIT_OK, Failure } from './failure.ts'
import type { CommonOptions, Surroundings } from './surroundings.ts'
import { countOf } from './table.ts'

/** Exit 1 when there is a fault; warnings alone are no failure. */
export async function runPolicyCheck(
  paths: readonly string[],
  options: CommonOptions,
  surroundings: Surroundings,
): Promise<number> {
  const files = paths.flatMap(listFiles)
  const documents = readPolicies(files, [])
  const faults = documents.flatMap((document) => document.faults)
  const warnings = documents.flatMap(lintPolicy)
  if (options.output === 'json') {
    for (const fault of faults) surroundings.out(jsonLine('fault', fault))
    for (const warning of warnings) surroundings.out(jsonLine('warning', warning))
  } else {
    for (const fault of faults) surroundings.out(`${faultText(fault, '')}\n`)
    for (const warning of warnings) surroundings.out(`${faultText(warning, 'warning: ')}\n`)
    const good = documents.filter((document) => document.faults.length === 0).length
    const counts = `${countOf(faults.length, 'fault')}, ${countOf(warnings.length, 'warning')}`
    surroundings.err(`policies: ${good} of ${documents.length} good; ${counts}\n`)
  }
  return faults.length > 0 ? EXIT_NO : EXIT_OK
}

/** A file, or the policy files directly in a directory, as the daemons take them. */
function listFiles(given: string): PolicyFile[] {
  try {
    if (!statSync(given).isDirectory()) return [{ file: given, text: readFileSync(given, 'utf8') }]
    const names = readdirSync(given).filter((name) => /\.ya?ml$/.test(name))
    if (names.length === 0) throw new Failure(EXIT_NO, `${given}: no *.yaml or *.yml in it`)
    return names.toSorted().map((name) => {
      const file = path.join(given, name)
      return { file, text: readFileSync(file, 'utf8') }
    })
  } catch (error) {
    if (error instanceof Failure) throw error
    throw new Failure(EXIT_NO, `${given}: cannot be read: ${(error as Error).message}`)
  }
}

function faultText(fault: PolicyFault, word: string): string {
  const field = fault.field === '' ? '' : `${fault.field}: `
  return printable(`${fault.file}:${fault.line}:${fault.column}: ${word}${field}${fault.message}`)
}

function jsonLine(severity: 'fault' | 'warning', fault: PolicyFault): string {
  return `${JSON.stringify({ severity, ...fault })}\n`
}
