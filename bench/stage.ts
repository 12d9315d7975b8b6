/**
 * Where benchmarks happen: three network namespaces, joined like a node of a cluster.
 *
 *     load ── eth0 ───── vethload ── node ── uplink ───── eth0 ── far
 *     dnsperf, 100 clients           the subject, at SERVER        the upstream, at UPSTREAM
 *
 * All queries of `load` come from one program, yet each of its sockets is a client of its own: what
 * leaves from port FIRST_PORT + n gets CLIENTS[n] as its source. The rewriting costs the generator
 * a little and the subject nothing, and it is the same for everybody.
 *
 * The subject's address exists on the node, so that servers that know of no interception listen
 * there; Namegate has the packets before they get that far.
 *
 * Each subject gets a stage of its own: rules, routes and connections that one leaves in the kernel
 * are nothing that the next one meets.
 *
 * What must stay true: nothing outlives a benchmark, also not one that is interrupted. Namespaces
 * and programs are those of test/support, which see to it.
 */
import { join } from 'node:path'
import { connect, Namespace } from '../test/support/netns.ts'
import { cpuMs } from './cpu.ts'
import { Upstream } from './upstream.ts'
import type { Workplace } from './workplace.ts'

/** Where subjects serve, on port 53. */
export const SERVER = '169.254.20.10'
export const UPSTREAM = '10.0.9.2'
export const CLIENTS: readonly string[] = Array.from({ length: 100 }, (_, n) => `10.0.0.${n + 2}`)
/** The node's end of the clients' link. */
export const CLIENT_INTERFACE = 'vethload'
/** Ports of the generator's sockets, below those that the kernel draws. */
export const FIRST_PORT = 20_000

export class Stage implements AsyncDisposable {
  readonly workplace: Workplace
  readonly node: Namespace
  readonly load: Namespace
  readonly #far: Namespace
  #upstream: Upstream | null = null

  /** @param addresses  how many different ones the upstream's answers have */
  static async build(workplace: Workplace, addresses: number): Promise<Stage> {
    const stage = new Stage(workplace)
    try {
      stage.#join()
      stage.#upstream = await Upstream.start(stage.#far, workplace.program('upstream'), {
        address: UPSTREAM,
        countFile: join(workplace.emptyDirectory('upstream-count'), 'asked'),
        addresses,
      })
      return stage
    } catch (error) {
      await stage[Symbol.asyncDispose]()
      throw error
    }
  }

  private constructor(workplace: Workplace) {
    this.workplace = workplace
    this.node = Namespace.create('node')
    this.load = Namespace.create('load')
    this.#far = Namespace.create('far')
  }

  /** Queries that reached the upstream so far. */
  asked(): number {
    return this.#upstream!.answered()
  }

  /** CPU of the upstream so far. */
  upstreamMs(): number {
    return cpuMs(this.#upstream!.process.pid)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#upstream?.[Symbol.asyncDispose]()
    for (const namespace of [this.node, this.load, this.#far]) namespace[Symbol.dispose]()
  }

  #join(): void {
    const [first, ...others] = CLIENTS
    connect(
      { namespace: this.node, interface: CLIENT_INTERFACE, addresses: ['10.0.0.1/32'] },
      { namespace: this.load, interface: 'eth0', addresses: [`${first}/24`] },
    )
    connect(
      { namespace: this.node, interface: 'uplink', addresses: ['10.0.9.1/24'] },
      { namespace: this.#far, interface: 'eth0', addresses: [`${UPSTREAM}/24`] },
    )
    this.load.ip('route', 'add', 'default', 'via', '10.0.0.1', 'src', first!)
    this.#far.ip('route', 'add', 'default', 'via', '10.0.9.1')
    this.node.ip('address', 'add', `${SERVER}/32`, 'dev', 'lo')
    this.node.sysctl('net.ipv4.ip_forward', 1)
    const added = others.map((one) => `address add ${one}/24 dev eth0\n`)
    this.load.execWithInput(added.join(''), 'ip', '-batch', '-')
    // All clients are behind one neighbour: nobody's answer waits for ARP while it is measured.
    const way = ['10.0.0.0/24', 'via', first!, 'dev', CLIENT_INTERFACE, 'onlink']
    this.node.ip('route', 'add', ...way)
    // A connection for each query: whoever closes keeps its port for a minute.
    this.load.sysctl('net.ipv4.tcp_tw_reuse', 1)
    const sources = CLIENTS.map((address, n) => `${FIRST_PORT + n} : ${address}`)
    this.load.execWithInput(
      `table ip clients {
  chain output {
    type filter hook output priority raw
    udp dport 53 ip saddr set udp sport map { ${sources.join(', ')} }
  }
}
`,
      'nft',
      '-f',
      '-',
    )
  }
}
