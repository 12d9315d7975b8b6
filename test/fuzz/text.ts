/**
 * Fuzz targets of the files that people and machines write for us: the configuration, policies,
 * clients, resolv.conf. Whatever the text, the reader comes back with values or with faults that
 * say where, and what it accepts can be used by those who come after it.
 */
import assert from 'node:assert/strict'
import { ConfigError, readConfig, readRun } from '../../src/config/load.ts'
import { canonicalAddress, parseAddress } from '../../src/identity/address.ts'
import { EMPTY_INVENTORY } from '../../src/identity/endpoint.ts'
import { type CompileInput, compileSnapshot } from '../../src/policy/compile.ts'
import { lintPolicy } from '../../src/policy/lint.ts'
import type { PolicyFault, Snapshot } from '../../src/policy/snapshot.ts'
import { readClients } from '../../src/policy/sources/clients.ts'
import { readPolicies } from '../../src/policy/sources/policies.ts'
import { encodeTable } from '../../src/policy/table-encode.ts'
import { PolicyTable } from '../../src/policy/table.ts'
import { parseResolvConf } from '../../src/upstream/resolv-conf.ts'
import { SERVERS_MAX } from '../../src/upstream/routes.ts'
import type { FuzzTarget } from './target.ts'

const YAML_WORDS = [
  ...['- ', ': ', '\n', '\n  ', '---\n', '{}', '[]', '[[', '""', "'", '*', '&a', '*a', '<<: *a'],
  ...[
    'null',
    '~',
    'true',
    'yes',
    '0',
    '-1',
    '1e9',
    '0x10',
    '65536',
    '!!binary ',
    '? ',
    '|\n',
    '\t',
  ],
]
const NAME_WORDS = [
  ...['*', '**', '*.', '.', '..', '*.example.com', 'a.b', 'xn--', 'EXAMPLE', '\\.', '_', '-'],
  ...['192.0.2.1', '2001:db8::1', '::ffff:192.0.2.1', '0.0.0.0/0', '::/0', '/33', '%eth0'],
]

/** As a file is read: what is no UTF-8 becomes U+FFFD. */
function textOf(input: Uint8Array): string {
  return Buffer.from(input).toString()
}

const MACHINE = {
  hostName: 'worker-1',
  userId: 0,
  homeDirectory: '/root',
  stateHome: '',
  runtimeDirectory: '',
}

export const config: FuzzTarget = {
  corpus: 'config',
  words: [
    ...YAML_WORDS,
    ...NAME_WORDS,
    ...['8MiB', '1h', '-1s', '0s', '1e99GiB', 'udp', 'tls', 'cluster.local', '0x0/0x0', '@99999'],
  ],
  smokeCases: 300,
  run(input) {
    const text = textOf(input)
    assert.equal(typeof readRun(text, 'namegate.yaml', MACHINE), 'string')
    try {
      const loaded = readConfig(text, 'namegate.yaml', MACHINE)
      assert.deepEqual(readConfig(text, 'namegate.yaml', MACHINE), loaded)
      assert.ok(loaded.upstreams.length > 0, 'there is somebody to ask')
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      assert.ok(error.faults.length > 0)
      for (const fault of error.faults) checkFault(fault)
    }
  },
}

export const policy: FuzzTarget = {
  corpus: 'policy',
  words: [
    ...YAML_WORDS,
    ...NAME_WORDS,
    ...['toFQDNs', 'toCIDR', 'toCIDRSet', 'toEntities', 'toEndpoints', 'toPorts', 'egressDeny'],
    ...['matchName', 'matchPattern', 'matchLabels', 'matchExpressions', 'specs:', 'In', 'Exists'],
    ...['endpointSelector', 'endPort', 'ANY', 'SCTP', 'world', 'all', 'except', 'rules', 'dns'],
  ],
  smokeCases: 250,
  run(input) {
    const text = textOf(input)
    const documents = readPolicies([{ file: 'policy.yaml', text }], [])
    for (const document of documents) {
      for (const fault of document.faults) checkFault(fault)
      for (const warning of lintPolicy(document)) checkFault(warning)
    }
    const snapshot = snapshotOf(documents)
    assert.deepEqual(snapshotOf(readPolicies([{ file: 'policy.yaml', text }], [])), snapshot)
    assert.deepEqual(JSON.parse(JSON.stringify(snapshot)), snapshot, 'it is plain data')
    checkTable(snapshot)
    // Whom a policy with a fault selects is closed, and nothing that it says counts.
    const faulty = new Set(documents.filter(({ faults }) => faults.length > 0).map((d) => d.name))
    for (const { questions, names, destinations } of snapshot.subjects) {
      for (const rule of [...questions, ...names, ...destinations]) {
        assert.ok(!faulty.has(rule.policy), 'a policy with a fault opens nothing')
      }
    }
  },
}

