/**
 * The configuration of a node: every key that is built, policies that change and break while the
 * agent runs, and what is said when something is missing.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CLOSED, E2eNode, ROLES } from '../support/e2e-node.ts'
import { missingForNamespaces } from '../support/netns.ts'
import { until } from '../support/process.ts'

const skip = missingForNamespaces()
/** Files are looked at each second. */
const NOTICED_MS = 6000

/** Every key of the reference but those that are not built yet. */
const EVERY_KEY = `node: worker-1
state: kept/state
run: run
listen:
  addresses: [169.254.20.10]
  port: 53
intercept:
  interfaces: ["veth*", "cali*", "lxc*"]
  mark: 0x4e470000/0xffff0000
  routingTable: 20551
  rulePriority: 100
  servers: [10.96.0.10]
  node: true
upstreams:
  - zones: [cluster.local, in-addr.arpa, ip6.arpa]
    servers: [10.96.0.10]
    transport: tcp
  - zones: ["."]
    servers: [./resolv.conf]
cache: { size: 32MiB, maxTtl: 1h, minTtl: 0s, maxNegativeTtl: 30s, serveStale: 1h, prefetch: true, nothingBelowNxdomain: true, rotate: false }
limits: { queriesPerSecond: 10000, grants: 8192 }
policy:
  directory: ./policies
  denyResponse: nxdomain
  mode: enforce
clients:
  file: ./clients.yaml
  unknown: closed
`

test('a node with every key that is built', { skip }, async () => {
  const edit = (files: string): void => writeFileSync(join(files, 'namegate.yaml'), EVERY_KEY)
  await using node = await E2eNode.build('keys', { edit })
  const before = node.world.kernelState()
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  assert.deepEqual(await node.lookUp('client', 'db.cluster.local'), ['192.0.2.40'], 'by TCP')
  const [address] = await node.lookUp('client', 'new.example.net')
  assert(await node.reaches('client', address!))
  assert(!(await node.reaches('client', CLOSED.address)))
  assert.match((await dig(node, 'client', '@192.0.2.99', 'www.example.com')).stdout, /NXDOMAIN/)
  assert.match(
    (await dig(node, 'bystander', '@169.254.20.10', 'www.example.com')).stdout,
    /NOERROR/,
  )
  const modes = ['run', 'kept/state', 'run/agent.ctl.sock', 'run/proxy.sync.sock'].map((name) => {
    return (statSync(join(node.world.directory, name)).mode & 0o777).toString(8)
  })
  assert.deepEqual(modes, ['700', '700', '600', '600'])
  await node.stop('agent', 'proxy')
  await node.world.run(['./node', './namegate', 'cleanup', '-c', 'namegate.yaml'])
  assert.equal(node.world.kernelState(), before)
})

test('policy changes while both run, and a mistake in it changes nothing', { skip }, async (t) => {
  await using node = await E2eNode.build('edits')
  await node.start('agent')
  await node.start('proxy')
  await node.isWell()
  const file = 'policies/team-a.yaml'

  await t.test('a fault: told with its place, the last good form stays in force', async () => {
    node.edit(file, (text) => text.replace('- matchPattern: "*.example.net"', '- matchPatern: "x"'))
    await until('the fault is told', () => warnings(node).length > 0, NOTICED_MS)
    const [{ file: where, line, msg } = {}] = warnings(node)
    assert.deepEqual([where, line], ['team-a.yaml', 15])
    assert.match(String(msg), /matchPattern/)
    await until('status says so', async () => {
      const { degraded, policy } = await node.status('proxy')
      const isFaulty = policy.policies[0]?.state === 'faulty'
      return isFaulty && degraded.some(({ code }) => code === 'policy-faulty')
    })
    const [address] = await node.lookUp('client', 'while-faulty.example.net')
    assert(await node.reaches('client', address!), 'what was allowed is')
    assert(!(await node.reaches('client', CLOSED.address)))
  })

  await t.test('mended, and more is allowed than before', async () => {
    const more = '- matchPattern: "*.example.net"\n    - matchName: closed.example.org'
    node.edit(file, (text) => text.replace('- matchPatern: "x"', more))
    await node.isWell()
    await until(
      'it is in force',
      async () => {
        await node.lookUp('client', CLOSED.name)
        return node.reaches('client', CLOSED.address)
      },
      NOTICED_MS,
    )
  })

  await t.test('clients with a fault: the last good list stays', async () => {
    const told = warnings(node).length
    node.edit('clients.yaml', (text) => text.replace('10.0.0.10', '10.0.0.310'))
    await until('the fault is told', () => warnings(node).length > told, NOTICED_MS)
    assert.equal(warnings(node).at(-1)!['file'], 'clients.yaml')
    const [address] = await node.lookUp('client', 'after-clients.example.net')
    assert(await node.reaches('client', address!))
    assert(!(await node.reaches('client', '192.0.2.67')))
  })
})

