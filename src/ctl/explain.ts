/**
 * `namegate explain CLIENT TARGET`: why a name or address is or is not open for a client, as a
 * chain of causes. The daemon judges by the policy that it enforces.
 */
import type { ExplainRow } from '../observe/rows.ts'
import { printable } from '../printable.ts'
import { ask, ROLES } from './client.ts'
import { EXIT_NO, EXIT_OK, EXIT_USAGE, Failure } from './failure.ts'
import { parseTarget } from '../policy/explain.ts'
import { type CommonOptions, daemonPlace, type Surroundings } from './surroundings.ts'

/** Exit 1 when it is not allowed. */
export async function runExplain(
  client: string,
  target: string,
  options: CommonOptions,
  surroundings: Surroundings,
): Promise<number> {
  if (parseTarget(target) === null) {
    const forms = 'write NAME, NAME:PORT, ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT'
    throw new Failure(EXIT_USAGE, `'${target}' is neither a name nor an address; ${forms}`)
  }
  const { run } = daemonPlace(options, surroundings)
  const question = { run, roles: ROLES, command: 'explain', args: { client, target } }
  let isAllowed = false
  for await (const row of ask<ExplainRow>(question)) {
    isAllowed = row.isAllowed
    if (options.output === 'json') surroundings.out(`${JSON.stringify(row)}\n`)
    else surroundings.out(`${explainLines(row).map(printable).join('\n')}\n`)
  }
  return isAllowed ? EXIT_OK : EXIT_NO
}

function explainLines(row: ExplainRow): string[] {
  const verdict = row.isAllowed ? 'allowed' : 'not allowed'
  const causes = row.causes.map(({ code, text, since }, index) => {
    const sinceText = since === null ? '' : `, since ${since}`
    return `  ${index + 1}. ${text}${sinceText}  [${code}]`
  })
  return [`${row.client} to ${row.target}: ${verdict}`, ...causes]
}
