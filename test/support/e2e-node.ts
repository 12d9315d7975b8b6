/**
 * A node with both daemons, for the end-to-end tests: world.ts with the configuration of
 * test/e2e/node, and what tests do to daemons (start, stop, kill, hang, ask).
 *
 *     await using node = await E2eNode.build('always')
 *     await node.start('agent')
 *
 * Times are milliseconds of the machine's monotonic clock, which is the same in every process.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askOne } from '../../src/ctl/client.ts'
import type { StatusReport } from '../../src/observe/status.ts'
import type { SlowOptions } from './e2e-slow.ts'
import { type Finished, type RunningProcess, sleep, until } from './process.ts'
import { type Place, type PodLabel, type Role, World } from './world.ts'

export const ROLES = ['agent', 'proxy'] as const

/** What a policy allows and forbids there; names and addresses of the internet. */
export const KNOWN_NAMES = Array.from({ length: 20 }, (_, index) => `k${index}.example.net.`)
/** Allowed, with a TTL of 2 s. */
export const SHORT = { name: 'short.example.net.', address: '192.0.2.90' } as const
/** Every name below it exists, with an address of its own, and is allowed. */
export const FRESH_DOMAIN = 'example.net.'
/** May be asked for, but not connected to. */
export const CLOSED = { name: 'closed.example.org', address: '192.0.2.66' } as const

const ZONE = {
  records: [
    ...KNOWN_NAMES.map((name, index) => `${name} 300 A 192.0.2.${100 + index}`),
    'www.example.com. 300 A 192.0.2.10',
    'www.example.com. 300 AAAA 2001:db8:2::10',
    `${SHORT.name} 2 A ${SHORT.address}`,
    'db.cluster.local. 300 A 192.0.2.40',
    `${CLOSED.name}. 300 A ${CLOSED.address}`,
  ],
  fresh: [FRESH_DOMAIN],
} as const
const FILES = join(import.meta.dirname, '..', 'e2e', 'node')
const STOP_MS = 10_000

/** A DNS server of the internet that is far away, if a test asks for one. */
export const SLOW_DNS = '192.0.2.53'

export interface E2eNodeOptions {
  /** The upstream is SLOW_DNS, and takes so long. */
  readonly slowMs?: number
  /** Changes a copy of test/e2e/node before the node is built of it. */
  readonly edit?: (files: string) => void
}

export class E2eNode implements AsyncDisposable {
  readonly world: World
  readonly #daemons = new Map<Role, RunningProcess>()

  static async build(label: string, options: E2eNodeOptions = {}): Promise<E2eNode> {
    const prefix = `ngt-${process.pid}-${label}`
    const files = mkdtempSync(join(tmpdir(), 'ngt-files-'))
    try {
      cpSync(FILES, files, { recursive: true })
      options.edit?.(files)
      const directory = join(tmpdir(), prefix)
      const node = new E2eNode(await World.build({ prefix, directory, files, zone: ZONE }))
      if (options.slowMs !== undefined) await node.#slowDown(options.slowMs)
      return node
    } finally {
      rmSync(files, { recursive: true })
    }
  }

  private constructor(world: World) {
    this.world = world
  }

  /** Writes a file of the node's directory anew, as an editor does: another file under its name. */
  edit(file: string, change: (text: string) => string): void {
    editFile(join(this.world.directory, file), change)
  }

