/**
 * A node with three pods and an internet, each a network namespace, for the story and for tests
 * that run the daemons end to end. Nothing outside these namespaces is touched.
 *
 *     client ──── vethclient ┐                          10.0.0.53, 2001:db8:1::53   cluster DNS
 *     other ───── vethother ─┼─ node ── uplink ── internet   192.0.2.0/24,
 *     bystander ─ vethbystander                              2001:db8:2::/48        web servers
 *
 * The node routes and forwards like a Kubernetes node: each pod has a /32 and a veth pair, and a
 * table of its own stands in for kube-proxy, which turns the cluster DNS's Service address into the
 * server's. So DNS works here without Namegate, and what falls through it really arrives.
 *
 * Everything that a command needs lies in one directory, and everything that a test does there a
 * person can type there:
 *
 *     ./client dig example.com                     a command in a pod, with the pod's resolv.conf
 *     ./node ./namegate agent -c namegate.yaml     a command on the node
 *
 * That directory is the HOME of these commands, so that .digrc and .curlrc in it apply and the
 * user's own don't.
 */
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { InternetOptions } from './internet.ts'
import { connect, Namespace, namespaceNames, removeNamespace } from './netns.ts'
import { type Finished, run, type RunningProcess, start, until } from './process.ts'

export type Role = 'agent' | 'proxy'

/** Pods by label, with the addresses that clients.yaml gives them. */
const PODS = {
  client: { v4: '10.0.0.10', v6: '2001:db8:1::10' },
  other: { v4: '10.0.0.11', v6: '2001:db8:1::11' },
  bystander: { v4: '10.0.0.12', v6: '2001:db8:1::12' },
} as const
export type PodLabel = keyof typeof PODS

/** Where a command runs: in a pod, on the node, or on the internet's side. */
export type Place = PodLabel | 'node' | 'internet'
const PLACES: readonly Place[] = [...(Object.keys(PODS) as PodLabel[]), 'node', 'internet']

/** The Service kube-system/kube-dns, and where its endpoint really is. */
export const CLUSTER_DNS = { v4: '10.96.0.10', v6: '2001:db8:96::a' } as const
const DNS_ENDPOINT = { v4: '10.0.0.53', v6: '2001:db8:1::53' } as const
/** Another DNS server of the internet: the same answers, but no policy allows asking it. */
export const STRANGE_DNS = '192.0.2.99'

const UPLINK = {
  node: ['10.0.9.1/30', '2001:db8:9::1/64'],
  internet: ['10.0.9.2/30', '2001:db8:9::2/64'],
} as const
/** Addresses of which the internet has every single one. */
const WEB_PREFIXES = ['192.0.2.0/24', '198.18.0.0/15', '2001:db8:2::/48']
/** The pods' gateway, on the node's end of each pair. */
const GATEWAY = { v4: '169.254.1.1', v6: 'fe80::1' } as const

/** Without it a directory is somebody else's, and is not removed. */
const MARK_FILE = '.namegate-world'
const OWNER_FILE = '.owner'
const ROOT = join(import.meta.dirname, '..', '..')

export interface WorldOptions {
  /** Begins the namespaces' names: PREFIX-node, PREFIX-client … Whatever has them goes. */
  readonly prefix: string
  /** Made with mode 0700, removed at the end. Short: unix sockets lie below it. */
  readonly directory: string
  /** A folder that is copied there: namegate.yaml, and what that names. */
  readonly files: string
  /** Records and domains that the DNS servers know. */
  readonly zone: Pick<InternetOptions, 'records' | 'fresh'>
}

export class World implements Disposable {
  readonly directory: string
  readonly #prefix: string
  readonly #namespaces = new Map<Place, Namespace>()
  readonly #programs: RunningProcess[] = []

  /** Builds it and starts the servers. What is left of a former world of this name is removed. */
  static async build(options: WorldOptions): Promise<World> {
    World.remove(options.prefix, options.directory)
    // It must not exist: of two builders at once the second ends here, and removes nothing.
    mkdirSync(options.directory, { mode: 0o700 })
    const world = new World(options)
    try {
      world.#fill(options)
      world.#join()
      await world.#startInternet(options.zone)
      return world
    } catch (error) {
      world[Symbol.dispose]()
      throw error
    }
  }

  /** Ends and removes a world that this process need not have built; whether there was one. */
  static remove(prefix: string, directory: string): boolean {
    const ours = PLACES.map((place) => `${prefix}-${place}`)
    const left = namespaceNames().filter((name) => ours.includes(name))
    for (const name of left) removeNamespace(name)
    const hasDirectory = existsSync(directory)
    if (hasDirectory && !existsSync(join(directory, MARK_FILE))) {
      throw new Error(`build a world in ${directory}: it is there and is no world; choose another`)
    }
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
    return left.length > 0 || hasDirectory
  }

