/**
 * Test support: a node with three pods and an internet, each a network namespace.
 *
 *     alice ── v-alice ┐
 *     bob ──── v-bob   ├ node ── v-net ── net    192.0.2.10-12, 2001:db8:2::10-12, and a DNS server
 *     bystander ─ v-by ┘                         at 192.0.2.53 and 2001:db8:2::53
 *
 * The driver under test, its netlink sockets and raw sockets live in the node's namespace, and a
 * process can't move there as a whole. So `inNode` runs the test file a second time, inside; there
 * `World` talks with a prober in each of the other namespaces.
 */
import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { Namespace, connect, missingForNamespaces } from '../netns.ts'
import type { Facts } from '../../../src/grant/ruleset.ts'
import {
  ALICE,
  BOB,
  BYSTANDER,
  CONFORMANCE_PORTS,
  SERVERS,
} from '../../../src/datapath/conformance.ts'
import type { Command } from './prober.ts'

/** In the environment of the run inside: {alice: 'ngt-…', …}. */
const VARIABLE = 'NAMEGATE_TEST_NAMESPACES'

const CLIENTS = [
  { name: 'alice', device: 'v-alice', who: ALICE },
  { name: 'bob', device: 'v-bob', who: BOB },
  { name: 'bystander', device: 'v-by', who: BYSTANDER },
] as const
export type PodName = (typeof CLIENTS)[number]['name']

export const DNS_SERVER = { v4: '192.0.2.53', v6: '2001:db8:2::53' } as const

/** True in the run inside: the test file then declares its tests. Outside it starts that run. */
export function inNode(file: string, deadlineMs: number): boolean {
  if (process.env[VARIABLE] !== undefined) return true
  const skip = missingForNamespaces()
  test(`${fileURLToPath(file).split('/').at(-1)} inside its namespaces`, { skip }, async (t) => {
    using node = Namespace.create('node')
    using net = Namespace.create('net')
    using alice = Namespace.create('alice')
    using bob = Namespace.create('bob')
    using bystander = Namespace.create('bystander')
    build(node, net, { alice, bob, bystander })
    const names = { net: net.name, alice: alice.name, bob: bob.name, bystander: bystander.name }
    const finished = await node.run(process.execPath, [fileURLToPath(file)], {
      deadlineMs,
      env: {
        [VARIABLE]: JSON.stringify(names),
        NODE_TEST_CONTEXT: undefined,
      },
    })
    const lines = finished.stdout.split('\n')
    const hasRun = lines.some((line) => /^ℹ pass [1-9]/.test(line))
    if (finished.code !== 0 || !hasRun) assert.fail(`${finished.stdout}\n${finished.stderr}`)
    for (const line of lines) if (/^(✔|﹣|ℹ IPv)/.test(line)) t.diagnostic(line)
  })
  return false
}

function build(node: Namespace, net: Namespace, pods: Record<PodName, Namespace>): void {
  node.sysctl('net.ipv4.ip_forward', 1)
  node.sysctl('net.ipv6.conf.all.forwarding', 1)
  connect(
    { namespace: node, interface: 'v-net', addresses: ['192.0.2.1/24', '2001:db8:2::1/64'] },
    {
      namespace: net,
      interface: 'eth0',
      addresses: [...SERVERS.v4, DNS_SERVER.v4].map((address) => `${address}/24`),
    },
  )
  for (const address of [...SERVERS.v6, DNS_SERVER.v6]) {
    net.ip('address', 'add', `${address}/64`, 'dev', 'eth0')
  }
  net.ip('route', 'add', '10.0.0.0/24', 'via', '192.0.2.1')
  net.ip('-6', 'route', 'add', '2001:db8:1::/64', 'via', '2001:db8:2::1')
  for (const { name, device, who } of CLIENTS) {
    const pod = pods[name]
    connect(
      { namespace: node, interface: device, addresses: ['169.254.1.1/32', 'fe80::1/64'] },
      { namespace: pod, interface: 'eth0', addresses: [`${who.v4}/32`, `${who.v6}/128`] },
    )
    node.ip('route', 'add', who.v4, 'dev', device)
    node.ip('-6', 'route', 'add', who.v6, 'dev', device)
    pod.ip('route', 'add', '169.254.1.1', 'dev', 'eth0')
    pod.ip('route', 'add', 'default', 'via', '169.254.1.1')
    pod.ip('-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0')
  }
}

