/**
 * Unbound on the loopback interface, as a test wants it: the server that knows a generated zone, or
 * a forwarder in front of it. Without root; it ends with the test.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { freePort, LOOPBACK } from '../support/e2e-lone.ts'
import { type RunningProcess, start } from '../support/process.ts'

/** What every Unbound of ours is told: nothing of this machine, and no opinion of its own. */
const SERVER = [
  ...['do-daemonize: no', 'chroot: ""', 'username: ""', 'pidfile: ""', 'use-syslog: no'],
  ...['verbosity: 1', 'num-threads: 1', 'do-not-query-localhost: no', 'hide-version: yes'],
  ...['module-config: "iterator"', 'minimal-responses: yes', 'rrset-roundrobin: no'],
  ...['cache-max-ttl: 3600', 'cache-max-negative-ttl: 30', 'edns-buffer-size: 1232'],
  ...['max-udp-size: 4096', 'ratelimit: 0', 'local-zone: "." nodefault'],
]

/** False, or why a test with it must be skipped. */
export function missingUnbound(): string | false {
  return spawnSync('unbound', ['-V']).status === 0 ? false : 'unbound is not installed'
}

export class Unbound implements AsyncDisposable {
  readonly port: number
  readonly #directory: string
  readonly #process: RunningProcess

  /** @param zones  master files by the zone's name */
  static async withZones(zones: ReadonlyMap<string, string>): Promise<Unbound> {
    const directory = mkdtempSync(path.join(tmpdir(), 'ngt-unbound-'))
    const clauses = [...zones].map(([name, text]) => {
      const file = path.join(directory, `zone-${name}`)
      writeFileSync(file, text)
      return `auth-zone:\n  name: "${name}"\n  zonefile: "${file}"\n  for-upstream: yes\n  for-downstream: no\n`
    })
    return Unbound.#start(directory, clauses.join(''))
  }

  /** Asks one server on this machine whatever it is asked. */
  static async forwardingTo(port: number): Promise<Unbound> {
    const directory = mkdtempSync(path.join(tmpdir(), 'ngt-unbound-'))
    const clause = `forward-zone:\n  name: "."\n  forward-addr: ${LOOPBACK}@${port}\n`
    return Unbound.#start(directory, clause)
  }

  static async #start(directory: string, clauses: string): Promise<Unbound> {
    const port = await freePort()
    const file = path.join(directory, 'unbound.conf')
    const server = [
      ...SERVER,
      `interface: ${LOOPBACK}`,
      `port: ${port}`,
      `directory: "${directory}"`,
    ]
    const lines = server.map((line) => `  ${line}\n`).join('')
    writeFileSync(file, `server:\n${lines}remote-control:\n  control-enable: no\n${clauses}`)
    try {
      const words = ['-d', '-p', '-c', file]
      const unbound = await start('unbound', words, { ready: 'start of service' })
      return new Unbound(directory, port, unbound)
    } catch (error) {
      rmSync(directory, { recursive: true })
      throw error
    }
  }

  private constructor(directory: string, port: number, process: RunningProcess) {
    this.#directory = directory
    this.port = port
    this.#process = process
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]()
    rmSync(this.#directory, { recursive: true })
  }
}