  /** The process that built the world in this directory and has not released it, if it lives. */
  static owner(directory: string): number | null {
    const file = join(directory, OWNER_FILE)
    if (!existsSync(file)) return null
    const name = readFileSync(file, 'utf8')
    const pid = Number(name.split(' ')[0])
    return ownName(pid) === name ? pid : null
  }

  private constructor({ prefix, directory }: WorldOptions) {
    this.#prefix = prefix
    this.directory = directory
  }

  namespace(place: Place): Namespace {
    return this.#namespaces.get(place)!
  }

  /** Runs what a person would type in the world's directory, without a shell. */
  run(words: readonly string[], deadlineMs = 10_000): Promise<Finished> {
    return run(words[0]!, words.slice(1), { cwd: this.directory, deadlineMs })
  }

  /** The words that start a daemon. */
  daemonCommand(role: Role): readonly string[] {
    return ['./node', './namegate', role, '-c', 'namegate.yaml']
  }

  /**
   * Starts a daemon on the node; resolves when it serves. Its log is appended to ROLE.log.
   * @param waitMs  node on two busy processors is slow
   */
  async startDaemon(role: Role, waitMs = 15_000): Promise<RunningProcess> {
    const log = this.#log(role)
    appendFileSync(log, '') // it is read before the shell has made it
    const begin = statSync(log).size
    const daemon = await this.#start(role, this.daemonCommand(role))
    const said = (): string => readFileSync(log).subarray(begin).toString()
    const serves = (): boolean => {
      if (!daemon.isRunning) throw new Error(`the ${role} ended at once:\n${said().slice(-2000)}`)
      return said().includes('"serving"')
    }
    try {
      await until(`the ${role} serves`, serves, waitMs)
      return daemon
    } catch (error) {
      await daemon[Symbol.asyncDispose]()
      throw error
    }
  }

  /** The end of a daemon's log, for messages; '' before it was started. */
  logTail(role: Role, bytes = 2000): string {
    const log = this.#log(role)
    return existsSync(log) ? readFileSync(log, 'utf8').slice(-bytes) : ''
  }

  /**
   * What the node's kernel holds: to compare before and after. Without what changes by itself.
   */
  kernelState(): string {
    const tables = ['route', 'show', 'table', 'all'] as const
    const node = this.namespace('node')
    return [
      node.exec('nft', 'list', 'ruleset'),
      node.ip('-4', 'rule'),
      node.ip('-6', 'rule'),
      node.ip('-4', ...tables),
      node.ip('-6', ...tables).replace(/ expires \d+sec/g, ''),
      node.ip('address').replace(/valid_lft \d+sec/g, ''),
    ].join('---\n')
  }

  /** It outlives this process; `World.remove` takes it away. */
  release(): void {
    for (const program of this.#programs) if (program.isRunning) program.release()
    for (const namespace of this.#namespaces.values()) namespace.release()
    rmSync(join(this.directory, OWNER_FILE))
    process.off('exit', this.#removeAll)
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#removeAll)
    this.#removeAll()
  }

  readonly #removeAll = (): void => {
    for (const namespace of this.#namespaces.values()) namespace[Symbol.dispose]()
    World.remove(this.#prefix, this.directory)
  }

  #log(role: Role): string {
    return join(this.directory, `${role}.log`)
  }

  /** Starts a program whose output goes to NAME.log, so that it can outlive us. */
  async #start(name: string, words: readonly string[]): Promise<RunningProcess> {
    const redirected = ['-c', 'exec "$@" >>"$0" 2>&1', `${name}.log`, ...words]
    const program = await start('sh', redirected, { cwd: this.directory })
    this.#programs.push(program)
    return program
  }

  /** The directory with all that commands need. */
  #fill({ files }: WorldOptions): void {
    const { directory } = this
    process.on('exit', this.#removeAll)
    this.#write(MARK_FILE, 'made by test/support/world.ts, which removes it\n')
    this.#write(OWNER_FILE, ownName(process.pid))
    cpSync(files, directory, { recursive: true })
    symlinkSync(join(ROOT, 'namegate'), join(directory, 'namegate'))
    this.#write('resolv.conf', `nameserver ${CLUSTER_DNS.v4}\noptions timeout:2 attempts:1\n`)
    this.#write('nsswitch.conf', 'hosts: files dns\n')
    this.#write('.digrc', '+tries=1 +timeout=2\n')
    this.#write(
      '.curlrc',
      'silent\nshow-error\nwrite-out = "name known after %{time_namelookup} s, connected after %{time_connect} s\\n"\n',
    )
    for (const place of PLACES) {
      this.#namespaces.set(place, Namespace.named(`${this.#prefix}-${place}`))
      this.#write(place, shellOf(this.namespace(place).name, directory, place in PODS))
      chmodSync(join(directory, place), 0o755)
    }
  }

  #write(file: string, text: string): void {
    writeFileSync(join(this.directory, file), text)
  }