export const FACTS: Facts = {
  interfaces: ['v-alice', 'v-b*'],
  mark: { value: 0x4e470000, mask: 0xffff0000 },
  routingTable: 20551,
  rulePriority: 100,
  listen: ['169.254.20.10'],
  servers: ['10.96.0.10', DNS_SERVER.v4, DNS_SERVER.v6],
  isNodeServed: true,
  endpoints: [],
  sockets: { v4: '127.78.71.1', v6: 'fd4e:4701::1' },
  places: [1, 2],
  interfaceOf: Object.fromEntries(
    CLIENTS.flatMap(({ device, who }) => [
      [who.v4, device],
      [who.v6, device],
    ]),
  ),
  nflogGroups: [4747],
  denyAction: 'drop',
  grantsMax: 1024,
}

export class Prober {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiting = new Map<number, (result: unknown) => void>()
  #id = 0

  /** @param namespace  null: this one */
  constructor(namespace: string | null) {
    const script = fileURLToPath(new URL('prober.ts', import.meta.url))
    const enter = namespace === null ? [] : ['ip', 'netns', 'exec', namespace]
    const [program, ...words] = [...enter, process.execPath, script]
    this.#child = spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stderr.pipe(process.stderr)
    createInterface({ input: this.#child.stdout }).on('line', (text) => {
      const { id, result } = JSON.parse(text) as { id: number; result: unknown }
      this.#waiting.get(id)?.(result)
      this.#waiting.delete(id)
    })
  }

  do(command: Command): Promise<unknown> {
    const id = ++this.#id
    const { promise, resolve } = Promise.withResolvers<unknown>()
    this.#waiting.set(id, resolve)
    this.#child.stdin.write(`${JSON.stringify({ id, command })}\n`)
    return promise
  }

  /** Ends it: it goes when its input does. */
  end(): void {
    this.#child.stdin.end()
  }
}

export interface Probers {
  readonly net: Prober
  readonly alice: Prober
  readonly bob: Prober
  readonly bystander: Prober
}

/** Inside: one prober a namespace, the servers ready. They end with the process. */
export async function startProbers(): Promise<Probers> {
  const names = JSON.parse(process.env[VARIABLE]!) as Record<keyof Probers, string>
  const probers = {
    net: new Prober(names.net),
    alice: new Prober(names.alice),
    bob: new Prober(names.bob),
    bystander: new Prober(names.bystander),
  }
  // At each address by itself: a wildcard socket would answer datagrams from the first one.
  const { v4, v6 } = SERVERS
  for (const address of [...v4, ...v6, DNS_SERVER.v4, DNS_SERVER.v6]) {
    for (const port of [...CONFORMANCE_PORTS, 53]) {
      await probers.net.do({ do: 'serve', name: 'net', address, port })
    }
  }
  return probers
}

/** The prober of the pod with this address. */
export function podOf(probers: Probers, address: string): Prober {
  const pod = CLIENTS.find(({ who }) => who.v4 === address || who.v6 === address)
  assert(pod !== undefined, `a pod has ${address}`)
  return probers[pod.name]
}

/** Runs a command here, in the node's namespace; what it printed. */
export function onNode(command: string, ...words: string[]): string {
  return execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The same in the namespace of a pod. */
export function inPod(pod: PodName, command: string, ...words: string[]): string {
  const names = JSON.parse(process.env[VARIABLE]!) as Record<PodName, string>
  return onNode('ip', 'netns', 'exec', names[pod], command, ...words)
}

/** Words for `ip`: an address that a pod gives itself, to send from. */
export function ownAddress(verb: 'add' | 'del', address: string): string[] {
  return ['address', verb, `${address}/${address.includes(':') ? 128 : 32}`, 'dev', 'lo']
}

/** Runs it here with something on its standard input. */
export function feedNode(input: string, command: string, ...words: string[]): string {
  return execFileSync(command, words, { encoding: 'utf8', input })
}

/** What the kernel holds beside conntrack: to compare before and after. */
export function kernelState(): string {
  const tables = ['show', 'table', 'all']
  return [
    onNode('nft', 'list', 'ruleset'),
    onNode('ip', '-4', 'rule'),
    onNode('ip', '-6', 'rule'),
    onNode('ip', '-4', 'route', ...tables),
    onNode('ip', '-6', 'route', ...tables).replace(/ expires \d+sec/g, ''),
    onNode('ip', 'xfrm', 'policy'),
    onNode('ip', 'address').replace(/valid_lft \d+sec/g, ''),
  ].join('\n---\n')
}