  /** Milliseconds until it serves. */
  async start(...roles: Role[]): Promise<number> {
    const beganMs = performance.now()
    await Promise.all(
      roles.map(async (role) => this.#daemons.set(role, await this.world.startDaemon(role))),
    )
    return performance.now() - beganMs
  }

  daemon(role: Role): RunningProcess {
    const daemon = this.#daemons.get(role)
    assert(daemon !== undefined, `the ${role} was never started`)
    return daemon
  }

  /** Planned: it ends by itself, and well. */
  async stop(...roles: Role[]): Promise<void> {
    for (const role of roles) this.daemon(role).kill('SIGTERM')
    for (const role of roles) {
      const { code, signal } = await this.#end(role)
      assert.deepEqual([code, signal], [0, null], `the ${role}: ${this.world.logTail(role)}`)
    }
  }

  async kill(...roles: Role[]): Promise<void> {
    for (const role of roles) this.daemon(role).kill('SIGKILL')
    for (const role of roles) await this.#end(role)
  }

  hang(...roles: Role[]): void {
    for (const role of roles) this.daemon(role).kill('SIGSTOP')
  }

  wake(...roles: Role[]): void {
    for (const role of roles) this.daemon(role).kill('SIGCONT')
  }

  async status(role: Role): Promise<StatusReport> {
    const run = join(this.world.directory, 'run')
    for await (const row of askOne<StatusReport>(run, role, 'status', {})) return row
    throw new Error(`the ${role} gave no status`)
  }

  /** Until both know of each other and nothing is amiss. */
  async isWell(waitMs = 10_000): Promise<void> {
    let seen: unknown = null
    const look = async (): Promise<boolean> => {
      const reports = await Promise.all(ROLES.map((role) => this.status(role)))
      seen = reports.map(({ alive, degraded }) => ({ alive, degraded }))
      return reports.every(({ alive, degraded }) => {
        return degraded.length === 0 && alive.agent === 'alive' && alive.proxy === 'alive'
      })
    }
    try {
      await until('both daemons are well', look, waitMs)
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${JSON.stringify(seen)}`, { cause: error })
    }
  }

  /** Whether a connection comes about, with the first SYN. Nobody is asked for a name. */
  async reaches(pod: PodLabel, address: string): Promise<boolean> {
    const url = address.includes(':') ? `http://[${address}]/` : `http://${address}/`
    const { code } = await this.world.run([`./${pod}`, 'curl', '-m', '0.9', url])
    return code === 0
  }

  /** The answer's addresses, as `dig +short` prints them; nothing when there is none. */
  async lookUp(place: Place, ...words: string[]): Promise<readonly string[]> {
    const { code, stdout } = await this.world.run([`./${place}`, 'dig', '+short', ...words])
    return code === 0 ? stdout.trim().split('\n').filter(Boolean) : []
  }

  /** Lines of a daemon's log since its first start. */
  log(role: Role): Record<string, unknown>[] {
    const text = readFileSync(join(this.world.directory, `${role}.log`), 'utf8')
    return text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  }

  /** What the cluster's DNS was asked so far, by 'name. TYPE'. */
  async upstreamCounts(): Promise<Readonly<Record<string, number>>> {
    const request = get({ socketPath: join(this.world.directory, 'dns.sock'), path: '/counts' })
    const [response] = await once(request, 'response')
    let text = ''
    for await (const piece of response) text += piece
    return JSON.parse(text)
  }

  async cutUpstream(isCut: boolean): Promise<void> {
    const path = isCut ? '/cut' : '/restore'
    const request = get({ socketPath: join(this.world.directory, 'dns.sock'), path })
    const [response] = await once(request, 'response')
    for await (const _ of response);
  }

  /** The end comes to a stopped process too. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.#daemons.values()) daemon.kill('SIGKILL')
    this.world[Symbol.dispose]()
  }

  async #slowDown(delayMs: number): Promise<void> {
    const script = join(import.meta.dirname, './e2e-slow.ts')
    const options: SlowOptions = { address: SLOW_DNS, server: '10.0.0.53', delayMs }
    const words = ['--disable-warning=ExperimentalWarning', script, JSON.stringify(options)]
    await this.world.namespace('internet').start(process.execPath, words, { ready: 'ready' })
    const former = 'servers: [10.96.0.10] }'
    this.edit('namegate.yaml', (text) => text.replace(former, `servers: [${SLOW_DNS}] }`))
  }

  async #end(role: Role): Promise<Finished> {
    const daemon = this.daemon(role)
    const finished = await Promise.race([daemon.exited, sleep(STOP_MS).then(() => null)])
    if (finished === null) throw new Error(`the ${role} did not end in ${STOP_MS} ms`)
    return finished
  }
}

/** The file is whole at every moment: the new text comes under a new name, which then moves. */
export function editFile(file: string, change: (text: string) => string): void {
  const before = readFileSync(file, 'utf8')
  const text = change(before)
  assert.notEqual(text, before, `the change to ${file} changes nothing`)
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

/** On the clock that every process of the machine shares. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1000
}