  /** Links, addresses, routes, and the node's stand-in for kube-proxy. */
  #join(): void {
    const node = this.namespace('node')
    const internet = this.namespace('internet')
    node.sysctl('net.ipv4.ip_forward', 1)
    node.sysctl('net.ipv6.conf.all.forwarding', 1)
    connect(
      { namespace: node, interface: 'uplink', addresses: UPLINK.node },
      { namespace: internet, interface: 'eth0', addresses: UPLINK.internet },
    )
    for (const [one, gateways] of [
      [node, UPLINK.internet],
      [internet, UPLINK.node],
    ] as const) {
      for (const gateway of gateways) {
        one.ip(family(gateway), 'route', 'add', 'default', 'via', gateway.split('/')[0]!)
      }
    }
    for (const prefix of WEB_PREFIXES) {
      internet.ip(family(prefix), 'route', 'add', 'local', prefix, 'dev', 'lo')
    }
    for (const address of Object.values(DNS_ENDPOINT)) {
      internet.ip('address', 'add', address, 'dev', 'lo')
    }
    for (const [label, addresses] of Object.entries(PODS)) {
      this.#joinPod(label as PodLabel, Object.values(addresses))
    }
    node.execWithInput(KUBE_PROXY, 'nft', '-f', '-')
  }

  #joinPod(label: PodLabel, addresses: readonly string[]): void {
    const node = this.namespace('node')
    const pod = this.namespace(label)
    const device = `veth${label}`
    connect(
      { namespace: node, interface: device, addresses: [`${GATEWAY.v4}/32`, `${GATEWAY.v6}/64`] },
      { namespace: pod, interface: 'eth0', addresses },
    )
    for (const address of addresses) {
      node.ip(family(address), 'route', 'add', address, 'dev', device)
    }
    pod.ip('route', 'add', GATEWAY.v4, 'dev', 'eth0')
    for (const gateway of Object.values(GATEWAY)) {
      pod.ip(family(gateway), 'route', 'add', 'default', 'via', gateway, 'dev', 'eth0')
    }
  }

  async #startInternet(zone: WorldOptions['zone']): Promise<void> {
    const options: InternetOptions = {
      ...zone,
      dnsAddresses: [...Object.values(DNS_ENDPOINT), STRANGE_DNS],
    }
    this.#write('zone.json', JSON.stringify(options, null, 2))
    const script = join(import.meta.dirname, './internet.ts')
    const words = ['./internet', process.execPath, '--disable-warning=ExperimentalWarning', script]
    const log = join(this.directory, 'internet.log')
    appendFileSync(log, '')
    const internet = await this.#start('internet', [...words, this.directory])
    await until('the servers of the internet are ready', () => {
      const said = readFileSync(log, 'utf8')
      if (!internet.isRunning) throw new Error(`the internet's servers ended at once:\n${said}`)
      return said.includes('ready')
    })
  }
}

/** What kube-proxy makes of the Service kube-dns: for pods, and for the node's own processes. */
const KUBE_PROXY = `table inet kube-proxy {
  chain services {
    meta l4proto { udp, tcp } ip daddr ${CLUSTER_DNS.v4} th dport 53 dnat ip to ${DNS_ENDPOINT.v4}
    meta l4proto { udp, tcp } ip6 daddr ${CLUSTER_DNS.v6} th dport 53 dnat ip6 to ${DNS_ENDPOINT.v6}
  }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain output { type nat hook output priority -100; jump services; }
}
`

/**
 * A script that runs its arguments in a namespace. A pod gets its own resolv.conf there: `ip netns
 * exec` gives each command a mount namespace, so nothing is seen outside, and nothing is left.
 * Proxies, the user's settings and the machine's name service cache are nothing that a pod has.
 */
function shellOf(namespace: string, directory: string, isPod: boolean): string {
  if (!isPod) return `#!/bin/sh\nexec ip netns exec ${namespace} "$@"\n`
  const mounts = [
    'mount --bind "$0/resolv.conf" /etc/resolv.conf || exit 1',
    'if [ -e /etc/nsswitch.conf ]; then mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf; fi',
    'if [ -d /run/nscd ]; then mount -t tmpfs none /run/nscd; fi',
    'exec "$@"',
  ]
  return `#!/bin/sh
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY CURL_HOME XDG_CONFIG_HOME
HOME=${directory} exec ip netns exec ${namespace} sh -c '
  ${mounts.join('\n  ')}
' ${directory} "$@"
`
}

/**
 * A process by number and birth, because numbers come back. Source: proc_pid_stat(5), field 22,
 * counted from behind the command's name, which may contain anything.
 */
function ownName(pid: number): string {
  const file = `/proc/${pid}/stat`
  if (!existsSync(file)) return ''
  const fields = readFileSync(file, 'utf8').split(') ').at(-1)!.split(' ')
  return `${pid} ${fields[19]}`
}

function family(address: string): '-4' | '-6' {
  return address.includes(':') ? '-6' : '-4'
}
