import { test } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../../src/config/load.ts'
import { readClients } from '../../src/policy/sources/clients.ts'
import { readPolicies } from '../../src/policy/sources/policies.ts'

const NODE = join(import.meta.dirname, 'node')
const MACHINE = {
  hostName: 'worker-1',
  userId: 0,
  homeDirectory: '/',
  stateHome: '',
  runtimeDirectory: '',
}

function read(file: string): string {
  return readFileSync(join(NODE, file), 'utf8')
}

test('the policy of the story is the one that README shows', () => {
  const readme = readFileSync(join(NODE, '..', '..', '..', 'README.md'), 'utf8')
  assert(readme.includes(`\`\`\`yaml\n${read('policies/allow-two-sites.yaml')}\`\`\``))
})

test("the files of the story's node have no fault", () => {
  const config = readConfig(read('namegate.yaml'), join(NODE, 'namegate.yaml'), MACHINE)
  assert.equal(config.policy?.directory, join(NODE, 'policies'))
  const names = ['policies/allow-two-sites.yaml', 'policies/ask-one-site.yaml']
  const policies = readPolicies(
    names.map((file) => ({ file, text: read(file) })),
    [],
  )
  assert.deepEqual(
    policies.flatMap(({ faults }) => faults),
    [],
  )
  const { faults, notes } = readClients(read('clients.yaml'), 'clients.yaml', config.node)
  assert.deepEqual([faults, notes], [[], []])
})
