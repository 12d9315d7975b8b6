/**
 * What scenarios in namespaces are played on, built once for all of them: a node, pods and an
 * internet, with the programs that act there. in-namespaces.ts plays one scenario after the other
 * on it.
 *
 *     pod0 ─── veth0 ┐                   192.0.2.0/24, 2001:db8:2::/48:
 *     pod1 ─── veth1 ┼─ node ── uplink ── internet   upstream servers, and whom clients connect to
 *     …              ┘
 *
 * The node routes like a Kubernetes node: each address of a client has a route to its veth pair.
 * Nobody is at the cluster DNS's address: whatever a client is answered from there, Namegate says.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, Namespace } from '../netns.ts'
import { Caller } from './calls.ts'
import type { ScenarioClient } from './scenario.ts'

const POD_PROGRAM = join(import.meta.dirname, './pod-program.ts')
const INTERNET_PROGRAM = join(import.meta.dirname, './internet-program.ts')
const UPLINK = {
  node: ['10.0.9.1/30', '2001:db8:9::1/64'],
  internet: ['10.0.9.2/30', '2001:db8:9::2/64'],
} as const
/** Addresses of which the internet has every single one. */
const INTERNET_PREFIXES = ['192.0.2.0/24', '2001:db8:2::/48']
/** The pods' gateway, on the node's end of each pair. */
const GATEWAY = { v4: '169.254.1.1', v6: 'fe80::1' } as const

interface Pod {
  readonly namespace: Namespace
  readonly program: Caller
  readonly interface: string
  addresses: readonly string[]
}

export class Stage implements Disposable {
  readonly directory: string
  readonly node: Namespace
  internet!: Caller
  readonly #internet: Namespace
  readonly #pods: Pod[] = []

  /** @param podCount  as many clients as any scenario has */
  static async build(podCount: number): Promise<Stage> {
    const stage = new Stage()
    try {
      stage.#joinInternet()
      const programs = Array.from({ length: podCount }, (_, index) => stage.#addPod(index))
      const internet = stage.#startProgram(stage.#internet, INTERNET_PROGRAM)
      for (const pod of await Promise.all(programs)) stage.#pods.push(pod)
      stage.internet = await internet
      return stage
    } catch (error) {
      stage[Symbol.dispose]()
      throw error
    }
  }

  private constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'ngt-scenarios-'))
    process.on('exit', this.#removeDirectory)
    this.node = Namespace.create('node')
    this.#internet = Namespace.create('internet')
  }

  /** The program of the pod that has this address now. */
  podOf(address: string): Caller {
    return this.#pods.find(({ addresses }) => addresses.includes(address))!.program
  }

  /** The node's end of the link of a client, by its place in the scenario. */
  interfaceOf(index: number): string {
    return this.#pods[index]!.interface
  }

  /** From now on these are the pods, in this order. */
  cast(clients: readonly ScenarioClient[]): void {
    const routes = (verb: 'del' | 'add'): string[] =>
      this.#pods.flatMap(({ addresses, interface: device }) =>
        addresses.map((address) => `route ${verb} ${address} dev ${device}`),
      )
    const lines = routes('del')
    for (const [index, pod] of this.#pods.entries()) {
      const addresses = clients[index]?.addresses ?? []
      if (pod.addresses.join() !== addresses.join()) dress(pod.namespace, addresses)
      pod.addresses = addresses
    }
    lines.push(...routes('add'))
    this.node.execWithInput(lines.join('\n'), 'ip', '-batch', '-')
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#removeDirectory)
    for (const { program } of this.#pods) program[Symbol.dispose]()
    for (const { namespace } of this.#pods) namespace[Symbol.dispose]()
    this.internet?.[Symbol.dispose]()
    this.#internet[Symbol.dispose]()
    this.node[Symbol.dispose]()
    this.#removeDirectory()
  }

  readonly #removeDirectory = (): void => {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }

  #joinInternet(): void {
    const { node } = this
    const internet = this.#internet
    node.sysctl('net.ipv4.ip_forward', 1)
    node.sysctl('net.ipv6.conf.all.forwarding', 1)
    // Nobody listens at a server that refuses, and each question shall be told so.
    internet.sysctl('net.ipv4.icmp_ratelimit', 0)
    // IPv6 binds to an address only if an interface has it, whatever the routes say.
    internet.sysctl('net.ipv6.ip_nonlocal_bind', 1)
    connect(
      { namespace: node, interface: 'uplink', addresses: UPLINK.node },
      { namespace: internet, interface: 'eth0', addresses: UPLINK.internet },
    )
    for (const [one, gateways] of [
      [node, UPLINK.internet],
      [internet, UPLINK.node],
    ] as const) {
      for (const gateway of gateways) {
        one.ip('route', 'add', 'default', 'via', gateway.split('/')[0]!)
      }
    }
    for (const prefix of INTERNET_PREFIXES) {
      internet.ip('route', 'add', 'local', prefix, 'dev', 'lo')
    }
  }

  async #addPod(index: number): Promise<Pod> {
    const device = `veth${index}`
    const namespace = Namespace.create(`pod${index}`)
    const addresses = [`${GATEWAY.v4}/32`, `${GATEWAY.v6}/64`]
    connect(
      { namespace: this.node, interface: device, addresses },
      { namespace, interface: 'eth0' },
    )
    const program = await this.#startProgram(namespace, POD_PROGRAM)
    return { namespace, program, interface: device, addresses: [] }
  }

  async #startProgram(namespace: Namespace, script: string): Promise<Caller> {
    const socket = join(this.directory, `${namespace.name}.sock`)
    const words = ['--disable-warning=ExperimentalWarning', script, socket]
    await namespace.start(process.execPath, words, { ready: 'ready' })
    return Caller.connect(socket)
  }
}

/** Gives a pod these addresses and no others. With its last IPv4 address go the routes. */
function dress(pod: Namespace, addresses: readonly string[]): void {
  const lines = [
    'address flush dev eth0 scope global',
    ...addresses.map((address) => `address add ${address} dev eth0`),
  ]
  if (addresses.some((address) => !address.includes(':'))) {
    lines.push(`route replace ${GATEWAY.v4} dev eth0`)
    lines.push(`route replace default via ${GATEWAY.v4} dev eth0`)
  }
  if (addresses.some((address) => address.includes(':'))) {
    lines.push(`route replace default via ${GATEWAY.v6} dev eth0`)
  }
  pod.execWithInput(lines.join('\n'), 'ip', '-batch', '-')
}
