/**
 * Network namespaces for tests: a pod, a node, an internet, joined by veth pairs.
 *
 *     using node = Namespace.create('node')
 *     using pod = Namespace.create('pod')
 *     connect(
 *       { namespace: node, interface: 'veth-pod', addresses: ['10.0.0.1/24', '2001:db8::1/64'] },
 *       { namespace: pod, interface: 'eth0', addresses: ['10.0.0.7/24', '2001:db8::7/64'] },
 *     )
 *     pod.exec('ip', 'route', 'add', 'default', 'via', '10.0.0.1')
 *     await using server = await node.start('dnsmasq', […], { ready: 'started' })
 *
 * Names are `ngt-<pid>-<number>-<label>`: unique on the machine, and a later test process can tell
 * what a killed one left behind (`sweep`). Interfaces live inside namespaces only, so their names
 * may repeat; nothing is ever added to the machine's own namespace.
 *
 * Programs are started inside a namespace, never moved there: `setns` moves one thread, and Node
 * has several. Needs root and iproute2.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import {
  run,
  type Finished,
  type ProcessOptions,
  type RunOptions,
  type RunningProcess,
  start,
  type StartOptions,
} from './process.ts'

const PREFIX = 'ngt-'

export interface LinkEnd {
  readonly namespace: Namespace
  /** At most 15 characters, as the kernel wants. */
  readonly interface: string
  /** With prefix length: '10.0.0.7/24', '2001:db8::7/64'. */
  readonly addresses?: readonly string[]
  readonly mac?: string
}

export class Namespace implements Disposable {
  /** As in `ip netns list`. */
  readonly name: string
  #isGone = false

  private constructor(name: string) {
    this.name = name
  }

  /**
   * A fresh namespace with `lo` up and duplicate address detection off, so that IPv6 addresses
   * work at once.
   * @param label  lower-case word for whoever reads `ip netns list`
   */
  static create(label: string): Namespace {
    if (created === 0) sweep()
    return Namespace.named(`${PREFIX}${process.pid}-${created++}-${label}`)
  }

  /** The same with a name of the caller's own, who also sweeps what a killed run left of it. */
  static named(name: string): Namespace {
    ip('netns', 'add', name)
    const namespace = new Namespace(name)
    live.add(namespace)
    for (const scope of ['all', 'default']) namespace.sysctl(`net.ipv6.conf.${scope}.accept_dad`, 0)
    namespace.ip('link', 'set', 'lo', 'up')
    return namespace
  }

  /** Path that `nsenter --net=` and `setns` take. */
  get path(): string {
    return `/run/netns/${this.name}`
  }

  /** `ip -n NAME …`; what it printed. Throws with ip's own words. */
  ip(...commandArguments: string[]): string {
    return ip('-n', this.name, ...commandArguments)
  }

  /** Runs a command to its end and hands back its standard output; throws when it fails. */
  exec(command: string, ...commandArguments: string[]): string {
    return this.execWithInput('', command, ...commandArguments)
  }

  /** The same with something on standard input: `execWithInput(ruleset, 'nft', '-f', '-')`. */
  execWithInput(input: string, command: string, ...commandArguments: string[]): string {
    return synchronously('ip', ['netns', 'exec', this.name, command, ...commandArguments], input)
  }

  sysctl(key: string, value: string | number): void {
    // Not by sysctl(8), which a small Debian lacks. /proc/sys/net shows the namespace of the reader.
    const path = `/proc/sys/${key.replaceAll('.', '/')}`
    this.execWithInput(String(value), 'tee', path)
  }

  /** process.ts `run`, inside: for commands whose failure is a result. */
  run(
    command: string,
    commandArguments: readonly string[],
    options: RunOptions = {},
  ): Promise<Finished> {
    return run(command, commandArguments, { ...options, namespace: this.name })
  }

  /** process.ts `start`, inside. */
  start(
    command: string,
    commandArguments: readonly string[],
    options: StartOptions = {},
  ): Promise<RunningProcess> {
    return start(command, commandArguments, { ...options, namespace: this.name })
  }

  /** The namespace's own options for process.ts, for callers that start things themselves. */
  get processOptions(): ProcessOptions {
    return { namespace: this.name }
  }

  /** It outlives this process, with all that runs inside: `removeNamespace` takes it away. */
  release(): void {
    this.#isGone = true
    live.delete(this)
  }

  /** Ends what still runs inside, then removes the namespace, and with it links, routes, tables. */
  [Symbol.dispose](): void {
    if (this.#isGone) return
    this.#isGone = true
    live.delete(this)
    removeNamespace(this.name)
  }
}

/** A veth pair between two namespaces, both ends up, with their addresses. */
export function connect(one: LinkEnd, other: LinkEnd): void {
  const far = ['peer', 'name', other.interface, 'netns', other.namespace.name]
  one.namespace.ip('link', 'add', one.interface, 'type', 'veth', ...far)
  for (const end of [one, other]) {
    const { namespace, interface: device } = end
    if (end.mac !== undefined) namespace.ip('link', 'set', device, 'address', end.mac)
    for (const address of end.addresses ?? []) {
      namespace.ip('address', 'add', address, 'dev', device)
    }
    namespace.ip('link', 'set', device, 'up')
  }
}

/** Why namespaces can't be made here, as a reason to skip with; false when they can. */
export function missingForNamespaces(): string | false {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root: network namespaces'
  if (spawnSync('ip', ['-V']).error !== undefined) return 'needs iproute2: no ip command'
  const mayUnshare = spawnSync('unshare', ['--net', 'true']).status === 0
  return mayUnshare ? false : 'needs the right to make network namespaces (CAP_SYS_ADMIN)'
}

/** Removes namespaces whose test process is gone: it was killed before it could clean up. */
export function sweep(): void {
  for (const name of namespaceNames()) {
    const pid = /^ngt-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeNamespace(name)
  }
}

/** Every namespace that `ip netns` knows. */
export function namespaceNames(): string[] {
  const listed = JSON.parse(ip('-j', 'netns', 'list') || '[]') as { name: string }[]
  return listed.map((entry) => entry.name)
}

/** Ends what runs in a namespace, and removes it. */
export function removeNamespace(name: string): void {
  const inside = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? ''
  for (const pid of inside.split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // It ended by itself between the two lines.
    }
  }
  spawnSync('ip', ['netns', 'delete', name])
}

function ip(...commandArguments: string[]): string {
  return synchronously('ip', commandArguments, '')
}

function synchronously(command: string, commandArguments: string[], input: string): string {
  const result = spawnSync(command, commandArguments, {
    encoding: 'utf8',
    input,
    timeout: 10_000,
    maxBuffer: 64 * 1024 * 1024,
  })
  if (result.status === 0) return result.stdout
  const why = result.error?.message ?? (result.stderr.trim() || `exit ${result.status}`)
  throw new Error(`${command} ${commandArguments.join(' ')}: ${why}`)
}

let created = 0
const live = new Set<Namespace>()

// The test may end by a throw, by process.exit or by a signal (process.ts turns those into an
// exit): what was made is taken away.
process.on('exit', () => {
  for (const namespace of live) namespace[Symbol.dispose]()
})
