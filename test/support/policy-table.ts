/** The table that a worker decides by, from clients and policies as people write them. */
import { compileSnapshot } from '../../src/policy/compile.ts'
import { readClients } from '../../src/policy/sources/clients.ts'
import { readPolicies } from '../../src/policy/sources/policies.ts'
import { NO_STAND_INS, type StandIns } from '../../src/policy/stand-ins.ts'
import { encodeTable } from '../../src/policy/table-encode.ts'
import { PolicyTable } from '../../src/policy/table.ts'

/**
 * Unknown clients are open, what is denied is refused.
 * @param clients  as in clients.yaml
 * @param policies  CiliumNetworkPolicy documents; '' for none
 */
export function policyTable(
  clients: string,
  policies = '',
  standIns: StandIns = NO_STAND_INS,
): PolicyTable {
  const snapshot = compileSnapshot({
    inventory: readClients(clients, 'clients.yaml', null).inventory,
    policies: readPolicies([{ file: 'policy.yaml', text: policies }], []),
    nodeAddresses: [],
    formerPortSets: [],
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
  })
  const table = new PolicyTable()
  table.open(encodeTable(snapshot, { standIns, interfaceIndexes: new Map() }))
  return table
}
