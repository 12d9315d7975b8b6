/** `namegate policy list`: each policy, whether it is in force, and what is wrong with it. */
import type { PolicyState } from '../observe/status.ts'
import { printable } from '../printable.ts'
import { EXIT_NO, EXIT_OK } from './failure.ts'
import { compareTexts, printListing } from './list.ts'
import type { CommonOptions, Surroundings } from './surroundings.ts'

/** Exit 1 when a policy is faulty. */
export async function runPolicyList(
  options: CommonOptions,
  surroundings: Surroundings,
): Promise<number> {
  const policies = await printListing<PolicyState>(
    {
      command: 'policy-list',
      args: {},
      columns: [
        { title: 'POLICY', cell: (row) => row.name },
        { title: 'KIND', cell: (row) => row.kind },
        { title: 'STATE', cell: (row) => row.state },
        { title: 'CLIENTS', align: 'right', cell: (row) => row.clientCount },
        { title: 'FILE', cell: (row) => row.file },
      ],
      compare: (a, b) => compareTexts(a.name, b.name),
    },
    options,
    surroundings,
  )
  const faults = policies.flatMap((policy) => policy.faults)
  if (options.output !== 'json') {
    for (const { file, line, column, field, message } of faults) {
      const text = `${file}:${line}:${column}: ${field === '' ? '' : `${field}: `}${message}`
      surroundings.out(`${printable(text)}\n`)
    }
  }
  return faults.length > 0 ? EXIT_NO : EXIT_OK
}