test('a policy that is faulty at first load closes its clients', { skip }, async () => {
  const edit = (files: string): void => {
    const policy = ['apiVersion: cilium.io/v2', 'kind: CiliumNetworkPolicy']
    policy.push('metadata: { name: broken, namespace: team-a }', 'spec:', '  endpointSelector: {}')
    policy.push('  egress:', '  - toFQDNs: [{ matchNmae: www.example.com }]', '')
    writeFileSync(join(files, 'policies', 'team-a.yaml'), policy.join('\n'))
  }
  await using node = await E2eNode.build('faulty', { edit })
  await node.start('agent', 'proxy')
  const [{ line, msg } = {}] = warnings(node)
  assert.deepEqual([line, /matchName/.test(String(msg))], [7, true], String(msg))
  assert.match((await dig(node, 'client', 'www.example.com')).stdout, /status: REFUSED/)
  assert(!(await node.reaches('client', '192.0.2.10')))
  assert(await node.reaches('bystander', '192.0.2.10'), 'nobody else is closed')
  for (const role of ROLES) {
    const codes = (await node.status(role)).degraded.map(({ code }) => code)
    assert(codes.includes('policy-faulty'), role)
  }
})

test('what is missing is named, and a second agent goes away', { skip }, async (t) => {
  await using node = await E2eNode.build('missing')
  const before = node.world.kernelState()
  for (const capability of ['net_admin', 'net_raw']) {
    await t.test(`without CAP_${capability.toUpperCase()}: exit 1, naming it`, async () => {
      const without = ['setpriv', `--bounding-set=-${capability}`, `--inh-caps=-${capability}`]
      const words = ['./node', ...without, './namegate', 'agent', '-c', 'namegate.yaml']
      const { code, stderr } = await node.world.run(words)
      assert.equal(code, 1, stderr)
      const other = capability === 'net_raw' ? 'net_admin' : 'net_raw'
      assert.match(stderr, new RegExp(`needs CAP_NET_ADMIN and CAP_NET_RAW, has only ${other}`))
      assert.equal(node.world.kernelState(), before, 'nothing was touched')
    })
  }

  await t.test('a second agent: exit 1, and the first goes on', async () => {
    await node.start('agent')
    const { code, stderr } = await node.world.run([...node.world.daemonCommand('agent')])
    assert.equal(code, 1)
    assert.match(stderr, /another one runs already .*agent\.lock.*stop it first/)
    const [address] = await node.lookUp('client', 'still.example.net')
    assert(await node.reaches('client', address!))
  })
})

function dig(node: E2eNode, pod: 'client' | 'bystander', ...words: string[]) {
  return node.world.run([`./${pod}`, 'dig', ...words])
}

/** What the agent said of faults in files. */
function warnings(node: E2eNode): Record<string, unknown>[] {
  return node.log('agent').filter(({ level, line }) => level === 'warn' && line !== undefined)
}