const CLIENTS = readClients(
  `- {name: web, namespace: team-a, labels: {app: web}, addresses: [10.0.0.7, "2001:db8::7"]}
- {name: db, namespace: team-b, addresses: [10.0.0.8]}`,
  'clients.yaml',
  null,
)

function snapshotOf(
  policies: CompileInput['policies'],
  inventory: CompileInput['inventory'] = CLIENTS.inventory,
): Snapshot {
  return compileSnapshot({
    inventory,
    policies,
    nodeAddresses: ['192.0.2.1'],
    formerPortSets: [],
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
  })
}

/** The worker can take the snapshot, and finds the same clients in it. */
function checkTable(snapshot: Snapshot): void {
  const table = new PolicyTable()
  const standIns = { listen: [], listenPort: 53, servers: ['10.96.0.10'] }
  table.open(encodeTable(snapshot, { standIns, interfaceIndexes: new Map() }))
  const index = table.findClient(4, Uint8Array.of(10, 0, 0, 7), 0)
  const web = snapshot.clients.find(({ name }) => name === 'web')
  assert.equal(index >= 0 && table.isGoverned(index), web !== undefined && web.subject >= 0)
}

export const clients: FuzzTarget = {
  corpus: 'clients',
  words: [
    ...YAML_WORDS,
    ...NAME_WORDS,
    ...['kind: Pod', 'kind: List', 'items', 'podIPs', 'hostNetwork', 'nodeName', 'addresses'],
    ...['clusterIPs', 'None', 'targetPort', 'endpoints', 'phase', 'Failed', 'namespace', 'labels'],
  ],
  smokeCases: 300,
  run(input) {
    const { inventory, faults, notes } = readClients(textOf(input), 'clients.yaml', 'worker-1')
    for (const fault of faults) checkFault(fault)
    for (const note of notes) assert.equal(typeof note, 'string')
    if (faults.length > 0) {
      assert.equal(inventory, EMPTY_INVENTORY, 'a file with a fault counts for nothing')
      return
    }
    const addresses = inventory.endpoints.flatMap((endpoint) => endpoint.addresses)
    assert.equal(new Set(addresses).size, addresses.length, 'an address belongs to one client')
    for (const address of addresses) assert.equal(canonicalAddress(address), address)
    checkTable(snapshotOf([], inventory))
  },
}

export const resolvConf: FuzzTarget = {
  corpus: 'resolv-conf',
  words: [
    ...NAME_WORDS,
    ...['nameserver ', '\nnameserver ', 'search ', 'options ', 'domain ', 'ndots:', 'timeout:99'],
    ...['#', ';', '\r\n', '\t', '\u0000', '\u001b[2J', '\uFEFF', 'sortlist', 'rotate'],
  ],
  run(input) {
    const read = parseResolvConf(textOf(input))
    assert.ok(read.servers.length <= SERVERS_MAX)
    const addresses = read.servers.map(({ address }) => address)
    assert.equal(new Set(addresses).size, addresses.length)
    for (const address of addresses) assert.notEqual(parseAddress(address), null)
    assert.ok(read.ndots <= 15 && read.timeoutSeconds <= 30 && read.attempts <= 5)
    assert.ok(read.servers.length > 0 || read.faults.length > 0, 'no server is said')
    for (const { line, message } of read.faults) {
      assert.ok(line >= 1)
      assert.match(message, /^[ -~…]+$/, 'nothing that a terminal would obey')
    }
  },
}

function checkFault({ line, column, message }: Omit<PolicyFault, 'field'>): void {
  assert.ok(line >= 1 && column >= 1 && message !== '', 'a fault says where and what')
}
